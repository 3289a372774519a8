"""A registry in which one model has ready workers at given URLs, and a key opens it."""

from collections.abc import Sequence
from pathlib import Path

from pipelines.topology import expand
from registry import db
from registry.settings import Settings
from registry.spec import from_data
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

MODEL = "bench"
_NODE = "bench"
_BYTES = 2**30
_BY = Principal(actor="bench")


async def make_fleet(home: Path, urls: Sequence[str]) -> tuple[str, str]:
    """The secrets of an inference and an admin key for the registry made in *home*."""
    url = Settings(home=home).database
    await db.upgrade(url)
    store = await Store.open(url)
    try:
        topology = {"type": "aggregated", "workers": len(urls), "memory": "1GiB"}
        variants = [{"engine": "emulator", "topology": topology}]
        model, _ = await store.apply_model(
            from_data({"name": MODEL, "source": "file:///nowhere", "variants": variants}), by=_BY
        )
        await store.report_nodes((_node(len(urls)),))
        for number, ((plan,), worker_url) in enumerate(zip(expand(model), urls, strict=True)):
            claim = DeviceClaim(device_id=f"{_NODE}/cpu{number}", memory_bytes=_BYTES)
            planned = PlannedWorker(plan=plan, node=_NODE, runtime="builtin", claims=(claim,))
            (worker,) = await store.commit_gang(PlannedGang(workers=(planned,)))
            await store.set_worker(worker.id, Phase.READY, url=worker_url)
        _, key = await store.create_key(name="bench", kind=KeyKind.INFERENCE, by=_BY)
        _, admin_key = await store.create_key(name="bench admin", kind=KeyKind.ADMIN, by=_BY)
    finally:
        await store.aclose()
    return key, admin_key


def _node(devices: int) -> NodeReport:
    return NodeReport(
        name=_NODE,
        address="127.0.0.1",
        device_kind=DeviceKind.CPU,
        runtimes=("builtin",),
        labels={},
        devices=tuple(
            Device(
                id=f"{_NODE}/cpu{number}",
                node=_NODE,
                index=number,
                kind=DeviceKind.CPU,
                model="slot",
                memory_bytes=_BYTES,
            )
            for number in range(devices)
        ),
    )
