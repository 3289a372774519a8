"""The gateway's processes: the inference listener and the admin listener, in one or in several."""

import asyncio
import contextlib
import gc
import resource
import signal
import socket
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import httpx
import structlog
import uvicorn
from prometheus_client import CollectorRegistry

from gateway.access_log import AccessLog
from gateway.admin.app import create_admin_app
from gateway.children import Children
from gateway.console import Front, read_build
from gateway.dataplane import DataPlane
from gateway.exposition import Exposition, gathered, of_registry, published
from gateway.limits import LEDGER_NAME, Ledger, Limiter
from gateway.listener import Listener
from gateway.metering import Metering
from gateway.metrics import GatewayMetrics
from gateway.refresh import follow
from gateway.signals import Teller, gateway_id
from gateway.snapshots import Snapshots
from gateway.tracing import Tracer
from pipelines.cluster.open import open_cluster
from pipelines.probe import probe_client
from registry.settings import Settings
from registry.store import Store

log = structlog.get_logger()

# After SIGTERM, open answers get this long to finish.
DRAIN_S = 30
ADMIN_DRAIN_S = 2  # followed logs and events never end by themselves
_LAG_EVERY_S = 0.05
_GC_THRESHOLDS = (10_000, 10, 100)
_FIRST_TABLE_S_MAX, _FIRST_TABLE_LOOK_S = 5.0, 0.02


class _AdminServer(uvicorn.Server):
    """Signals are the process's business, not a listener's: it has two of them."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT, then lets open answers finish.

    With more than one of `gateway_workers`, inference is served by processes of their own on one
    port, and this one keeps them and has the admin listener.
    """
    raise_file_limit()
    stopped = stop_on_signals()
    # Where it cannot be used, that is told before anything runs.
    Ledger.open(_ledger(settings)).close()
    store = await Store.open(settings.database)
    snapshots = Snapshots(store)
    try:
        if settings.gateway_workers == 1:
            registry = CollectorRegistry()
            exposition = of_registry(registry)
            inference = serve_inference(settings, store, snapshots, registry, stopped)
        else:
            # Here it is an error to be told; a process of several would only start again and again.
            _bind(settings.host, settings.port, reuse_port=True).close()
            exposition = gathered([_socket(settings, n) for n in range(settings.gateway_workers)])
            inference = _keep_processes(settings, stopped)
        await _serve_both(
            settings, store, snapshots, exposition=exposition, inference=inference, stopped=stopped
        )
    finally:
        await asyncio.shield(store.aclose())


async def serve_process(settings: Settings, number: int) -> None:
    """One of several processes that serve inference, until SIGTERM."""
    raise_file_limit()
    stopped = stop_on_signals()
    registry = CollectorRegistry()
    store = await Store.open(settings.database)
    try:
        async with published(registry, _socket(settings, number)):
            await serve_inference(
                settings, store, Snapshots(store), registry, stopped, reuse_port=True
            )
    finally:
        await asyncio.shield(store.aclose())


async def _serve_both(
    settings: Settings,
    store: Store,
    snapshots: Snapshots,
    *,
    exposition: Exposition,
    inference: Coroutine[Any, Any, None],
    stopped: asyncio.Event,
) -> None:
    """The admin listener ends last: it shows what the drain is waiting for."""
    async with (
        contextlib.aclosing(open_cluster(settings)) as cluster,
        probe_client() as probe,
        _own_client(settings) as own,
        asyncio.TaskGroup() as tasks,
    ):
        app = create_admin_app(
            store=store,
            snapshots=snapshots,
            cluster=cluster,
            probe=probe,
            exposition=exposition,
            inference=own,
        )
        admin = _admin_server(Front(app, read_build()), settings)
        serving = tasks.create_task(admin.serve())
        inferring = tasks.create_task(inference)
        await asyncio.wait({serving, inferring}, return_when=asyncio.FIRST_COMPLETED)
        stopped.set()
        await asyncio.wait({inferring})
        admin.should_exit = True


