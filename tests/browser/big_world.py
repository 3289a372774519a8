"""A thousand models and ten thousand workers on as many devices, as controllers leave them.

Only the gateway runs: whatever is asked of it is answered from what is written here. All of it is
put into the tables in one transaction, since one for each model would take minutes.
"""

import asyncio
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import httpx
from fleets import GIB
from sqlalchemy import Connection, create_engine, insert
from yard import eventually, free_port

from pipelines.topology import expand
from registry import db, rows, spec
from registry import tables as t
from registry.state import DeviceKind, KeyKind, Model, Phase, Principal, WorkerPlan
from registry.store import Store
from registry.traffic import SLOT_S, Latencies

MODELS, WORKERS_EACH = 1000, 10
NODES, DEVICES_EACH = 1250, 8
DEVICES = NODES * DEVICES_EACH
_NOBODY = "http://127.0.0.1:9"  # nothing listens there
_FAILED = "its engine ended with status 1"


class BigWorld:
    """Used as a context: seeded, served, and with traffic that goes on."""

    def __init__(self, folder: Path) -> None:
        self.url, self.secret = "", ""
        self._folder = folder
        self._file = folder / "modelyard.db"
        self._engine = create_engine(f"sqlite:///{self._file}")
        self._over = threading.Event()
        self._traffic = threading.Thread(target=self._tell_traffic)
        self._gateway: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with ThreadPoolExecutor(1) as aside:  # in this thread the browser's event loop may run
            self.secret = aside.submit(asyncio.run, self._made()).result()
        with self._engine.begin() as connection:
            _seed(connection, time.time())
        self._traffic.start()
        self._serve()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._gateway is not None:
            self._gateway.terminate()
            self._gateway.wait(60)
        self._traffic.join(60)
        self._engine.dispose()

    async def _made(self) -> str:
        """A registry, and a key of its admin."""
        url = f"sqlite+aiosqlite:///{self._file}"
        await db.upgrade(url)
        store = await Store.open(url)
        try:
            by = Principal(actor="tests")
            return (await store.create_key(name="tests", kind=KeyKind.ADMIN, by=by))[1]
        finally:
            await store.aclose()

    def _serve(self) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        environ = {k: v for k, v in os.environ.items() if not k.startswith("MODELYARD_")}
        environ |= {
            "MODELYARD_HOME": str(self._folder),
            "MODELYARD_PORT": str(free_port()),
            "MODELYARD_ADMIN_PORT": str(port),
        }
        with (self._folder / "gateway.log").open("wb") as log:
            self._gateway = subprocess.Popen(
                [sys.executable, "-m", "gateway", "serve"], env=environ, stdout=log, stderr=log
            )
        eventually("the gateway answers", self._answers, 60)

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/healthz", trust_env=False).is_success
        except httpx.TransportError:
            return False

    def _tell_traffic(self) -> None:
        """Of each slot when it has ended, as gateways do: what all models show changes with it."""
        while not self._over.is_set():
            slot = time.time() // SLOT_S * SLOT_S
            with self._engine.begin() as connection:
                connection.execute(insert(t.TrafficRow), _traffic(slot - SLOT_S))
            self._over.wait(slot + SLOT_S + 0.5 - time.time())


def name_of(number: int) -> str:
    return f"model-{number:04}"


def _seed(connection: Connection, now: float) -> None:
    devices = [_device(node, index) for node in range(NODES) for index in range(DEVICES_EACH)]
    models, workers, claims = [], [], []
    free = iter(devices)
    for number in range(MODELS):
        model = _model(number, now)
        models.append(model)
        for plan in (plan for gang in expand(model) for plan in gang):
            device = next(free)
            worker = _worker(plan, device["node"], now, failed=model.condition != "")
            workers.append(worker)
            if not model.condition:
                device["claimed_bytes"] = device["used_bytes"] = plan.memory_bytes
                claims.append(
                    {
                        "worker_id": worker["id"],
                        "device_id": device["id"],
                        "memory_bytes": plan.memory_bytes,
                    }
                )
    for table, values in (
        (t.NodeRow, [_node(number, now) for number in range(NODES)]),
        (t.DeviceRow, devices),
        (t.ModelRow, [_model_row(model) for model in models]),
        (t.RevisionRow, [_revision(model) for model in models]),
        (t.WorkerRow, workers),
        (t.ClaimRow, claims),
    ):
        connection.execute(insert(table), values)


