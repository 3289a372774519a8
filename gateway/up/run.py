"""The order of things: prepare, start the parts, apply the specs, wait, serve, stop everything."""

import asyncio
import signal
import socket
import time
from collections.abc import Collection
from contextlib import aclosing
from typing import Any, NamedTuple

import httpx
from filelock import FileLock, Timeout

from gateway.children import Children
from gateway.credentials import ensure_admin_token, ensure_api_key
from gateway.up.prepare import fetch_weights, install_runtimes, prepare_registry
from gateway.up.screen import Screen
from pipelines.cluster.base import Cluster, Observation
from pipelines.cluster.open import open_cluster
from registry.settings import Settings
from registry.spec import ModelSpec, to_json
from registry.state import ENDED_PHASES, SLEEPING_PHASES, SleepMode
from registry.store import Store

STOP_WORKERS_MAX_S = 60.0
_PARTS = {
    "gateway": ("-m", "gateway", "serve"),
    "controller": ("-m", "pipelines.controller"),
}


class Keys(NamedTuple):
    admin: str
    inference: str


class UpError(Exception):
    """`up` could not do its work; the message says what to do next."""


def up(settings: Settings, specs: tuple[ModelSpec, ...], *, ready_timeout_s: float) -> None:
    """Serves *specs* (and what the registry already holds) until SIGINT or SIGTERM.

    Raises UpError; KeyboardInterrupt when asked to stop before anything was started.
    """
    settings.home.mkdir(parents=True, mode=0o700, exist_ok=True)
    lock = FileLock(settings.home / "up.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise UpError(f"another `modelyard up` already runs with {settings.home}") from None
    with lock:
        screen = Screen()
        for host, port in (
            (settings.host, settings.port),
            (settings.admin_host, settings.admin_port),
        ):
            _check_free(host, port)
        signal.signal(signal.SIGTERM, _interrupt)  # while installing; asyncio takes over later
        if settings.cluster == "local":  # other nodes have devices and a home of their own
            install_runtimes(settings, specs, screen)
            fetch_weights(settings, specs, screen)
        asyncio.run(_run(settings, specs, screen, ready_timeout_s))


def _check_free(host: str, port: int) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UpError(
                f"{host}:{port} cannot be used ({error.strerror}): end what listens there, or set "
                "MODELYARD_PORT and MODELYARD_ADMIN_PORT"
            ) from None


def _interrupt(number: int, frame: object) -> None:
    del number, frame
    raise KeyboardInterrupt


async def _run(
    settings: Settings, specs: tuple[ModelSpec, ...], screen: Screen, ready_timeout_s: float
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    await _check_cluster(settings)
    await prepare_registry(settings, screen)
    store = await Store.open(settings.database)
    try:
        keys = Keys(
            admin=await ensure_admin_token(store, settings),
            inference=await ensure_api_key(store, settings),
        )
    finally:
        await store.aclose()
    children = Children(_PARTS, logs=settings.home / "logs")
    try:
        async with asyncio.TaskGroup() as tasks:
            keeper = tasks.create_task(children.keep())
            starter = tasks.create_task(
                _apply_and_wait(settings, specs, screen, keys, ready_timeout_s)
            )
            await stop.wait()  # an error of the other two cancels this wait
            starter.cancel()
            keeper.cancel()
    except ExceptionGroup as group:
        raise group.exceptions[0] from None  # one of the two tasks failed; both have an owner
    finally:
        screen.step("stopping the gateway and the controller")
        await asyncio.shield(children.stop())
        await asyncio.shield(_leave_workers(settings, screen))


async def _apply_and_wait(
    settings: Settings,
    specs: tuple[ModelSpec, ...],
    screen: Screen,
    keys: Keys,
    ready_timeout_s: float,
) -> None:
    async with httpx.AsyncClient(
        base_url=settings.admin,
        headers={"authorization": f"Bearer {keys.admin}"},
        trust_env=False,
        timeout=30.0,
    ) as admin:
        await _until_answers(admin)
        for spec in specs:
            response = await admin.put(f"/admin/v1/models/{spec.name}", content=to_json(spec))
            if response.is_error:
                raise UpError(f"model {spec.name} was refused: {response.text[:500]}")
        await _until_ready(admin, screen, ready_timeout_s)
    screen.ready(settings, keys.inference, {spec.name: spec.task for spec in specs})


async def _until_answers(admin: httpx.AsyncClient, timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            if (await admin.get("/healthz")).is_success:
                return
        except httpx.TransportError:
            pass
        if time.monotonic() > deadline:
            raise UpError("the gateway did not start; its log is logs/gateway.log under the home")
        await asyncio.sleep(0.2)


def _is_well(model: dict[str, Any]) -> bool:
    if model["state"] in {"asleep", "rolling"}:
        return True
    return model["state"] == "ready" and not model["condition"]


async def _until_ready(admin: httpx.AsyncClient, screen: Screen, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    with screen.models() as show:
        while True:
            try:
                models = await _items(admin, "models")
                show.update(models, await _items(admin, "workers"))
            except httpx.HTTPError as error:
                show.note(f"the admin API does not answer ({type(error).__name__})")
            else:
                if all(_is_well(model) for model in models):
                    return
            if time.monotonic() > deadline:
                raise UpError(
                    f"not every model was ready after {timeout_s:.0f} s; see "
                    "`modelyard get models` and `modelyard logs WORKER`"
                )
            await asyncio.sleep(1.0)


async def _items(admin: httpx.AsyncClient, kind: str) -> list[dict[str, Any]]:
    response = await admin.get(f"/admin/v1/{kind}")
    items: list[dict[str, Any]] = response.raise_for_status().json()["items"]
    return items


async def _check_cluster(settings: Settings) -> None:
    """Asks the machines once, before anything is started that would only wait for them."""
    async with aclosing(open_cluster(settings)) as cluster:
        await cluster.inventory()


async def _leave_workers(settings: Settings, screen: Screen) -> None:
    if settings.cluster == "local":
        await _stop_workers(settings, screen)
    else:
        screen.step(
            "the workers go on, and the next `modelyard up` finds them; "
            "`modelyard delete model NAME` beforehand stops those of a model"
        )


async def _stop_workers(settings: Settings, screen: Screen) -> None:
    """Stops every worker of this machine and records their ends. Who sleeps, sleeps on."""
    cluster = open_cluster(settings)
    store = await Store.open(settings.database)
    deadline = time.monotonic() + STOP_WORKERS_MAX_S
    left = 0
    try:
        asleep = [w for w in await store.workers() if w.phase in SLEEPING_PHASES]
        for worker in asleep:
            await store.sleep_worker(worker.id, SleepMode.STOPPED, reason=worker.reason)
        sleepers = {worker.id for worker in asleep}
        while living := [
            seen
            for seen in (await cluster.observe()).workers
            if not await _recorded(store, cluster, seen, sleepers)
        ]:
            if len(living) != left:
                left = len(living)
                screen.step(f"stopping {left} worker{'s' if left > 1 else ''}")
            for seen in living:
                await cluster.stop(seen.node, seen.worker_id)
            if time.monotonic() > deadline:
                names = ", ".join(seen.worker_id for seen in living)
                raise UpError(f"these workers did not stop: {names}")
            await asyncio.sleep(0.5)
        screen.step("everything is stopped")
    finally:
        await store.aclose()


async def _recorded(
    store: Store, cluster: Cluster, seen: Observation, sleepers: Collection[str]
) -> bool:
    if seen.phase not in ENDED_PHASES:
        return False
    if seen.worker_id in sleepers:
        await store.worker_sleeps(seen.worker_id, {}, mode=SleepMode.STOPPED)
    else:
        await store.set_worker(seen.worker_id, seen.phase, reason=seen.reason)
    await cluster.forget(seen.node, seen.worker_id)
    return True