def _own_client(settings: Settings) -> httpx.AsyncClient:
    """A client of this gateway's own inference listener."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104
    return httpx.AsyncClient(
        base_url=f"http://{f'[{host}]' if ':' in host else host}:{settings.port}",
        trust_env=False,
        timeout=httpx.Timeout(None, connect=2.0),  # the listener has deadlines of its own
    )


async def _keep_processes(settings: Settings, stopped: asyncio.Event) -> None:
    children = Children(
        {
            f"inference-{number}": ("-m", "gateway", "inference", "--number", str(number))
            for number in range(settings.gateway_workers)
        }
    )
    async with asyncio.TaskGroup() as tasks:
        keeper = tasks.create_task(children.keep())
        try:
            await stopped.wait()
        finally:
            keeper.cancel()
            await asyncio.shield(children.stop())


async def serve_inference(
    settings: Settings,
    store: Store,
    snapshots: Snapshots,
    registry: CollectorRegistry,
    stopped: asyncio.Event,
    *,
    reuse_port: bool = False,
) -> None:
    """The inference listener, until *stopped*; then open answers may finish."""
    metrics = GatewayMetrics(registry)
    metering = Metering(
        store.record_usage, settings.usage, journal_bytes_max=settings.usage_journal_bytes_max
    )
    dataplane = DataPlane(
        metrics=metrics,
        metering=metering,
        access_log=AccessLog(failures_only=settings.log_level in ("warning", "error")),
        limiter=Limiter(Ledger.open(_ledger(settings))),
        tracer=_tracer(settings, metrics),
    )
    gateway = gateway_id(settings.node_name, settings.home, metering.lane)
    teller = Teller(store, dataplane.signals, gateway)
    listener = Listener(dataplane)
    sock = _bind(settings.host, settings.port, reuse_port=reuse_port)
    try:
        async with asyncio.TaskGroup() as tasks:
            beside = [
                tasks.create_task(follow(snapshots, dataplane)),
                tasks.create_task(dataplane.watch_workers()),
                tasks.create_task(metering.sweep_dead()),
                tasks.create_task(teller.run()),
                tasks.create_task(_measure_lag(metrics)),
            ]
            await _first_table(dataplane, stopped)
            spare_the_collector()
            await listener.listen(sock)
            await stopped.wait()
            log.info("gateway stops, open answers may finish", drain_s=DRAIN_S)
            await listener.drain(DRAIN_S)
            for task in beside:
                task.cancel()
    finally:
        await asyncio.shield(_close(listener, dataplane, teller))


def _tracer(settings: Settings, metrics: GatewayMetrics) -> Tracer | None:
    if not settings.traces_url:
        return None
    from gateway.tracing.otlp import OtlpTracer  # it takes a while to load

    return OtlpTracer(
        settings.traces_url, settings.traces_sample_ratio, metrics.spans, node=settings.node_name
    )


async def _first_table(dataplane: DataPlane, stopped: asyncio.Event) -> None:
    """Before it, every answer would be a refusal. If the registry is away, so be it."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_FIRST_TABLE_S_MAX):
            while dataplane.table.version < 0 and not stopped.is_set():  # noqa: ASYNC110
                await asyncio.sleep(_FIRST_TABLE_LOOK_S)


def stop_on_signals() -> asyncio.Event:
    """Set by SIGTERM and SIGINT."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    return stopped


def raise_file_limit() -> None:
    """As many open files as this process may have: every stream is two of them."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def spare_the_collector() -> None:
    """A full collection stops every stream for as long as it takes to walk all that lives. What is
    here by now stays; a request leaves no cycles (a test holds that), so the rest can wait.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)


async def _close(listener: Listener, dataplane: DataPlane, teller: Teller) -> None:
    await listener.aclose()
    await teller.aclose()
    await dataplane.aclose()


def _socket(settings: Settings, number: int) -> Path:
    return settings.home / "run" / f"inference-{number}.sock"


def _ledger(settings: Settings) -> Path:
    return settings.home / "run" / LEDGER_NAME


def _bind(host: str, port: int, *, reuse_port: bool) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if reuse_port:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind((host, port))
    return sock


async def _measure_lag(metrics: GatewayMetrics) -> None:
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + _LAG_EVERY_S
        await asyncio.sleep(_LAG_EVERY_S)
        metrics.loop_lag.observe(max(0.0, loop.time() - due))


def _admin_server(app: object, settings: Settings) -> _AdminServer:
    config = uvicorn.Config(
        app,  # type: ignore[arg-type]  # uvicorn's own ASGI types are narrower than Litestar's
        host=settings.admin_host,
        port=settings.admin_port,
        loop="none",
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=ADMIN_DRAIN_S,
    )
    return _AdminServer(config)