def _node(number: int, now: float) -> dict[str, Any]:
    return {
        "name": f"node-{number:04}",
        "address": "127.0.0.1",
        "cordoned": number % 100 == 0,
        "silent": False,
        "device_kind": DeviceKind.CUDA,
        "runtimes": rows.names_text(("emulator",)),
        "labels": rows.labels_text({"zone": f"z{number % 3}"}),
        "last_seen_at": now,
    }


def _device(node: int, index: int) -> dict[str, Any]:
    name = f"node-{node:04}"
    return {
        "id": f"{name}/cuda{index}",
        "node": name,
        "index": index,
        "kind": DeviceKind.CUDA,
        "model": "NVIDIA H100 80GB HBM3",
        "memory_bytes": 80 * GIB,
        "claimed_bytes": 0,
        "used_bytes": 0,
    }


def _model(number: int, now: float) -> Model:
    """Every second one is of pairs; one in fifty has failed."""
    role = {"workers": WORKERS_EACH // 2, "memory": "40GiB"}
    topology = (
        {"type": "disaggregated", "prefill": role, "decode": role}
        if number % 2
        else {"type": "aggregated", "workers": WORKERS_EACH, "memory": "40GiB"}
    )
    said = {
        "name": name_of(number),
        "source": f"hf://org/{name_of(number)}",
        "owner": f"team-{number % 20}",
        "variants": [{"engine": "emulator", "topology": topology}],
    }
    return Model(
        name=name_of(number),
        generation=1,
        revision=1,
        spec=spec.from_data(said),
        created_at=now,
        updated_at=now,
        deleted=False,
        condition=f"0 of {WORKERS_EACH} workers are ready: {_FAILED}" if number % 50 == 49 else "",
    )


def _model_row(model: Model) -> dict[str, Any]:
    return {
        "name": model.name,
        "generation": model.generation,
        "revision": model.revision,
        "created_at": model.created_at,
        "updated_at": model.updated_at,
        "deleted": model.deleted,
        "condition": model.condition,
    }


def _revision(model: Model) -> dict[str, Any]:
    return {
        "model": model.name,
        "number": model.revision,
        "spec": spec.to_json(model.spec).decode(),
        "created_at": model.created_at,
        "created_by": "tests",
    }


def _worker(plan: WorkerPlan, node: str, now: float, *, failed: bool) -> dict[str, Any]:
    return {
        "id": f"{plan.model}-{plan.role}-{plan.ordinal}",
        "model": plan.model,
        "revision": plan.revision,
        "variant": plan.variant,
        "role": plan.role,
        "ordinal": plan.ordinal,
        "fingerprint": plan.fingerprint,
        "plan": rows.plan_text(plan),
        "node": node,
        "runtime": "emulator",
        "phase": Phase.FAILED if failed else Phase.READY,
        "reason": _FAILED if failed else "",
        "url": _NOBODY,
        "kv_port": 1,
        "token": "of-nobody",
        "created_at": now,
        "ready_at": None if failed else now,
        "ended_at": now if failed else None,
    }


def _traffic(at: float) -> list[dict[str, Any]]:
    ttft = rows.latencies_text(Latencies.of((0.2, 0.3, 0.5)))
    tpot = rows.latencies_text(Latencies.of((0.02, 0.03)))
    return [
        {
            "at": at,
            "gateway": "g",
            "model": name_of(number),
            "variant": "default",
            "revision": 1,
            "requests": 5 + (number + int(at)) % 7,
            "errors": 0,
            "paired": 0,
            "prompt_tokens": 4000,
            "completion_tokens": 900 + number,
            "ttft": ttft,
            "tpot": tpot,
        }
        for number in range(MODELS)
    ]
