"""Values for tests of the registry: a spec, a node, a plan; and a database of their own."""

from pathlib import Path
from typing import Any

import pytest

from registry import db
from registry import spec as specs
from registry.spec import EngineName, ModelSpec, Role
from registry.state import (
    Device,
    DeviceClaim,
    DeviceKind,
    NodeReport,
    PlannedGang,
    PlannedWorker,
    Principal,
    Worker,
    WorkerPlan,
)
from registry.store import Store

DEVICE_BYTES = 100
ME = Principal(actor="key_0", request_id="r-1", client_ip="127.0.0.1")


class Clock:
    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def without_fsync() -> pytest.MonkeyPatch:
    """Tests lose no power, and wait long for a busy disk."""
    patch = pytest.MonkeyPatch()
    patch.setattr(db, "SYNCHRONOUS", "OFF")
    return patch


def url_in(folder: Path) -> str:
    return f"sqlite+aiosqlite:///{folder / 'modelyard.db'}"


def spec(name: str = "m", **changes: Any) -> ModelSpec:
    topology = {"type": "aggregated"}
    data = {
        "name": name,
        "source": "hf://org/m",
        "variants": [{"engine": "emulator", "topology": topology}],
    }
    return specs.from_data(data | changes)


def device(index: int = 0, node: str = "n", memory_bytes: int = DEVICE_BYTES) -> Device:
    return Device(
        id=f"{node}/cpu{index}",
        node=node,
        index=index,
        kind=DeviceKind.CPU,
        model="slot",
        memory_bytes=memory_bytes,
    )


def report(*devices: Device, node: str = "n", **changes: Any) -> NodeReport:
    facts: dict[str, Any] = {
        "address": "127.0.0.1",
        "device_kind": DeviceKind.CPU,
        "runtimes": ("emulator",),
        "labels": {},
    }
    return NodeReport(name=node, devices=devices, **(facts | changes))


def planned(
    model: str = "m",
    *,
    ordinal: int = 0,
    fingerprint: str = "f",
    revision: int = 1,
    role: Role = Role.UNIFIED,
    node: str = "n",
    claims: dict[str, int] | None = None,
) -> PlannedWorker:
    held = {"n/cpu0": DEVICE_BYTES} if claims is None else claims
    plan = WorkerPlan(
        model=model,
        revision=revision,
        variant="default",
        role=role,
        ordinal=ordinal,
        fingerprint=fingerprint,
        engine=EngineName.EMULATOR,
        runtime="",
        source="hf://org/m",
        transfer="",
        devices=len(held),
        memory_bytes=0,
        tensor_parallel=1,
        pipeline_parallel=1,
        args={},
    )
    return PlannedWorker(
        plan=plan,
        node=node,
        runtime="emulator",
        claims=tuple(DeviceClaim(device_id=d, memory_bytes=b) for d, b in held.items()),
    )


def gang(*workers: PlannedWorker) -> PlannedGang:
    return PlannedGang(workers=workers)


async def serving(store: Store) -> Worker:
    """A store with a model, a node of two devices, and one worker on the first."""
    await store.apply_model(spec(), by=ME)
    await store.report_nodes((report(device(0), device(1)),))
    (worker,) = await store.commit_gang(gang(planned()))
    return worker
