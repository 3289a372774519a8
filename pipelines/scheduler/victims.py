"""Who may have to go for others, and what that costs."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from pipelines.scheduler.hosts import Hold
from pipelines.scheduler.standing import Standings
from registry.spec import Role
from registry.state import MAKES_ROOM_PHASES, Phase, Worker

# A worker that serves is dearer than one that is coming up: its requests have to go elsewhere.
READY_FACTOR = 2.0
WORKER_COST = 1.0  # each one more, whatever it holds

RoleOf = tuple[str, str, Role]  # model, variant, role


class Unit(NamedTuple):
    """Workers that go together or not at all: a unified one, or all of a pair's variant. *role*
    is that of a unified one, of which the spec may want some to stay, and *serves* whether that one
    is ready; *devices* counts those it holds, by host.
    """

    workers: tuple[str, ...]
    model: str
    priority: int
    cost: float
    role: RoleOf | None
    serves: bool
    devices: dict[int, int]


class Victims:
    """All units that could be evicted, of a fleet as it is in its snapshot."""

    def __init__(
        self,
        workers: Iterable[Worker],
        holds: Mapping[str, Sequence[Hold]],
        standings: Standings,
    ) -> None:
        self.on_host: dict[int, list[Unit]] = defaultdict(list)
        pairs: dict[tuple[str, str], list[Worker]] = defaultdict(list)
        singles: list[Worker] = []
        for worker in workers:
            if worker.plan.external is not None or worker.phase in MAKES_ROOM_PHASES:
                continue
            if worker.plan.role is Role.UNIFIED:
                singles.append(worker)
            else:
                pairs[worker.plan.model, worker.plan.variant].append(worker)
        # That a role has above what must stay: of all, and of those that serve.
        self._spare = _spare(singles, standings)
        self._spare_serving = _spare([w for w in singles if w.phase is Phase.READY], standings)
        self._prices: dict[int, dict[int, float]] = {}
        units = [_unit([worker], worker.plan.slot[:3], holds, standings) for worker in singles]
        for pair in pairs.values():
            kept = standings.of(pair[0]).min_available
            if not any(kept.get((w.plan.variant, w.plan.role), 0) for w in pair):
                units.append(_unit(pair, None, holds, standings))
        for unit in sorted(units, key=lambda unit: (unit.cost, unit.workers)):
            for number in unit.devices:
                self.on_host[number].append(unit)

    def price(self, number: int, priority: int) -> float | None:
        """What a device on the host costs at least, for whoever has that priority; None where
        nobody is below it.
        """
        prices = self._prices.get(priority)
        if prices is None:
            prices = self._prices[priority] = {}
            for host, units in self.on_host.items():
                lower = [u.cost / u.devices[host] for u in units if u.priority < priority]
                if lower:
                    prices[host] = min(lower)
        return prices.get(number)

    def allowed(self, unit: Unit, chosen: Iterable[Unit], gone: Iterable[Unit]) -> bool:
        """Whether its role can spare it beside those that go already."""
        if unit.role is None:
            return True
        others = [one for one in (*chosen, *gone) if one.role == unit.role]
        if self._spare[unit.role] <= len(others):
            return False
        return not unit.serves or self._spare_serving[unit.role] > sum(o.serves for o in others)


def _spare(workers: Iterable[Worker], standings: Standings) -> dict[RoleOf, int]:
    ordinals: dict[RoleOf, set[int]] = defaultdict(set)
    kept: dict[RoleOf, int] = {}
    for worker in workers:
        role: RoleOf = worker.plan.slot[:3]
        ordinals[role].add(worker.plan.ordinal)
        kept[role] = standings.of(worker).min_available.get(role[1:], 0)
    return {role: len(mine) - kept[role] for role, mine in ordinals.items()}


def _unit(
    workers: Sequence[Worker],
    role: RoleOf | None,
    holds: Mapping[str, Sequence[Hold]],
    standings: Standings,
) -> Unit:
    priority = standings.of(workers[0]).priority
    cost, devices = 0.0, defaultdict[int, int](int)
    for worker in workers:
        share = 0.0
        for host, held in holds[worker.id]:
            devices[host.number] += len(held)
            share += sum(size / host.build.sizes[i] for i, size in held.items())
        factor = READY_FACTOR if worker.phase is Phase.READY else 1.0
        cost += share * (1 + priority) * factor + WORKER_COST
    return Unit(
        workers=tuple(sorted(worker.id for worker in workers)),
        model=workers[0].plan.model,
        priority=priority,
        cost=cost,
        role=role,
        serves=role is not None and workers[0].phase is Phase.READY,
        devices=dict(devices),
    )
