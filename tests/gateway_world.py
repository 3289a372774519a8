"""A gateway under test: snapshots with keys and workers, workers that misbehave, a listener."""

import asyncio
import contextlib
import hashlib
import json
import re
import socket
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import msgspec
from fleets import a_snapshot, a_worker
from prometheus_client import CollectorRegistry

from gateway.dataplane import DataPlane
from gateway.listener import Listener
from gateway.metering import Metering
from gateway.metrics import GatewayMetrics
from gateway.routing.table import build_table
from pipelines.topology import expand
from registry.spec import from_data
from registry.state import Key, KeyKind, Model

SECRET = "mk-good-secret"
DISAGGREGATED = {"type": "disaggregated", "prefill": {}, "decode": {}}
AGGREGATED = {"type": "aggregated"}


def a_key(secret=SECRET, **change):
    key = Key(
        id=f"key_{hashlib.sha256(secret.encode()).hexdigest()[:8]}",
        name="test",
        kind=KeyKind.INFERENCE,
        digest=hashlib.sha256(secret.encode()).digest(),
        models=(),
        created_at=0.0,
        expires_at=None,
        revoked_at=None,
    )
    return msgspec.structs.replace(key, **change)


def a_declared(name="m", *, topology=None, variants=None, condition="", deleted=False, **spec):
    """A model; *variants* or one of *topology*; *spec* holds limits and routing."""
    data = {
        "name": name,
        "source": "file:///nowhere",
        "variants": variants or [{"engine": "emulator", "topology": topology or AGGREGATED}],
        **spec,
    }
    return Model(
        name=name,
        generation=1,
        revision=3,
        spec=from_data(data),
        created_at=1000.0,
        updated_at=1000.0,
        deleted=deleted,
        condition=condition,
    )


def a_fleet(model, **urls):
    """Ready workers of *model* by role: ``unified=[url, …], prefill=[…], decode=[…]``."""
    plans = {plan.role: plan for gang in expand(model) for plan in gang}
    return [
        a_worker(plans[role], id=f"{model.name}-{role}-{number}", url=url, token="worker-token")
        for role, role_urls in urls.items()
        for number, url in enumerate(role_urls)
    ]


def a_table(*, models, workers=(), keys=None, version=1):
    keys = (a_key(),) if keys is None else keys
    return build_table(a_snapshot(models=models, workers=workers, keys=keys, version=version))


# Workers.

Behaviour = Callable[["Call"], Awaitable[None]]


class Call:
    """One request as a fake worker sees it, and its way to answer."""

    def __init__(self, head, body, reader, writer):
        lines = head.decode().split("\r\n")
        self.method, self.path, _ = lines[0].split(" ")
        self.headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
        self.body = body
        self.json = json.loads(body or b"null")
        self.reader, self.writer = reader, writer

    async def send(self, data: bytes):
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, status=200, body=b"", content_type="application/json", headers=""):
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        head = f"HTTP/1.1 {status} X\r\ncontent-type: {content_type}\r\n"
        head += f"content-length: {len(body)}\r\n{headers}\r\n"
        await self.send(head.encode() + body)

    async def begin_stream(self):
        await self.send(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )

    async def chunk(self, data: bytes):
        await self.send(b"%x\r\n%b\r\n" % (len(data), data))

    async def end_stream(self):
        await self.send(b"0\r\n\r\n")

    async def until_closed(self, timeout_s=3.0):
        """Returns once the gateway has closed the connection."""
        async with asyncio.timeout(timeout_s):
            with contextlib.suppress(ConnectionError):
                while await self.reader.read(1024):
                    pass


class FakeWorker:
    """An HTTP server of few words. *behaviour* answers each call; calls are kept."""

    def __init__(self, behaviour: Behaviour):
        self.behaviour = behaviour
        self.calls: list[Call] = []
        self.connections = 0
        self.aborted = asyncio.Event()  # the gateway closed in the middle of an answer

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._tasks = set()
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    async def __aexit__(self, *_):
        await self.stop()

    async def stop(self):
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader, writer):
        self._tasks.add(asyncio.current_task())
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n"))[:-4]
                length = re.search(rb"content-length: (\d+)", head.lower())
                body = await reader.readexactly(int(length[1]) if length else 0)
                call = Call(head, body, reader, writer)
                self.calls.append(call)
                await self.behaviour(call)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            self._tasks.discard(asyncio.current_task())


def completion(text="hello", prompt_tokens=5, completion_tokens=2, **more):
    return {
        "id": "x",
        "object": "text_completion",
        "choices": [{"index": 0, "text": text, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens},
        **more,
    }


def event(data) -> bytes:
    body = data if isinstance(data, bytes) else json.dumps(data, separators=(",", ":")).encode()
    return b"data: " + body + b"\n\n"


def token(text):
    return event({"choices": [{"index": 0, "text": text}]})


USAGE_EVENT = event({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}})
DONE = event(b"[DONE]")


