"""The fleet as the scheduler sees it: nodes, devices, and the memory still free on each."""

from collections import Counter
from collections.abc import Iterable
from typing import Self

from registry.state import Device, DeviceClaim, Node, PlannedWorker, Snapshot, WorkerPlan


class Fleet:
    """A working copy of one snapshot's capacity. Claims taken here are proposals."""

    def __init__(
        self,
        nodes: Iterable[Node],
        devices: Iterable[Device],
        free_bytes: dict[str, int],
        replicas: Counter[tuple[str, str]],
    ) -> None:
        self.nodes = tuple(sorted(nodes, key=lambda node: node.name))
        self._devices: dict[str, tuple[Device, ...]] = {}
        for device in sorted(devices, key=lambda device: (device.node, device.index)):
            self._devices[device.node] = (*self._devices.get(device.node, ()), device)
        self._free_bytes = free_bytes
        self._replicas = replicas  # (node, model/variant/role) → workers

    @classmethod
    def of(cls, snapshot: Snapshot) -> Self:
        free = {device.id: device.memory_bytes for device in snapshot.devices}
        for claim in snapshot.claims:
            if claim.device_id in free:
                free[claim.device_id] -= claim.memory_bytes
        replicas = Counter((worker.node, _group(worker.plan)) for worker in snapshot.workers)
        return cls(snapshot.nodes, snapshot.devices, free, replicas)

    def copy(self) -> "Fleet":
        clone = Fleet(self.nodes, (), dict(self._free_bytes), Counter(self._replicas))
        clone._devices = self._devices
        return clone

    def devices(self, node: Node) -> tuple[Device, ...]:
        return self._devices.get(node.name, ())

    def free_bytes(self, device: Device) -> int:
        return self._free_bytes[device.id]

    def free_share(self, node: Node) -> float:
        """The part of the node's device memory that no one claims, 0 to 1."""
        total = sum(device.memory_bytes for device in self.devices(node))
        free = sum(self.free_bytes(device) for device in self.devices(node))
        return free / total if total else 0.0

    def replicas(self, node: Node, plan: WorkerPlan) -> int:
        """Workers of the plan's own role that the node already holds."""
        return self._replicas[(node.name, _group(plan))]

    def best_devices(self, node: Node, plan: WorkerPlan) -> tuple[DeviceClaim, ...] | None:
        """The tightest devices that fit, so that large holes stay whole; None if too few do."""
        fitting = [
            device for device in self.devices(node) if self.free_bytes(device) >= need(plan, device)
        ]
        fitting.sort(key=lambda device: (self.free_bytes(device), device.index))
        if len(fitting) < plan.devices:
            return None
        return tuple(
            DeviceClaim(device_id=device.id, memory_bytes=need(plan, device))
            for device in fitting[: plan.devices]
        )

    def take(self, worker: PlannedWorker) -> None:
        for claim in worker.claims:
            self._free_bytes[claim.device_id] -= claim.memory_bytes
            assert self._free_bytes[claim.device_id] >= 0, claim
        self._replicas[(worker.node, _group(worker.plan))] += 1


def need(plan: WorkerPlan, device: Device) -> int:
    """Bytes the plan takes of this device: what it asks for, or the whole of it."""
    return plan.memory_bytes or device.memory_bytes


def _group(plan: WorkerPlan) -> str:
    return f"{plan.model}/{plan.variant}/{plan.role}"
