"""What a placement must obey, said anew and without a line of the scheduler: it checks the
scheduler's answers, those of the others, and the optimum's.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from simulation.scheduling.worlds import World, demand_gib, runtime_of

from pipelines.topology import Gang
from registry.spec import Island, Locality, Role
from registry.state import (
    Device,
    Node,
    NodeState,
    PlannedGang,
    PlannedWorker,
    Snapshot,
    WorkerPlan,
)


def worth(gang: Gang) -> int:
    """The gang's demand by its priority: what is to be placed as much of as can be."""
    return sum(plan.priority * demand_gib(plan) for plan in gang)


def worth_placed(placed: Iterable[PlannedGang]) -> int:
    return sum(worth(tuple(worker.plan for worker in gang.workers)) for gang in placed)


def may_hold(plan: WorkerPlan, node: Node) -> bool:
    """Whether the node itself suits the plan: its state, its labels, its runtimes."""
    return (
        node.state is NodeState.READY
        and plan.placement.labels.items() <= node.labels.items()
        and runtime_of(plan, node.device_kind) in node.runtimes
    )


def suits(plan: WorkerPlan, device: Device) -> bool:
    return not device.quarantine and plan.placement.device_model.lower() in device.model.lower()


def need_bytes(plan: WorkerPlan, device: Device) -> int:
    return plan.memory_bytes or device.memory_bytes


def wants_island(plan: WorkerPlan) -> bool:
    return plan.placement.island is Island.REQUIRE and plan.devices > 1


def broken_rules(world: World, placed: Sequence[PlannedGang]) -> list[str]:
    """A sentence for each rule that the placement breaks, none if it obeys all."""
    found = list(_gangs_not_asked_for(world, placed))
    nodes = {node.name: node for node in world.snapshot.nodes}
    devices = {device.id: device for device in world.snapshot.devices}
    for gang in placed:
        for worker in gang.workers:
            found += _of_worker(worker, nodes[worker.node], devices)
        found += _of_gang(gang, nodes)
    found += _oversold(world.snapshot, placed)
    found += _over_quota(world.snapshot, placed)
    return found


def _gangs_not_asked_for(world: World, placed: Sequence[PlannedGang]) -> Iterator[str]:
    asked = {frozenset(plan.slot for plan in gang) for gang in world.gangs}
    seen: set[frozenset[tuple[str, str, Role, int]]] = set()
    for gang in placed:
        slots = frozenset(worker.plan.slot for worker in gang.workers)
        if slots not in asked:
            yield f"{sorted(slots)} is no gang that was asked for"
        if slots in seen:
            yield f"{sorted(slots)} is placed twice"
        seen.add(slots)


def _of_worker(worker: PlannedWorker, node: Node, devices: dict[str, Device]) -> Iterator[str]:
    plan = worker.plan
    if not may_hold(plan, node):
        yield f"{plan.slot} must not be on {node.name}"
    if worker.runtime != runtime_of(plan, node.device_kind):
        yield f"{plan.slot} has runtime {worker.runtime}"
    own = [devices[claim.device_id] for claim in worker.claims]
    if len({device.id for device in own}) != plan.devices or len(own) != plan.devices:
        yield f"{plan.slot} has not {plan.devices} devices"
    for claim, device in zip(worker.claims, own, strict=True):
        if device.node != node.name or not suits(plan, device):
            yield f"{plan.slot} must not have {device.id}"
        if claim.memory_bytes != need_bytes(plan, device):
            yield f"{plan.slot} claims {claim.memory_bytes} of {device.id}"
    islands = {device.island for device in own}
    if wants_island(plan) and (len(islands) != 1 or "" in islands):
        yield f"{plan.slot} is not in one island"


def _of_gang(gang: PlannedGang, nodes: dict[str, Node]) -> Iterator[str]:
    locality = gang.workers[0].plan.locality
    used = {worker.node for worker in gang.workers}
    if len(used) == 1 or locality is Locality.PREFER:
        return
    fabrics = {nodes[name].labels.get("fabric", "") for name in used}
    if locality is Locality.NODE or len(fabrics) != 1 or "" in fabrics:
        yield f"{gang.workers[0].plan.model} is on {sorted(used)}, which is not one {locality}"


def _oversold(snapshot: Snapshot, placed: Sequence[PlannedGang]) -> Iterator[str]:
    taken: Counter[str] = Counter()
    for claim in snapshot.claims:
        taken[claim.device_id] += claim.memory_bytes
    for gang in placed:
        for worker in gang.workers:
            for claim in worker.claims:
                taken[claim.device_id] += claim.memory_bytes
    for device in snapshot.devices:
        if taken[device.id] > device.memory_bytes:
            yield f"{device.id} is oversold"


def held(snapshot: Snapshot) -> tuple[Counter[str], Counter[str]]:
    """(devices, bytes) that the live workers of each owner hold."""
    owners = {model.name: model.spec.owner for model in snapshot.models}
    by_worker = {worker.id: owners[worker.plan.model] for worker in snapshot.workers}
    devices: Counter[str] = Counter()
    size_bytes: Counter[str] = Counter()
    for claim in snapshot.claims:
        devices[by_worker[claim.worker_id]] += 1
        size_bytes[by_worker[claim.worker_id]] += claim.memory_bytes
    return devices, size_bytes


def _over_quota(snapshot: Snapshot, placed: Sequence[PlannedGang]) -> Iterator[str]:
    devices, size_bytes = held(snapshot)
    wanting = {worker.plan.owner for gang in placed for worker in gang.workers}
    for gang in placed:
        for worker in gang.workers:
            devices[worker.plan.owner] += len(worker.claims)
            size_bytes[worker.plan.owner] += sum(claim.memory_bytes for claim in worker.claims)
    for quota in snapshot.quotas:
        if quota.owner not in wanting:
            continue
        if quota.devices is not None and devices[quota.owner] > quota.devices:
            yield f"{quota.owner} holds {devices[quota.owner]} devices"
        if quota.memory_bytes is not None and size_bytes[quota.owner] > quota.memory_bytes:
            yield f"{quota.owner} holds {size_bytes[quota.owner]} bytes"
