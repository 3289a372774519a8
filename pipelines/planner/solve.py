"""All models at once: which shape each gets on which devices, as an integer program (CP-SAT).

One option at most for a model on a kind of device; the workers of all that are chosen must fit into
the islands of that kind. First as much of the traffic as can be served, by weight; then, at that,
the fewest devices.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import msgspec
from ortools.sat.python import cp_model

from pipelines.planner.demand import Demand
from pipelines.planner.fleet import Fleet
from pipelines.planner.options import Option

PARTS = 100_000  # of a model's traffic, which the solver counts in whole numbers
WORK_S = 10.0  # the solver's own count of its work: no clock, so that the answer is the same again


class Solution(msgspec.Struct, frozen=True):
    """*chosen* options by model. *served* is the sum of the weighted shares of the traffic, *bound*
    what no choice can exceed.
    """

    chosen: Mapping[str, tuple[Option, ...]]
    served: float
    bound: float
    devices: int

    @property
    def gap(self) -> float:
        """By how much of itself *served* may be too little."""
        return (self.bound - self.served) / self.served if self.served else 0.0


def solve(
    demands: Sequence[Demand],
    options: Sequence[Option],
    fleet: Fleet,
    *,
    seed: int = 0,
    work_s: float = WORK_S,
) -> Solution:
    """The best choice, or the best found in *work_s*. The order of *demands* does not matter."""
    problem = _Problem(cp_model.CpModel(), sorted(demands, key=lambda d: d.model), options, fleet)
    first = _solver(seed, work_s)
    problem.model.maximize(problem.served)
    _check(first.solve(problem.model))
    served = round(first.objective_value)
    bound = max(served, int(first.best_objective_bound + 1e-6))
    problem.model.add(problem.served >= served)
    for taken, value in [(taken, first.value(taken)) for taken in problem.taken]:
        problem.model.add_hint(taken, value)
    problem.model.minimize(problem.devices)
    second = _solver(seed, work_s)
    _check(second.solve(problem.model))
    chosen: dict[str, list[Option]] = defaultdict(list)
    for option, taken in zip(problem.options, problem.taken, strict=True):
        if second.value(taken):
            chosen[option.model].append(option)
    return Solution(
        chosen={model: tuple(found) for model, found in chosen.items()},
        served=served / PARTS,
        bound=bound / PARTS,
        devices=sum(option.devices for found in chosen.values() for option in found),
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
        rank = {demand.model: i for i, demand in enumerate(demands)}
        self.options = sorted(
            (option for option in options if option.model in rank),
            key=lambda o: (rank[o.model], o.device, o.devices, o.label, o.engine, o.rate),
        )
        self.taken = [model.new_bool_var(f"take{i}") for i in range(len(self.options))]
        pairs = list(zip(self.options, self.taken, strict=True))
        self.devices = sum(option.devices * taken for option, taken in pairs)
        self.served = sum(
            self._served(demand, [pair for pair in pairs if pair[0].model == demand.model])
            for demand in demands
        )
        for device in fleet.device_models:
            self._fit(device, [pair for pair in pairs if pair[0].device == device], fleet)

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
        rates = [int(PARTS * demand.weight * option.rate / demand.rate) for option, _ in pairs]
        self.model.add(part <= sum(r * t for r, (_, t) in zip(rates, pairs, strict=True)))
        return part

    def _fit(self, device: str, pairs: list[tuple[Option, cp_model.IntVar]], fleet: Fleet) -> None:
        """Workers of each size are counted over all models and laid into the islands."""
        needs = defaultdict(list)
        for option, taken in pairs:
            for part in option.parts:
                needs[part.worker.devices].append(part.workers * taken)
        islands = [size for size, _ in fleet.bins(device)]
        room: list[list[cp_model.LinearExprT]] = [[] for _ in islands]
        for size, wanted in needs.items():
            held = []
            for i, island in enumerate(islands):
                here = self.model.new_int_var(0, island // size, f"{device} {size} in {i}")
                room[i].append(size * here)
                held.append(here)
            self.model.add(sum(wanted) <= sum(held))
        for island, laid in zip(islands, room, strict=True):
            self.model.add(sum(laid) <= island)


def _solver(seed: int, work_s: float) -> cp_model.CpSolver:
    solver = cp_model.CpSolver()
    solver.parameters.max_deterministic_time = work_s
    solver.parameters.num_workers = 1  # several race each other, and who wins is chance
    solver.parameters.random_seed = seed
    return solver


def _check(status: cp_model.CpSolverStatus) -> None:
    assert status in (cp_model.OPTIMAL, cp_model.FEASIBLE), "to serve nothing is always allowed"
