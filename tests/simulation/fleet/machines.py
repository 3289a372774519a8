"""Machines that are not there: a cluster backend in memory whose nodes crash, hang and part."""

import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from pipelines.cluster.base import ClusterError, Observation, Sighting
from registry.state import ENDED_PHASES, Device, DeviceKind, NodeReport, Phase, Worker

STEPS_TO_SERVE = 3
DEVICE_BYTES = 4 * 2**30
OnStart = Callable[[Worker], Awaitable[None]]


@dataclass
class Process:
    """A worker's processes on one node."""

    worker: Worker
    held: dict[str, int]  # device → bytes
    phase: Phase = Phase.PREPARING
    age: int = 0
    dying: int = 0  # steps until it is gone

    @property
    def runs(self) -> bool:
        return self.phase not in ENDED_PHASES

    @property
    def serves(self) -> bool:
        return self.phase is Phase.STARTING and self.age >= STEPS_TO_SERVE

    def step(self) -> None:
        if not self.runs:
            return
        if self.phase is Phase.STOPPING:
            self.dying -= 1
            self.phase = Phase.STOPPING if self.dying > 0 else Phase.STOPPED
            return
        self.age += 1
        self.phase = Phase.STARTING if self.age > 1 else Phase.PREPARING


@dataclass
class Machine:
    """A node. A dead one runs nothing, a parted one runs on unseen, a mute one misses one look."""

    name: str
    devices: tuple[Device, ...]
    labels: dict[str, str]
    alive: bool = True
    parted: bool = False
    mute: bool = False
    processes: dict[str, Process] = field(default_factory=dict)

    @property
    def answers(self) -> bool:
        return self.alive and not self.parted and not self.mute

    def crash(self, *, wiped: bool) -> None:
        """*wiped*: when it is back, it knows nothing of its workers."""
        self.alive = False
        for process in self.processes.values():
            process.phase = Phase.FAILED if process.runs else process.phase
        if wiped:
            self.processes.clear()

    def used(self) -> Counter[str]:
        used = Counter[str]()
        for process in self.processes.values():
            if process.runs:
                used.update(process.held)
        return used


class Machines:
    """The cluster protocol over them. *seed*'s randomness decides what goes wrong."""

    def __init__(self, names: dict[str, dict[str, str]], device_count: int, seed: int) -> None:
        self.random = random.Random(seed)
        self.troubled = True  # single calls fail, looks are doubled
        self.head_away = False
        self.on_start: OnStart | None = None
        self.machines = {
            name: Machine(name, _devices(name, device_count), labels)
            for name, labels in names.items()
        }

    def step(self) -> None:
        for machine in self.machines.values():
            machine.mute = False
            for process in machine.processes.values():
                process.step()

    def running(self) -> list[tuple[str, Process]]:
        return [
            (machine.name, process)
            for machine in self.machines.values()
            for process in machine.processes.values()
            if process.runs
        ]

    async def aclose(self) -> None:
        pass

    async def inventory(self) -> tuple[NodeReport, ...]:
        self._check_head()
        return tuple(
            NodeReport(
                name=machine.name,
                address="10.0.0.1",
                device_kind=DeviceKind.CPU,
                runtimes=("builtin", "emulator-on-cpu"),
                labels=machine.labels,
                devices=machine.devices,
            )
            for machine in self.machines.values()
            if machine.answers
        )

    async def observe(self) -> Sighting:
        self._check_head()
        answering = [machine for machine in self.machines.values() if machine.answers]
        seen = [
            Observation(
                worker_id=worker_id,
                node=machine.name,
                phase=process.phase,
                reason="",
                url=f"http://10.0.0.1/{worker_id}" if process.age > 1 else "",
            )
            for machine in answering
            for worker_id, process in machine.processes.items()
        ]
        if self.troubled and seen and self.random.random() < 0.1:
            seen += self.random.choices(seen, k=2)
        return Sighting(nodes=frozenset(m.name for m in answering), workers=tuple(seen))

    async def start(self, worker: Worker, devices: tuple[Device, ...]) -> None:
        machine = self._reach(worker.node)
        if self.on_start is not None:
            await self.on_start(worker)
        if worker.id not in machine.processes:
            held = {
                device.id: worker.plan.memory_bytes or device.memory_bytes for device in devices
            }
            machine.processes[worker.id] = Process(worker, held)
            self._fail_sometimes("started, and the answer got lost")

    async def stop(self, node: str, worker_id: str) -> None:
        process = self._reach(node).processes.get(worker_id)
        if process and process.runs and process.phase is not Phase.STOPPING:
            process.phase, process.dying = Phase.STOPPING, self.random.randint(1, 3)

    async def forget(self, node: str, worker_id: str) -> None:
        machine = self._reach(node)
        process = machine.processes.get(worker_id)
        assert process is None or not process.runs, f"{worker_id} is forgotten while it runs"
        machine.processes.pop(worker_id, None)

    def _reach(self, node: str) -> Machine:
        self._check_head()
        machine = self.machines[node]
        if not machine.answers:
            raise ClusterError(f"{node} does not answer")
        self._fail_sometimes("the call got lost")
        return machine

    def _fail_sometimes(self, why: str) -> None:
        if self.troubled and self.random.random() < 0.05:
            raise ClusterError(why)

    def _check_head(self) -> None:
        if self.head_away:
            raise ClusterError("the cluster is away")


def _devices(node: str, count: int) -> tuple[Device, ...]:
    return tuple(
        Device(
            id=f"{node}/cpu{index}",
            node=node,
            index=index,
            kind=DeviceKind.CPU,
            model="slot",
            memory_bytes=DEVICE_BYTES,
        )
        for index in range(count)
    )
