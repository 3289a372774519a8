"""What is free on each device for who wakes, and what will be."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from pipelines.awake.units import Unit
from registry.state import LEAVING_PHASES, NodeState, Phase, Snapshot, Worker

_GOING = LEAVING_PHASES | {Phase.FALLING_ASLEEP}
_WAKES_NOBODY = frozenset({NodeState.UNKNOWN, NodeState.DRAINING})


class Room:
    """*left* is what no worker holds and nobody was promised, in bytes by device: negative where
    more is promised than is free yet. *coming* is held by who leaves or falls asleep.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self.left: Counter[str] = Counter()
        self.coming: Counter[str] = Counter()
        self._size_bytes: dict[str, int] = {}
        self._claims: dict[str, dict[str, int]] = defaultdict(dict)
        self._closed = {n.name: n.state for n in snapshot.nodes if n.state in _WAKES_NOBODY}
        for device in snapshot.devices:
            self._size_bytes[device.id] = device.memory_bytes
            closed = bool(device.quarantine) or device.node in self._closed
            self.left[device.id] = 0 if closed else device.memory_bytes
        phases = {worker.id: worker.phase for worker in snapshot.workers}
        for claim in snapshot.claims:
            self._claims[claim.worker_id][claim.device_id] = claim.memory_bytes
            self.left[claim.device_id] -= claim.memory_bytes
            if phases.get(claim.worker_id) in _GOING:
                self.coming[claim.device_id] += claim.memory_bytes
        self._in_the_end = Counter(self.left)  # without any promise
        self._in_the_end.update(self.coming)

    def why_closed(self, unit: Unit) -> str:
        """Why nobody wakes on one of its nodes, whatever is free; "" where they may."""
        nodes = {worker.node for worker in unit.workers} & self._closed.keys()
        return next((f"node {name} is {self._closed[name]}" for name in sorted(nodes)), "")

    def held_on(self, worker: Worker) -> tuple[str, ...]:
        """The devices it is on, asleep or awake."""
        return tuple(self._claims.get(worker.id, ()))

    def held(self, workers: Iterable[Worker]) -> Counter[str]:
        """What they claim now."""
        held: Counter[str] = Counter()
        for worker in workers:
            held.update(self._claims.get(worker.id, {}))
        return held

    def need(self, unit: Unit) -> Counter[str]:
        """What its sleeping workers claim more once awake."""
        need: Counter[str] = Counter()
        for worker in unit.workers:
            for device_id, held_bytes in self._claims.get(worker.id, {}).items():
                awake_bytes = worker.plan.memory_bytes or self._size_bytes.get(device_id, 0)
                awake_bytes = awake_bytes or 1  # of a device that is gone, which has not even that
                if worker.phase is Phase.ASLEEP:
                    need[device_id] += awake_bytes - held_bytes
                elif worker.phase is Phase.FALLING_ASLEEP:
                    need[device_id] += awake_bytes
        return need

    def fits(self, need: Mapping[str, int]) -> bool:
        return all(size <= self.left[device] for device, size in need.items())

    def promise(self, need: Mapping[str, int]) -> None:
        """Nobody else gets it, whether it is free yet or not."""
        self.left.subtract(need)

    def free_up(self, held: Mapping[str, int]) -> None:
        """Somebody falls asleep now."""
        self.coming.update(held)

    def lacking(self, need: Mapping[str, int]) -> dict[str, int]:
        """What would be missing on which device even once all that is coming has come."""
        lacking = {}
        for device, size in need.items():
            missing = size - self.left[device] - self.coming[device]
            if missing > 0:
                lacking[device] = missing
        return lacking

    def could_ever_hold(self, need: Mapping[str, int], freed: Mapping[str, int]) -> bool:
        """Whether it would fit if *freed* were free and nobody else waited."""
        rest = self._in_the_end
        return all(size <= rest[device] + freed.get(device, 0) for device, size in need.items())
