"""Whether a sleeper would have a calmer place on another device than the one it lies on."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from pipelines.awake.room import Room
from pipelines.awake.units import Unit
from pipelines.awake.wishes import NOTHING, Wish
from registry.state import NodeState, Snapshot

# Who was placed so lately stays: its place was the best there was.
SETTLED_S = 60.0


class Elsewhere:
    """Devices with what is free on them or held by those of a pool that nobody has asked for of
    late, none of which is never taken away.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        units: Iterable[Unit],
        asked: Mapping[str, Wish],
        room: Room,
        now: float,
    ) -> None:
        self._room = room
        self._now = now
        ready = {node.name for node in snapshot.nodes if node.state is NodeState.READY}
        self._devices = {d.id: d for d in snapshot.devices if d.node in ready and not d.quarantine}
        self._calm: dict[str, Counter[str]] = defaultdict(Counter)
        for unit in units:
            if unit.pool and asked.get(unit.model.name, NOTHING).is_calm(now):
                self._calm[unit.pool].update(room.held(unit.up))

    def takes(self, unit: Unit) -> bool:
        """Whether it should go: then that place is promised. Only who is on one device does, and
        who has been there for a while.
        """
        worker = unit.workers[0]
        here = list(self._room.held_on(worker))
        if len(unit.workers) > 1 or len(here) != 1 or here[0] not in self._devices:
            return False
        if self._now - worker.created_at < SETTLED_S:
            return False
        own = self._devices[here[0]]
        size = worker.plan.memory_bytes or own.memory_bytes
        for device in self._devices.values():
            alike = (device.kind, device.model) == (own.kind, own.model)
            free = self._room.left[device.id] + self._calm[unit.pool][device.id]
            if alike and device.id != own.id and size <= free:
                self._room.promise({device.id: size})
                return True
        return False
