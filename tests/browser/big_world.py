"""A thousand models on ten thousand devices, written as controllers and gateways write them.

Only the gateway runs: whatever is asked of it is answered from what is written here.
"""

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import httpx
import pytest
from yard import eventually, free_port

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
from registry.store import Store, gangs, models, workers
from registry.store.scope import Write
from registry.store.signals import ROWS_MAX
from registry.traffic import SLOT_S, Latencies, Traffic

MODELS, NODES, DEVICES_PER_NODE = 1000, 1250, 8
GIB = 2**30
NOBODY = "http://127.0.0.1:9"  # listens there
BY = Principal(actor="tests")


class BigWorld:
    """Used as a context: seeded, served, and with traffic that goes on."""

    def __init__(self, folder: Path) -> None:
        self.port, self.admin_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.admin_port}"
        self.secret = ""
        self._folder = folder
        self._database = f"sqlite+aiosqlite:///{folder / 'modelyard.db'}"
        self._over = threading.Event()
        self._seeded = threading.Event()
        # The browser's event loop runs in the tests' own thread.
        self._thread = threading.Thread(target=lambda: asyncio.run(self._live()), daemon=True)
        self._gateway: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        eventually("the world is seeded", lambda: self._seeded.is_set() or self._ended(), 300)
        environ = {k: v for k, v in os.environ.items() if not k.startswith("MODELYARD_")}
        with (self._folder / "gateway.log").open("wb") as log:
            self._gateway = subprocess.Popen(
                [sys.executable, "-m", "gateway", "serve"],
                env=environ
                | {
                    "MODELYARD_HOME": str(self._folder),
                    "MODELYARD_PORT": str(self.port),
                    "MODELYARD_ADMIN_PORT": str(self.admin_port),
                },
                stdout=log,
                stderr=log,
            )
        eventually("the gateway answers", self._answers, 60)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._gateway is not None:
            self._gateway.terminate()
            self._gateway.wait(60)
        self._thread.join(60)

    def _ended(self) -> bool:
        assert self._thread.is_alive(), "seeding failed"
        return False

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/healthz", trust_env=False).is_success
        except httpx.TransportError:
            return False

    async def _live(self) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(db, "SYNCHRONOUS", "OFF")
            await db.upgrade(self._database)
            store = await Store.open(self._database)
        try:
            _, self.secret = await store.create_key(name="tests", kind=KeyKind.ADMIN, by=BY)
            await _seed(store)
            await _tell_traffic(store)
            self._seeded.set()
            while not self._over.is_set():
                await asyncio.sleep(1)
                if time.time() % SLOT_S < 1:
                    await _tell_traffic(store)
        finally:
            await store.aclose()


def name_of(number: int) -> str:
    return f"model-{number:04}"


async def _seed(store: Store) -> None:
    nodes = tuple(_node(number) for number in range(NODES))
    for first in range(0, NODES, 100):
        await store.report_nodes(nodes[first : first + 100])
    free = iter([device for node in nodes for device in node.devices])
    # Many models in one transaction: one each took minutes.
    for first in range(0, MODELS, 100):
        async with store._scopes.write(BY) as write:
            for number in range(first, first + 100):
                model, _ = await models.apply(write, _spec(number), None, create_only=True)
                for gang in expand(model):
                    await _place(write, gang, free, failed=number % 50 == 49)


async def _place(write: Write, gang, free: Iterator[Device], *, failed: bool) -> None:
    placed = PlannedGang(
        workers=tuple(
            PlannedWorker(
                plan=plan,
                node=device.node,
                runtime="emulator",
                claims=(DeviceClaim(device_id=device.id, memory_bytes=plan.memory_bytes),),
            )
            for plan, device in zip(gang, free, strict=False)
        )
    )
    phase, reason = (Phase.FAILED, "its engine ended with status 1") if failed else (Phase.READY, "")
    for worker in await gangs.commit(write, placed):
        await workers.set_phase(
            write, worker.id, phase, reason=reason, url=NOBODY, events_url=None, kv_port=1
        )


def _spec(number: int):
    role = {"memory": "40GiB"}
    topology = (
        {"type": "disaggregated", "prefill": role, "decode": role}
        if number % 2
        else {"type": "aggregated", "workers": 2, **role}
    )
    return spec.from_data(
        {
            "name": name_of(number),
            "source": f"hf://org/{name_of(number)}",
            "owner": f"team-{number % 20}",
            "variants": [{"engine": "emulator", "topology": topology}],
        }
    )


def _node(number: int) -> NodeReport:
    name = f"node-{number:04}"
    devices = tuple(
        Device(
            id=f"{name}/cuda{index}",
            node=name,
            index=index,
            kind=DeviceKind.CUDA,
            model="NVIDIA H100 80GB HBM3",
            memory_bytes=80 * GIB,
            used_bytes=38 * GIB,
        )
        for index in range(DEVICES_PER_NODE)
    )
    return NodeReport(
        name=name,
        address="127.0.0.1",
        device_kind=DeviceKind.CUDA,
        runtimes=("emulator",),
        labels={"zone": f"z{number % 3}"},
        devices=devices,
    )


async def _tell_traffic(store: Store) -> None:
    at = time.time() // SLOT_S * SLOT_S - SLOT_S
    ttft, tpot = Latencies.of((0.2, 0.3, 0.5)), Latencies.of((0.02, 0.03))
    rows = [
        Traffic(
            at=at,
            gateway="g",
            model=name_of(number),
            variant="default",
            revision=1,
            requests=5 + (number + int(at)) % 7,
            completion_tokens=900,
            prompt_tokens=4000,
            ttft=ttft,
            tpot=tpot,
        )
        for number in range(MODELS)
    ]
    for first in range(0, MODELS, ROWS_MAX):
        await store.record_traffic(rows[first : first + ROWS_MAX])
