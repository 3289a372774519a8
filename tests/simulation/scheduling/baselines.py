"""How others place: first fit, and GPUStack's two strategies by their published formulas.

All of them obey the same rules. What those systems do not know, gangs and how near their workers
must be, is done for them in the plainest way: one worker after the other, over each node or fabric
in turn where they must be together, all taken back where one finds no place.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from simulation.scheduling.rules import (
    held,
    may_hold,
    need_bytes,
    suits,
    wants_island,
)
from simulation.scheduling.worlds import World, runtime_of

from pipelines.topology import Gang
from registry.spec import Locality
from registry.state import (
    Device,
    DeviceClaim,
    Node,
    PlannedGang,
    PlannedWorker,
    Snapshot,
    WorkerPlan,
)


class Candidate(NamedTuple):
    node: Node
    devices: tuple[Device, ...]


class Room:
    """What is free, and which models' workers are where."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.nodes = tuple(sorted(snapshot.nodes, key=lambda node: node.name))
        self.devices: dict[str, list[Device]] = {node.name: [] for node in self.nodes}
        for device in sorted(snapshot.devices, key=lambda device: device.index):
            self.devices[device.node].append(device)
        self.free_bytes = Counter({device.id: device.memory_bytes for device in snapshot.devices})
        self.on_device: dict[str, Counter[str]] = {
            device.id: Counter() for device in snapshot.devices
        }
        self.on_node: dict[str, Counter[str]] = {node.name: Counter() for node in self.nodes}
        self.owner_devices, self.owner_bytes = held(snapshot)
        self._quotas = {quota.owner: quota for quota in snapshot.quotas}
        models = {worker.id: worker.plan.model for worker in snapshot.workers}
        for claim in snapshot.claims:
            self.free_bytes[claim.device_id] -= claim.memory_bytes
            self.on_device[claim.device_id][models[claim.worker_id]] += 1
        for worker in snapshot.workers:
            self.on_node[worker.node][worker.plan.model] += 1

    def fitting(self, plan: WorkerPlan, node: Node) -> list[Device]:
        if not may_hold(plan, node):
            return []
        return [
            device
            for device in self.devices[node.name]
            if suits(plan, device) and self.free_bytes[device.id] >= need_bytes(plan, device)
        ]

    def in_quota(self, gang: Gang) -> bool:
        quota = self._quotas.get(gang[0].owner)
        if quota is None or quota.devices is None:
            return True
        wanted = sum(plan.devices for plan in gang)
        return self.owner_devices[quota.owner] + wanted <= quota.devices

    def move(self, worker: PlannedWorker, sign: int) -> None:
        """Takes (1) or gives back (-1) what the worker holds."""
        plan = worker.plan
        for claim in worker.claims:
            self.free_bytes[claim.device_id] -= sign * claim.memory_bytes
            self.on_device[claim.device_id][plan.model] += sign
        self.on_node[worker.node][plan.model] += sign
        self.owner_devices[plan.owner] += sign * len(worker.claims)


Chooser = Callable[[Room, WorkerPlan, Sequence[Node]], Candidate | None]


def first_fit(room: Room, plan: WorkerPlan, nodes: Sequence[Node]) -> Candidate | None:
    for node in nodes:
        for devices in _sets(plan, room.fitting(plan, node)):
            return Candidate(node, devices)
    return None


def spread(room: Room, plan: WorkerPlan, nodes: Sequence[Node]) -> Candidate | None:
    """GPUStack's default: nodes, then devices, with none of this model's workers, then with few."""

    def score(candidate: Candidate) -> float:
        on_devices = [room.on_device[device.id] for device in candidate.devices]
        of_devices = sum(_spread(plan, counts) for counts in on_devices) / len(on_devices)
        return 0.85 * _spread(plan, room.on_node[candidate.node.name]) + 0.15 * of_devices

    return _best(room, plan, nodes, score)


def _spread(plan: WorkerPlan, counts: Counter[str]) -> float:
    current = counts[plan.model]
    others = counts.total() - current
    if not current:
        return 0.85 + 0.15 / (1 + others)
    return 0.45 + 0.35 / (1 + current) + 0.20 / (1 + others)


def binpack(room: Room, plan: WorkerPlan, nodes: Sequence[Node]) -> Candidate | None:
    """GPUStack's other one: what takes the largest part of what is left; of RAM nobody asks."""

    def score(candidate: Candidate) -> float:
        parts = [
            need_bytes(plan, device) / room.free_bytes[device.id] for device in candidate.devices
        ]
        return sum(parts) / len(parts)

    return _best(room, plan, nodes, score)


def _best(
    room: Room, plan: WorkerPlan, nodes: Sequence[Node], score: Callable[[Candidate], float]
) -> Candidate | None:
    candidates = [
        Candidate(node, devices)
        for node in nodes
        for devices in _sets(plan, _freest_first(room, room.fitting(plan, node)))
    ]
    return max(candidates, key=score, default=None)


def _freest_first(room: Room, devices: list[Device]) -> list[Device]:
    return sorted(devices, key=lambda device: -room.free_bytes[device.id])


def _sets(plan: WorkerPlan, fitting: list[Device]) -> Iterator[tuple[Device, ...]]:
    """Each device for a worker of one; for a wider one the first that are enough (of an island)."""
    if plan.devices == 1:
        yield from ((device,) for device in fitting)
        return
    islands = sorted({device.island for device in fitting} - {""}) if wants_island(plan) else [""]
    for island in islands:
        own = [device for device in fitting if not island or device.island == island]
        if len(own) >= plan.devices:
            yield tuple(own[: plan.devices])


def placed_by(choose: Chooser, world: World, gangs: Sequence[Gang]) -> list[PlannedGang]:
    """What *choose* places of *gangs*, in their order."""
    room = Room(world.snapshot)
    placed = (_placed(choose, room, gang) for gang in gangs if room.in_quota(gang))
    return [PlannedGang(workers=tuple(workers)) for workers in placed if workers]


def _placed(choose: Chooser, room: Room, gang: Gang) -> list[PlannedWorker]:
    for nodes in _domains(room, gang):
        workers: list[PlannedWorker] = []
        for plan in gang:
            found = choose(room, plan, nodes)
            if found is None:
                break
            workers.append(_worker(plan, found))
            room.move(workers[-1], 1)
        if len(workers) == len(gang):
            return workers
        for worker in workers:
            room.move(worker, -1)
    return []


def _domains(room: Room, gang: Gang) -> Iterator[Sequence[Node]]:
    """Where a gang may be: all nodes, those of one fabric, or one."""
    locality = gang[0].locality
    if len(gang) == 1 or locality is Locality.PREFER:
        yield room.nodes
    elif locality is Locality.NODE:
        yield from ((node,) for node in room.nodes)
    else:
        fabrics = dict.fromkeys(node.labels.get("fabric", "") for node in room.nodes)
        for fabric in fabrics:
            yield [node for node in room.nodes if node.labels.get("fabric", "") == fabric]


def _worker(plan: WorkerPlan, found: Candidate) -> PlannedWorker:
    claims = tuple(
        DeviceClaim(device_id=device.id, memory_bytes=need_bytes(plan, device))
        for device in found.devices
    )
    return PlannedWorker(
        plan=plan,
        node=found.node.name,
        runtime=runtime_of(plan, found.node.device_kind),
        claims=claims,
    )
