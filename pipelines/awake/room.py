"""What is free on each device for who wakes, and what will be."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import TypeVar

from pipelines.awake.units import Unit
from registry.state import MAKES_ROOM_PHASES, NodeState, Phase, Snapshot, Worker

_Count = TypeVar("_Count", int, int | None)
_WAKES_NOBODY = frozenset({NodeState.UNKNOWN, NodeState.DRAINING})


class Room:
    """*left* is what no worker holds and nobody was promised, in bytes by device: negative where
    more is promised than is free yet. *coming* is held by who leaves or falls asleep. What an owner
    may hold is room of the same kind, under names of its own (`_shares`).
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self.left: Counter[str] = Counter()
        self.coming: Counter[str] = Counter()
        self._falling: Counter[str] = Counter()  # of it, what who falls asleep holds
        self._size_bytes: dict[str, int] = {}
        self._claims: dict[str, dict[str, int]] = defaultdict(dict)
        self._closed = {n.name: n.state for n in snapshot.nodes if n.state in _WAKES_NOBODY}
        for device in snapshot.devices:
            self._size_bytes[device.id] = device.memory_bytes
            closed = bool(device.quarantine) or device.node in self._closed
            self.left[device.id] = 0 if closed else device.memory_bytes
        for quota in snapshot.quotas:
            most = _shares(quota.owner, quota.devices, quota.memory_bytes)
            self.left.update({share: size for share, size in most.items() if size is not None})
        self._shares = self.left.keys() - self._size_bytes.keys()
        owners = {model.name: model.spec.owner for model in snapshot.models}
        workers = {worker.id: worker for worker in snapshot.workers}
        for claim in snapshot.claims:
            self._claims[claim.worker_id][claim.device_id] = claim.memory_bytes
        self._owner = {id_: owners.get(one.plan.model, "") for id_, one in workers.items()}
        for worker_id in self._claims:
            held = self._held_by(worker_id)
            self.left.subtract(held)
            if worker_id in workers and workers[worker_id].phase in MAKES_ROOM_PHASES:
                self.coming.update(held)
                if workers[worker_id].phase is Phase.FALLING_ASLEEP:
                    self._falling.update(held)
        self._to_keep = self.left + self._falling  # for those who wake, not for new places
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
            held.update(self._held_by(worker.id))
        return held

    def _held_by(self, worker_id: str) -> Counter[str]:
        claims = self._claims.get(worker_id, {})
        sizes = claims.values()
        return Counter(claims) + self._of_owner(worker_id, sum(map(bool, sizes)), sum(sizes))

    def _of_owner(self, worker_id: str, devices: int, memory_bytes: int) -> Counter[str]:
        """What so much is of its owner's quota; nothing where that has none."""
        shares = _shares(self._owner.get(worker_id, ""), devices, memory_bytes)
        return Counter({share: size for share, size in shares.items() if share in self._shares})

    def on_devices(self, need: Mapping[str, int]) -> Counter[str]:
        """Without what it is of quotas."""
        return Counter({name: size for name, size in need.items() if name not in self._shares})

    def need(self, unit: Unit) -> Counter[str]:
        """What its sleeping workers claim more once awake."""
        need: Counter[str] = Counter()
        for worker in unit.workers:
            more: Counter[str] = Counter()
            new_devices = 0
            for device_id, held_bytes in self._claims.get(worker.id, {}).items():
                awake_bytes = worker.plan.memory_bytes or self._size_bytes.get(device_id, 0)
                awake_bytes = awake_bytes or 1  # of a device that is gone, which has not even that
                if worker.phase is Phase.ASLEEP:
                    more[device_id] = awake_bytes - held_bytes
                    new_devices += not held_bytes
                elif worker.phase is Phase.FALLING_ASLEEP:
                    more[device_id] = awake_bytes
                    new_devices += 1
            need.update(more)
            need.update(self._of_owner(worker.id, new_devices, more.total()))
        return need

    def fits(self, need: Mapping[str, int]) -> bool:
        return all(size <= self.left[device] for device, size in need.items())

    def promise(self, need: Mapping[str, int]) -> None:
        """Nobody else gets it, whether it is free yet or not."""
        self.left.subtract(need)

    def keep(self, need: Mapping[str, int]) -> dict[str, int]:
        """What of it is free, or held by who falls asleep, and not kept for anybody before. What
        workers leave that end is for those whom they make room for.
        """
        kept = {
            device: max(0, min(size, self._to_keep[device]))
            for device, size in self.on_devices(need).items()
        }
        self._to_keep.subtract(kept)
        return kept

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


def _shares(owner: str, devices: _Count, memory_bytes: _Count) -> dict[str, _Count]:
    """By the names that stand for an owner's quota among those of devices."""
    return {f"devices of {owner}": devices, f"memory of {owner}": memory_bytes}
