"""The gateway process: the inference listener and the admin listener in one event loop."""

import asyncio
import contextlib
import signal
from collections.abc import Iterator

import prometheus_client
import structlog
import uvicorn

from gateway.admin.app import create_admin_app
from gateway.app import create_inference_app
from gateway.dataplane import DataPlane
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
KEEP_ALIVE_S = 75
BACKLOG = 2048


class _Listener(uvicorn.Server):
    """Signals are the process's business, not a listener's: it has two of them."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT, then lets open answers finish."""
    registry = prometheus_client.CollectorRegistry()
    store = await Store.open(settings.database)
    try:
        async with probe_client() as probe:
            dataplane = DataPlane(metrics=GatewayMetrics(registry), usage_sink=store.record_usage)
            admin = create_admin_app(
                store=store,
                cluster=LocalCluster(settings),
                probe=probe,
                metrics_registry=registry,
            )
            listeners = (
                _listener(create_inference_app(dataplane), settings.host, settings.port, DRAIN_S),
                _listener(admin, settings.admin_host, settings.admin_port, ADMIN_DRAIN_S),
            )
            await _serve(listeners, dataplane, store)
    finally:
        await asyncio.shield(store.aclose())


async def _serve(listeners: tuple[_Listener, ...], dataplane: DataPlane, store: Store) -> None:
    loop = asyncio.get_running_loop()

    def stop() -> None:
        log.info("gateway stops, open answers may finish", drain_s=DRAIN_S)
        for listener in listeners:
            listener.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    async with asyncio.TaskGroup() as tasks:
        follower = tasks.create_task(follow(store, dataplane))
        serving = [tasks.create_task(listener.serve()) for listener in listeners]
        try:
            await asyncio.gather(*serving)
        finally:
            follower.cancel()
            await asyncio.shield(dataplane.aclose())


def _listener(app: object, host: str, port: int, drain_s: int) -> _Listener:
    config = uvicorn.Config(
        app,  # type: ignore[arg-type]  # uvicorn's own ASGI types are narrower than Litestar's
        host=host,
        port=port,
        loop="none",
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=drain_s,
    )
    return _Listener(config)
