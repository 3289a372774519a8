"""External workers, whole: the controller, a real database, and emulators that it did not start."""

import asyncio
import os
import sys
from contextlib import asynccontextmanager

import pytest
from registry_world import ME
from yard import free_port

from pipelines import backoff, controller, drains, readiness
from pipelines.cluster.base import Sighting
from pipelines.controller import Controller
from pipelines.engines.emulator.adapter import API_KEY_VARIABLE
from pipelines.probe import probe_client, scrape
from registry import spec as specs
from registry.state import Phase
from registry.store.nodes import NOWHERE

SECRET = "sk-external-secret"


class NoCluster:
    """It has no node; to be asked for more than what there is means an external worker was
    taken for one of ours.
    """

    async def inventory(self):
        return ()

    async def observe(self):
        return Sighting(nodes=frozenset(), workers=())

    def __getattr__(self, name):
        raise AssertionError(f"the cluster was asked to {name}")


class World:
    """A controller at work on a store, and the engines of somebody else."""

    def __init__(self, store, failed):
        self.store, self._failed = store, failed

    @asynccontextmanager
    async def engine(self, port, role="unified", token=SECRET, *flags):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "pipelines.engines.emulator_server"),
            *("--port", str(port), "--role", role, "--model", "theirs", *flags),
            env={**os.environ, API_KEY_VARIABLE: token},
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            assert (await process.stdout.readline()).startswith(b"ready")
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def apply(self, topology, *, served_name="theirs", **more):
        topology = {"type": "external", "served_name": served_name, **topology, **more}
        variant = {"engine": "emulator", "topology": topology}
        await self.store.apply_model(specs.from_data({"name": "m", "variants": [variant]}), by=ME)

    async def until(self, check, timeout_s=20.0):
        """The first true value of *check* on the store; the model's state if there is none."""
        try:
            async with asyncio.timeout(timeout_s):
                while not (found := await check()):
                    assert not self._failed, self._failed
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"{await self.condition()!r} {await self.workers()}") from None
        return found

    async def workers(self):
        return await self.store.workers(include_ended=True)

    async def all_ready(self):
        live = await self.store.workers()
        return live if live and {worker.phase for worker in live} == {Phase.READY} else ()

    async def condition(self):
        return (await self.store.model("m")).condition

    def ended(self, worker):
        async def check():
            now = await self.store.worker(worker.id)
            return now if now.ended_at is not None else None

        return check

    async def says(self):
        """Everything about it that people may read."""
        events = [event.message for event in await self.store.events()]
        return [await self.condition(), *events, *(w.reason for w in await self.workers())]


@pytest.fixture
async def world(live_store, monkeypatch):
    for module, name, seconds in (
        (controller, "TURN_S", 0.02),
        (drains, "DRAIN_MIN_S", 0.2),
        (readiness, "HEALTH_EVERY_S", 0.1),
        (readiness, "UNHEALTHY_MAX_S", 0.6),
        (readiness, "EXTERNAL_PROBE_EVERY_S", 0.1),
        (backoff, "BACKOFF_BASE_S", 0.05),
    ):
        monkeypatch.setattr(module, name, seconds)
    failed = []
    monkeypatch.setattr(controller.log, "exception", lambda *_: failed.append(sys.exc_info()[1]))
    async with probe_client() as client:
        made = Controller(live_store, NoCluster(), client, node_lost_s=30)
        running = asyncio.create_task(made.run())
        yield World(live_store, failed)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert not failed


@pytest.fixture
def token_file(tmp_path):
    file = tmp_path / "their key"
    file.write_text(f"{SECRET}\n")
    return file


async def test_it_is_probed_lost_and_found_again(world, token_file):
    port = free_port()
    await world.apply(
        {"workers": [{"url": f"http://127.0.0.1:{port}/"}]}, token_file=str(token_file)
    )
    await world.until(lambda: _contains(world.condition, "/health: ConnectError"))

    async with world.engine(port) as process:
        (first,) = await world.until(world.all_ready)
        assert (first.url, first.token) == (f"http://127.0.0.1:{port}", SECRET)
        await world.until(lambda: _equals(world.condition, ""))
        process.kill()
        lost = await world.until(world.ended(first))
        assert lost.phase is Phase.FAILED
        assert lost.reason.startswith("does not answer: ")

    await world.until(lambda: _contains(world.condition, "0 of 1 unified ready"))
    async with world.engine(port):
        (second,) = await world.until(world.all_ready)
    assert second.id != first.id
    snapshot = await world.store.snapshot()
    assert first.node == second.node == NOWHERE
    assert (snapshot.nodes, snapshot.claims) == ((), ())
    assert not any(SECRET in text for text in await world.says())