async def good(call: Call):
    """Answers as an engine does, P/D protocol included."""
    if call.json.get("stream"):
        await call.begin_stream()
        for word in (b"a", b"b", b"c"):
            await call.chunk(token(word.decode()))
        if (call.json.get("stream_options") or {}).get("include_usage"):
            await call.chunk(USAGE_EVENT)
        await call.chunk(DONE)
        await call.end_stream()
        return
    more = {}
    if (call.json.get("kv_transfer_params") or {}).get("do_remote_decode"):
        more["kv_transfer_params"] = {
            "do_remote_prefill": True,
            "do_remote_decode": False,
            "remote_engine_id": "e",
            "remote_block_ids": [1],
            "remote_host": "127.0.0.1",
            "remote_port": 1,
            "remote_request_id": call.headers["x-request-id"],
            "tp_size": 1,
        }
    await call.answer(body=completion(**more))


def once(first, then=good):
    """A worker that behaves as *first* for one call and as *then* from the next on."""

    async def behaviour(call):
        nonlocal first
        current, first = first, then
        await current(call)

    return behaviour


def closed_port_url():
    """An address where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


# The gateway.


class Gateway:
    """A DataPlane behind its listener on a free port, and a client for it."""

    def __init__(self, *, listening=None, **options):
        self._listening = listening or {}
        self.records = []
        self.metrics_registry = CollectorRegistry()
        self._home = tempfile.TemporaryDirectory(prefix="modelyard-usage-")
        self.metering = Metering(self._keep, Path(self._home.name))
        self.plane = DataPlane(
            metrics=GatewayMetrics(self.metrics_registry), metering=self.metering, **options
        )

    async def _keep(self, records):
        self.records.extend(records)

    async def __aenter__(self):
        # asyncio sets TCP_NODELAY only where the protocol is named.
        sock = socket.socket(proto=socket.IPPROTO_TCP)
        sock.bind(("127.0.0.1", 0))
        self.listener = Listener(self.plane, **self._listening)
        await self.listener.listen(sock)
        self._vigil = asyncio.create_task(self.plane.watch_workers())
        self.port = sock.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.client = httpx.AsyncClient(
            base_url=self.url,
            headers={"authorization": f"Bearer {SECRET}"},
            trust_env=False,
            timeout=10,
        )
        return self

    async def __aexit__(self, kind, *_):
        await self.client.aclose()
        if kind is None:
            await self.assert_quiet()
        self._vigil.cancel()
        await asyncio.gather(self._vigil, return_exceptions=True)
        await self.listener.aclose()
        await self.plane.aclose()
        if kind is None:
            self.assert_metered()
        self._home.cleanup()

    def assert_metered(self):
        """Every request that was let in has ended as exactly one record."""
        counts = self.metering.counts
        assert (counts.open, counts.unaccounted, counts.dropped, counts.waiting) == (0, 0, 0, 0)
        assert len({(r.request_id, r.opened_at) for r in self.records}) == counts.opened
        assert len(self.records) == counts.opened
        assert not list(Path(self._home.name).glob("*/[0-9]*")), "nothing is left to be swept"

    async def assert_quiet(self):
        """Nothing is in flight and no connection is in use."""
        async with asyncio.timeout(4):
            while not self._quiet():  # noqa: ASYNC110 - it has no event for that
                await asyncio.sleep(0.01)

    def _quiet(self):
        opened, idle = self.plane.upstream.open_connections()
        return not self.plane.router.in_flight and not self.plane.active and opened == idle

    async def usage(self):
        """The records so far, written out."""
        await self.metering.settle()
        return self.records

    def sample(self, name, **labels):
        """The sum of the samples that have *labels*, and maybe others; None if there is none."""
        found = [
            sample.value
            for family in self.metrics_registry.collect()
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]
        return sum(found) if found else None

    async def post(self, path="/v1/completions", *, headers=None, **fields):
        body = {"model": "m", "prompt": "hi", **fields}
        return await self.client.post(path, json=body, headers=headers)

    async def raw(self, data: bytes) -> bytes:
        """What comes back for exactly these bytes, until the gateway closes or 1 s is silent."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(data)
        answer = b""
        with contextlib.suppress(TimeoutError, ConnectionError):
            while part := await asyncio.wait_for(reader.read(65536), 1):
                answer += part
        writer.close()
        return answer


@contextlib.asynccontextmanager
async def a_gateway(behaviour=good, *, model=None, workers=1, **options):
    """A gateway with one aggregated model on *workers* fake ones of the same *behaviour*."""
    async with contextlib.AsyncExitStack() as stack:
        fakes = [await stack.enter_async_context(FakeWorker(behaviour)) for _ in range(workers)]
        gateway = await stack.enter_async_context(Gateway(**options))
        model = model or a_declared()
        fleet = a_fleet(model, unified=[fake.url for fake in fakes])
        gateway.plane.table = a_table(models=[model], workers=fleet)
        gateway.workers = fakes
        yield gateway


@contextlib.asynccontextmanager
async def a_pair(*, prefill=(good,), decode=(good,), model=None, **options):
    """A gateway with one disaggregated model on fake workers of these behaviours."""
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        prefills = [await enter(FakeWorker(behaviour)) for behaviour in prefill]
        decodes = [await enter(FakeWorker(behaviour)) for behaviour in decode]
        gateway = await enter(Gateway(**options))
        model = model or a_declared(topology=DISAGGREGATED)
        fleet = a_fleet(
            model, prefill=[fake.url for fake in prefills], decode=[fake.url for fake in decodes]
        )
        gateway.plane.table = a_table(models=[model], workers=fleet)
        gateway.prefills, gateway.decodes = prefills, decodes
        yield gateway
