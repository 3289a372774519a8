"""The gateway process: the inference listener and the admin listener in one event loop."""

import asyncio
import contextlib
import resource
import signal
import socket
from collections.abc import Iterator

import prometheus_client
import structlog
import uvicorn

from gateway.admin.app import create_admin_app
from gateway.dataplane import DataPlane
from gateway.kv_feed import KvFeed
from gateway.listener import Listener
from gateway.metrics import GatewayMetrics
from gateway.refresh import follow
from pipelines.cluster.local import LocalCluster
from pipelines.probe import probe_client
from registry.settings import Settings
from registry.store import Store

log = structlog.get_logger()

# After SIGTERM, open answers get this long to finish.
DRAIN_S = 30
ADMIN_DRAIN_S = 2  # followed logs and events never end by themselves
_LAG_EVERY_S = 0.05


class _AdminServer(uvicorn.Server):
    """Signals are the process's business, not a listener's: it has two of them."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT, then lets open answers finish."""
    raise_file_limit()
    registry = prometheus_client.CollectorRegistry()
    store = await Store.open(settings.database)
    try:
        async with probe_client() as probe:
            admin = _admin_server(
                create_admin_app(
                    store=store,
                    cluster=LocalCluster(settings),
                    probe=probe,
                    metrics_registry=registry,
                ),
                settings,
            )
            stopped = stop_on_signals()
            async with asyncio.TaskGroup() as tasks:
                serving = tasks.create_task(admin.serve())
                inference = tasks.create_task(serve_inference(settings, store, registry, stopped))
                await asyncio.wait({serving, inference}, return_when=asyncio.FIRST_COMPLETED)
                stopped.set()
                await asyncio.wait({inference})
                admin.should_exit = True
    finally:
        await asyncio.shield(store.aclose())


async def serve_inference(
    settings: Settings,
    store: Store,
    registry: prometheus_client.CollectorRegistry,
    stopped: asyncio.Event,
    *,
    reuse_port: bool = False,
) -> None:
    """The inference listener, until *stopped*; then open answers may finish."""
    metrics = GatewayMetrics(registry)
    dataplane = DataPlane(metrics=metrics, usage_sink=store.record_usage)
    listener = Listener(dataplane)
    await listener.listen(_bind(settings.host, settings.port, reuse_port=reuse_port))
    try:
        async with asyncio.TaskGroup() as tasks:
            beside = [
                tasks.create_task(follow(store, dataplane)),
                tasks.create_task(dataplane.watch_workers()),
                tasks.create_task(_measure_lag(metrics)),
            ]
            await stopped.wait()
            log.info("gateway stops, open answers may finish", drain_s=DRAIN_S)
            await listener.drain(DRAIN_S)
            for task in beside:
                task.cancel()
    finally:
        await asyncio.shield(_close(listener, dataplane))


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


async def _close(listener: Listener, dataplane: DataPlane) -> None:
    await listener.aclose()
    await dataplane.aclose()


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