async def test_a_removed_one_is_let_go_and_goes_on(world, token_file):
    ports = free_port(), free_port()
    urls = [{"url": f"http://127.0.0.1:{port}"} for port in ports]
    slow = "--tpot-ms", "300"
    async with (
        world.engine(ports[0]),
        world.engine(ports[1], "unified", SECRET, *slow) as process,
        probe_client() as others,
    ):
        await world.apply({"workers": urls}, token_file=str(token_file))
        stays, goes = await world.until(world.all_ready)
        if stays.url != urls[0]["url"]:
            stays, goes = goes, stays

        body = {"model": "theirs", "prompt": "a", "max_tokens": 200}
        url, head = f"{urls[1]['url']}/v1/completions", {"authorization": f"Bearer {SECRET}"}
        busy = asyncio.create_task(others.post(url, json=body, headers=head))

        await world.apply({"workers": urls[:1]}, token_file=str(token_file))
        gone = await world.until(world.ended(goes))
        phases = [e.message for e in await world.store.events() if e.worker == goes.id]
        assert (gone.phase, gone.reason) == (Phase.STOPPED, "no longer wanted")
        assert not busy.done(), "what others do with it is not waited for"
        busy.cancel()
        assert any(message.startswith("draining") for message in phases)
        assert [worker.id for worker in await world.all_ready()] == [stays.id]

        await world.store.delete_model("m", by=ME)
        assert (await world.until(world.ended(stays))).phase is Phase.STOPPED
        assert process.returncode is None


async def test_a_pair_is_ready_once_its_decode_worker_counted_a_transfer(world, token_file):
    prefill, decode = free_port(), free_port()
    topology = {
        "prefill": [{"url": f"http://127.0.0.1:{prefill}"}],
        "decode": [{"url": f"http://127.0.0.1:{decode}"}],
    }
    async with world.engine(prefill, "prefill"):
        await world.apply(topology, token_file=str(token_file))
        await world.until(lambda: _contains(world.condition, "waits for a KV transfer with decode"))
        assert not await world.all_ready()
        async with world.engine(decode, "decode"):
            pair = await world.until(world.all_ready)
            (decoding,) = [worker for worker in pair if worker.plan.role == "decode"]
            async with probe_client() as client:
                assert (await scrape(client, decoding)).kv_transfers >= 1
            assert {worker.reason for worker in pair} == {""}


async def test_a_key_that_cannot_be_read_is_named_and_waited_for(world, token_file):
    port, text = free_port(), token_file.read_text()
    token_file.unlink()
    async with world.engine(port):
        url = {"url": f"http://127.0.0.1:{port}"}
        await world.apply({"workers": [url]}, token_file=str(token_file))
        await world.until(lambda: _contains(world.condition, "their key: No such file"))
        assert {worker.phase for worker in await world.workers()} == {Phase.FAILED}

        token_file.write_text(text)
        await world.until(world.all_ready)


async def test_a_refused_key_is_told_and_not_shown(world, token_file):
    port = free_port()
    async with world.engine(port, token="another"):
        url = {"url": f"http://127.0.0.1:{port}"}
        await world.apply({"workers": [url]}, token_file=str(token_file))
        await world.until(lambda: _contains(world.condition, "/v1/models: 401"))
    assert not any(SECRET in text for text in await world.says())


async def test_a_key_that_was_changed_there_is_read_anew(world, token_file):
    port = free_port()
    url = {"url": f"http://127.0.0.1:{port}"}
    async with world.engine(port, token="the-first"):
        token_file.write_text("the-first")
        await world.apply({"workers": [url]}, token_file=str(token_file))
        await world.until(world.all_ready)
    async with world.engine(port):
        await world.until(lambda: _contains(world.condition, "/v1/models: 401"))
        token_file.write_text(SECRET)
        (worker,) = await world.until(world.all_ready)
        assert worker.token == SECRET


async def test_a_name_that_they_do_not_serve_is_told(world, token_file):
    port = free_port()
    async with world.engine(port):
        url = {"url": f"http://127.0.0.1:{port}"}
        await world.apply({"workers": [url]}, served_name="", token_file=str(token_file))
        await world.until(lambda: _contains(world.condition, "/v1/completions: 404"))


async def _contains(read, words):
    return words in await read()


async def _equals(read, text):
    return await read() == text
