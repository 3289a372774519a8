"""What the admin API answers about the whole fleet at once: the picture of who holds what where.

Lists of nodes and of workers say more of each, and ask engines: they are for a few. This is for
ten thousand devices, so each worker is told once and each claim is gone through once.
"""

from collections.abc import Mapping, Sequence

from gateway.admin.records import by_device, by_node
from gateway.admin.views import View, iso
from registry.spec import Role
from registry.state import Claim, Device, DeviceKind, NodeState, Phase, Snapshot, Worker


class ClaimView(View, frozen=True, kw_only=True):
    worker: str
    memory_bytes: int


class FleetDeviceView(View, frozen=True, kw_only=True):
    """As `DeviceView`, with who claims how much of it."""

    id: str
    index: int
    model: str
    memory_bytes: int
    used_bytes: int
    island: str
    quarantine: str
    overuse: str
    claims: tuple[ClaimView, ...]


class FleetNodeView(View, frozen=True, kw_only=True):
    name: str
    state: NodeState
    device_kind: DeviceKind
    labels: Mapping[str, str]
    last_seen_at: str
    devices: tuple[FleetDeviceView, ...]


class FleetWorkerView(View, frozen=True, kw_only=True):
    """A live worker on a node. The prefill and decode workers of one *revision* of a *variant* are
    each other's pairs.
    """

    id: str
    model: str
    variant: str
    role: Role
    ordinal: int
    revision: int
    phase: Phase
    departing: bool
    node: str


class FleetView(View, frozen=True, kw_only=True):
    """*version* is the registry event that it was read at."""

    version: int
    nodes: tuple[FleetNodeView, ...]
    workers: tuple[FleetWorkerView, ...]


def fleet_view(snapshot: Snapshot) -> FleetView:
    devices, claims = by_node(snapshot.devices), by_device(snapshot.claims)
    return FleetView(
        version=snapshot.version,
        nodes=tuple(
            FleetNodeView(
                name=node.name,
                state=node.state,
                device_kind=node.device_kind,
                labels=node.labels,
                last_seen_at=iso(node.last_seen_at),
                devices=tuple(
                    _device(device, claims.get(device.id, ()))
                    for device in devices.get(node.name, ())
                ),
            )
            for node in sorted(snapshot.nodes, key=lambda item: item.name)
        ),
        workers=tuple(_worker(worker) for worker in snapshot.workers if worker.node),
    )


def _device(device: Device, held: Sequence[Claim]) -> FleetDeviceView:
    return FleetDeviceView(
        id=device.id,
        index=device.index,
        model=device.model,
        memory_bytes=device.memory_bytes,
        used_bytes=device.used_bytes,
        island=device.island,
        quarantine=device.quarantine,
        overuse=device.overuse,
        claims=tuple(
            ClaimView(worker=claim.worker_id, memory_bytes=claim.memory_bytes) for claim in held
        ),
    )


def _worker(worker: Worker) -> FleetWorkerView:
    plan = worker.plan
    return FleetWorkerView(
        id=worker.id,
        model=plan.model,
        variant=plan.variant,
        role=plan.role,
        ordinal=plan.ordinal,
        revision=plan.revision,
        phase=worker.phase,
        departing=worker.departing,
        node=worker.node,
    )
