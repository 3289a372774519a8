"""All models at once: which shape each gets on which devices, as an integer program (CP-SAT).

One option at most for a model on a kind of device, or a place in a pool; the workers of all that
are chosen and the places of pools must fit into the islands of that kind. First as much of the
traffic as can be served, by weight: all of it, where that is possible. Then, at that, the least
cost; of equal ones the fewest devices, and of those that with the fewest models in pools.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from math import ceil
from types import MappingProxyType

import msgspec
from ortools.sat.python import cp_model

from pipelines.planner.demand import Demand
from pipelines.planner.fleet import Fleet
from pipelines.planner.options import Option
from pipelines.planner.pools import Pooled, crowd_max

PARTS = 100_000  # of a model's traffic, which the solver counts in whole numbers
WORK_S = 10.0  # the solver's own count of its work: no clock, so that the answer is the same again


class Pool(msgspec.Struct, frozen=True):
    """*places* of *size* devices that *members* take in turns."""

    device: str
    size: int
    places: int
    members: tuple[Pooled, ...]

    @property
    def devices(self) -> int:
        return self.places * self.size


class Solution(msgspec.Struct, frozen=True):
    """*chosen* options by model. *served* is the sum of the weighted shares of the traffic, *bound*
    what no choice can exceed.
    """

    chosen: Mapping[str, tuple[Option, ...]]
    pools: tuple[Pool, ...]
    served: float
    bound: float

    @property
    def gap(self) -> float:
        """By how much of itself *served* may be too little."""
        return (self.bound - self.served) / self.served if self.served else 0.0

    @property
    def devices(self) -> int:
        return sum(count for _, count in self._held())

    def devices_by_model(self, fleet: Fleet) -> dict[str, int]:
        """Of each kind, those that are none included."""
        used = dict.fromkeys(fleet.device_models, 0)
        for device, count in self._held():
            used[device] += count
        return used

    def cost(self, fleet: Fleet) -> float:
        """Of all of its devices an hour."""
        return sum(count * fleet.cost(device) for device, count in self._held())

    def pool_of(self, model: str) -> Pool | None:
        inside = (pool for pool in self.pools if any(one.model == model for one in pool.members))
        return next(inside, None)

    def held(self, demand: Demand) -> float:
        """The rate that is held of what *demand* is planned for, all of it in a pool."""
        if self.pool_of(demand.model) is not None:
            return demand.planned.rate
        return sum(option.rate for option in self.chosen.get(demand.model, ()))

    def _held(self) -> Iterator[tuple[str, int]]:
        for found in self.chosen.values():
            yield from ((option.device, option.devices) for option in found)
        yield from ((pool.device, pool.devices) for pool in self.pools)


def solve(
    demands: Sequence[Demand],
    options: Sequence[Option],
    fleet: Fleet,
    *,
    pooled: Sequence[Pooled] = (),
    crowds: Mapping[tuple[str, int], float] = MappingProxyType({}),
    seed: int = 0,
    work_s: float = WORK_S,
) -> Solution:
    """The best choice, or the best found in *work_s*. The order of *demands* does not matter.
    *pooled*: the models that may be in a pool. Of what `crowd_max` says, pools on a kind of device,
    of places of a size, take the part that *crowds* says.
    """
    problem = _Problem(cp_model.CpModel(), sorted(demands, key=lambda d: d.model), options, fleet)
    problem.pool(sorted(pooled, key=lambda one: (one.model, one.worker)), crowds)
    problem.fit()
    first = _solver(seed, work_s)
    problem.model.maximize(problem.served)
    _check(first.solve(problem.model))
    served = round(first.objective_value)
    bound = max(served, int(first.best_objective_bound + 1e-6))
    problem.model.add(problem.served >= served)
    last = first
    for goal in problem.goals():
        hints = [(taken, last.value(taken)) for taken in problem.taken]
        problem.model.clear_hints()  # type: ignore[no-untyped-call]
        for taken, value in hints:
            problem.model.add_hint(taken, value)
        problem.model.minimize(goal)
        last = _solver(seed, work_s)
        _check(last.solve(problem.model))
        problem.model.add(goal <= round(last.objective_value))
    chosen: dict[str, list[Option]] = defaultdict(list)
    for option, taken in zip(problem.options, problem.taken, strict=True):
        if last.value(taken):
            chosen[option.model].append(option)
    return Solution(
        chosen={model: tuple(found) for model, found in chosen.items()},
        pools=tuple(problem.pools(last)),
        served=served / PARTS,
        bound=bound / PARTS,
    )


class _Problem:
    """*taken* says of each option whether it is chosen."""

    def __init__(
        self,
        model: cp_model.CpModel,
        demands: Sequence[Demand],
        options: Sequence[Option],
        fleet: Fleet,
    ) -> None:
        self.model = model
        self._fleet = fleet
        self._demands = {demand.model: demand for demand in demands}
        rank = {name: number for number, name in enumerate(self._demands)}
        self.options = sorted(
            (option for option in options if option.model in rank),
            key=lambda o: (rank[o.model], o.device, o.devices, o.label, o.engine, o.rate),
        )
        self.taken = [model.new_bool_var(f"take{i}") for i in range(len(self.options))]
        self._pooled: list[tuple[Pooled, cp_model.IntVar]] = []
        self._places: dict[tuple[str, int], cp_model.IntVar] = {}

    def pool(self, pooled: Sequence[Pooled], crowds: Mapping[tuple[str, int], float]) -> None:
        """Lets the models that may be in a pool be in one."""
        by_pool: dict[tuple[str, int], list[tuple[Pooled, cp_model.IntVar]]] = defaultdict(list)
        for number, member in enumerate(pooled):
            if member.model in self._demands:
                inside = self.model.new_bool_var(f"pool{number}")
                self._pooled.append((member, inside))
                by_pool[member.worker.device, member.worker.devices].append((member, inside))
        for (device, size), members in by_pool.items():
            most = sum(island // size for island, _ in self._fleet.bins(device))
            places = self.model.new_int_var(0, most, f"places {device} {size}")
            part = crowds.get((device, size), 1.0)
            table = [int(PARTS * part * crowd_max(count)) for count in range(most + 1)]
            room = self.model.new_int_var(0, max(table), f"crowd {device} {size}")
            self.model.add_element(places, table, room)
            awake = sum(int(PARTS * one.awake) * inside for one, inside in members)
            self.model.add(awake <= room)
            self._places[device, size] = places

    def fit(self) -> None:
        """To be served, and to find room: said once all that may be chosen is known."""
        pairs = list(zip(self.options, self.taken, strict=True))
        self.served = sum(
            self._served(demand, [pair for pair in pairs if pair[0].model == name])
            for name, demand in self._demands.items()
        )
        for device in self._fleet.device_models:
            self._fit(device, [pair for pair in pairs if pair[0].device == device])

    def goals(self) -> Iterator[cp_model.LinearExprT]:
        """What is to be least, one after the other: what it costs, where devices cost unlike; then
        how many devices and turns.
        """
        costs = {device: _mills(self._fleet.cost(device)) for device in self._fleet.device_models}
        if len(set(costs.values())) > 1:
            yield sum(self._held(costs))
        rank = dict.fromkeys(costs, len(self._demands) + 1)
        yield sum([*self._held(rank), *(inside for _, inside in self._pooled)])

    def _held(self, worth: Mapping[str, int]) -> list[cp_model.LinearExprT]:
        """The devices that are held, each as much as one of its kind is *worth*."""
        held: list[cp_model.LinearExprT] = [
            worth[option.device] * option.devices * taken
            for option, taken in zip(self.options, self.taken, strict=True)
        ]
        held += [worth[device] * size * places for (device, size), places in self._places.items()]
        return held

    def pools(self, solver: cp_model.CpSolver) -> Iterator[Pool]:
        for (device, size), places in self._places.items():
            members = tuple(
                one
                for one, inside in self._pooled
                if (one.worker.device, one.worker.devices) == (device, size)
                and solver.value(inside)
            )
            if members:
                yield Pool(device, size, solver.value(places), members)

    def _served(
        self, demand: Demand, pairs: list[tuple[Option, cp_model.IntVar]]
    ) -> cp_model.LinearExprT:
        by_device = defaultdict(list)
        for option, taken in pairs:
            by_device[option.device].append(taken)
        for several in by_device.values():
            self.model.add_at_most_one(several)
        whole = round(PARTS * demand.weight)
        part = self.model.new_int_var(0, whole, f"served {demand.model}")
        # Up, as options on several kinds of device that hold all of it together are not to lack a
        # part for being counted in whole ones, and less than one is float's.
        rates = [
            ceil(PARTS * demand.weight * option.rate / demand.rate - 1e-6) for option, _ in pairs
        ]
        alone = sum(r * t for r, (_, t) in zip(rates, pairs, strict=True))
        inside = [taken for one, taken in self._pooled if one.model == demand.model]
        if inside:
            self.model.add_at_most_one(inside)
            for _, taken in pairs:
                for one in inside:
                    self.model.add_at_most_one(taken, one)
        self.model.add(part <= alone + whole * sum(inside))
        return part

    def _fit(self, device: str, pairs: list[tuple[Option, cp_model.IntVar]]) -> None:
        """All sizes divide the larger ones. So, laid largest first, workers find places whenever
        those of at least each size need no more than the islands hold in parts of that size.
        """
        needs: dict[int, list[cp_model.LinearExprT]] = defaultdict(list)
        for option, taken in pairs:
            for part in option.parts:
                needs[part.worker.devices].append(part.devices * taken)
        for (where, size), places in self._places.items():
            if where == device:
                needs[size].append(size * places)
        islands = [size for size, _ in self._fleet.bins(device)]
        wanted: list[cp_model.LinearExprT] = []
        for size in sorted(needs, reverse=True):
            wanted += needs[size]
            self.model.add(sum(wanted) <= sum(island // size * size for island in islands))


def _mills(cost: float) -> int:
    return round(1000 * cost)


def _solver(seed: int, work_s: float) -> cp_model.CpSolver:
    solver = cp_model.CpSolver()
    solver.parameters.max_deterministic_time = work_s
    solver.parameters.num_workers = 1  # several race each other, and who wins is chance
    solver.parameters.random_seed = seed
    return solver


def _check(status: cp_model.CpSolverStatus) -> None:
    assert status in (cp_model.OPTIMAL, cp_model.FEASIBLE), "to serve nothing is always allowed"
