"""Two homes on one PostgreSQL: who leads, what each serves, and usage while the database fails."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import asyncpg
import httpx
import pytest
from fault_client import Call, plain
from fault_processes import PACE, Emulator, GatewayProcess
from fault_usage import Books, Traffic, Witness, assert_adds_up
from fault_world import ME, PATIENT, until

from pipelines.leader import TTL_S
from registry.spec import Role, from_data
from registry.state import EventKind, KeyKind, Phase
from registry.store import Store


class Controller:
    """``python -m pipelines.controller`` of one home."""

    def __init__(self, machine):
        self.name, self.log = machine.name, machine.home / "controller.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pipelines.controller"],
                env={**os.environ, **machine.environ},
                stdout=log,
                stderr=log,
            )

    def end(self):
        self.process.kill()
        self.process.wait(10)


class Machine:
    """A home with its gateway and its controller."""

    def __init__(self, name, folder, url, stack):
        self.name, self.home, self._stack = name, folder / name, stack
        self.home.mkdir()
        self.environ = {
            "MODELYARD_HOME": str(self.home),
            "MODELYARD_DATABASE_URL": url,
            "MODELYARD_NODE_NAME": name,
        }

    def serve(self, admin):
        self.gateway = GatewayProcess(self.home, admin, environ=self.environ)
        self._stack.callback(self.gateway.end)

    def control(self):
        self.controller = Controller(self)
        self._stack.callback(self.controller.end)
        return self.controller


class SharedBooks(Books):
    """The usage table of the database that both share."""

    def __init__(self, url, key_id):
        self._url, self._key_id = url.replace("+asyncpg", ""), key_id

    def rows(self):
        with ThreadPoolExecutor(1) as thread:  # a test's event loop may run in this one
            return thread.submit(lambda: asyncio.run(self._rows())).result()

    async def _rows(self):
        connection = await asyncpg.connect(self._url)
        try:
            found = await connection.fetch(
                "SELECT request_id, status, prompt_tokens, completion_tokens FROM usage"
                " WHERE key_id = $1",
                self._key_id,
            )
        finally:
            await connection.close()
        return [tuple(row) for row in found]


class Site:
    """Two machines on one database, and engines of somebody else that both controllers reach."""

    def __init__(self, store, url, machines, admin):
        self.store, self.url, self.machines, self.admin = store, url, machines, admin

    async def told(self, kind):
        return [event for event in await self.store.events(limit=10_000) if event.kind == kind]

    async def leads(self, machine, within_s, since=0.0):
        """Waits until *machine* leads, in a term that began *since*; when that was."""
        holder = ""
        async with asyncio.timeout(within_s):
            while not holder:
                with contextlib.suppress(FileNotFoundError):
                    holder = (machine.home / "controller.id").read_text().strip()
                await asyncio.sleep(0.05)
            while True:
                changes = await self.told(EventKind.LEADER_CHANGED)
                begun = changes and changes[-1].message.startswith(f"{holder} leads, term")
                if begun and changes[-1].at >= since:
                    return changes[-1].at
                await asyncio.sleep(0.05)

    async def seen_at(self, node):
        (found,) = [each for each in (await self.store.snapshot()).nodes if each.name == node]
        return found.last_seen_at

    async def apply(self, machine, spec):
        headers = {"authorization": f"Bearer {self.admin}"}
        url = f"{machine.gateway.admin_url}/admin/v1/models/{spec['name']}"
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            return (await client.put(url, json=spec, headers=headers)).status_code


def external(urls, token_file, name="m"):
    topology = {"type": "external", "served_name": "m", "token_file": str(token_file)}
    topology["workers"] = [{"url": url} for url in urls]
    variants = [{"engine": "emulator", "topology": topology}]
    return {"name": name, "limits": PATIENT, "variants": variants}


@pytest.fixture
async def site(postgres, tmp_path):
    """Both serve and "a" leads; there is traffic to both of them, all of it watched."""
    url = await postgres.database()
    store = await Store.open(url)
    _, admin = await store.create_key(name="admin", kind=KeyKind.ADMIN, by=ME)
    _, other = await store.create_key(name="o", kind=KeyKind.INFERENCE, by=ME)
    key, secret = await store.create_key(name="k", kind=KeyKind.INFERENCE, by=ME)
    token_file = tmp_path / "token"
    token_file.write_text("theirs")
    with contextlib.ExitStack() as stack:
        machines = [Machine(name, tmp_path, url, stack) for name in ("a", "b")]
        emulators = [Emulator(Role.UNIFIED, PACE) for _ in range(2)]
        for emulator in emulators:
            stack.callback(emulator.kill)
            emulator.wait_ready()
        made = Site(store, url, machines, admin)
        async with Witness() as witness:
            urls = [await witness.before(emulator.url) for emulator in emulators]
            made.spec = external(urls, token_file)
            await store.apply_model(from_data(made.spec), by=ME)
            for machine in machines:
                machine.serve(admin)
                machine.control()
                await made.leads(machines[0], 30)
            for machine in machines:
                await until(lambda m=machine: m.gateway.ready, 30, "it has a table")
            async with asyncio.timeout(30):
                while [each.phase for each in await store.workers()] != [Phase.READY] * 2:  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
            version = await store.version()
            for machine in machines:
                await until(lambda m=machine: _version(m) >= version, 10, "its table is new")
            made.key = other  # of requests that no sum is made of
            made.traffic = Traffic(secret, [machine.gateway for machine in machines])
            books = SharedBooks(url, key.id)
            made.adds_up = lambda **more: assert_adds_up(made.traffic, witness, books, **more)
            yield made
    await store.aclose()


def _version(machine):
    return machine.gateway.samples("modelyard_routing_table_version")[""]


async def serves(machine, model, key):
    """Until a request for *model* is answered in full."""
    async with asyncio.timeout(15):
        while True:
            path, body = plain(max_tokens=5)
            call = Call(machine.gateway.url, (path, {**body, "model": model}), key=key)
            if (await call).status == 200:
                return
            await asyncio.sleep(0.1)


async def test_a_killed_leaders_work_goes_on_with_the_other_and_nothing_is_begun_twice(site):
    a, b = site.machines
    async with site.traffic.flows(clients=4):
        await asyncio.sleep(0.5)
        killed_at = time.time()
        a.controller.process.kill()
        assert await site.apply(a, {**site.spec, "name": "n"}) < 300
        took_s = await site.leads(b, 15) - killed_at
        await serves(b, "n", site.key)
        await serves(a, "n", site.key)
    assert took_s < 10, f"another one led after {took_s:.1f} s"
    placed = [event.worker for event in await site.told(EventKind.WORKER_PLACED)]
    assert len(placed) == len(set(placed)) == 4, "two of each model, once"
    assert set(await site.adds_up()) == {"ok"}


async def test_who_ends_in_peace_or_is_followed_at_home_lets_the_next_lead_at_once(site):
    a, b = site.machines
    a.controller.process.kill()
    a.controller.process.wait(10)
    began_at = time.time()
    a.control()
    assert await site.leads(a, 15, began_at) - began_at < TTL_S + 2, "a process's start"
    ended_at = time.time()
    a.controller.process.terminate()
    assert await asyncio.to_thread(a.controller.process.wait, 10) == 0
    assert await site.leads(b, 10) - ended_at < TTL_S / 2


async def test_a_leader_that_stood_still_writes_nothing_once_another_leads(site):
    a, b = site.machines
    a.controller.process.send_signal(signal.SIGSTOP)
    try:
        await site.leads(b, 15)
        seen_at = await site.seen_at("a")
        await asyncio.sleep(8)
    finally:
        a.controller.process.send_signal(signal.SIGCONT)
    await asyncio.sleep(6)  # longer than it goes between two reports of its node
    assert await site.seen_at("a") == seen_at
    assert a.controller.process.poll() is None
    assert "leads no more" in a.controller.log.read_text()
    b.controller.process.terminate()
    await site.leads(a, 10)


async def test_a_database_that_is_away_or_breaks_connections_costs_no_inference_and_no_usage(
    site, postgres
):
    a, b = site.machines
    async with site.traffic.flows(clients=6):
        await asyncio.sleep(0.5)
        killer = await asyncpg.connect(site.url.replace("+asyncpg", ""))
        for _ in range(40):  # some of them in the midst of a commit
            await killer.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'modelyard' AND datname = current_database()"
            )
            await asyncio.sleep(0.05)
        await killer.close()
        await asyncio.to_thread(postgres.stop)
        before = len(site.traffic.sent)
        try:
            await asyncio.sleep(2)
            assert await site.apply(b, {**site.spec, "name": "n"}) == 503
            during = len(site.traffic.sent) - before
        finally:
            postgres.start()
        await asyncio.sleep(1)
    assert during > 10
    assert all(sent.ok for sent in site.traffic.sent.values())
    assert set(await site.adds_up(within_s=30)) == {"ok"}
    assert await site.apply(a, {**site.spec, "name": "n"}) < 300
    await serves(b, "n", site.key)
