"""The exact optimum: the problem solved, and its counts made workers with devices again."""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from ortools.sat.python import cp_model
from simulation.scheduling.packing import Place, Problem, Shape, shape_of
from simulation.scheduling.rules import wants_island, worth
from simulation.scheduling.worlds import World, runtime_of

from pipelines.topology import Gang
from registry.state import (
    Device,
    DeviceClaim,
    Node,
    PlannedGang,
    PlannedWorker,
    WorkerPlan,
)

# With two threads, the one that proves the best bounds here; the other improves what is found.
_SEARCH = "max_lp_sym"
# By the clock nothing takes longer than this many times its time: about one on two free cores.
_CLOCK_FACTOR = 8


class Optimum(NamedTuple):
    """The best placement found, what it is worth, and what none can be worth more than."""

    placed: list[PlannedGang]
    worth: int
    bound: int

    @property
    def proven(self) -> bool:
        return self.bound == self.worth


def solve(
    world: World, hint: Sequence[PlannedGang], *, time_s: float, threads: int, seed: int = 0
) -> Optimum:
    """The optimum, or after *time_s* the best that was found and the bound that was proven. That
    time is the solver's own count of its work, so that a busy machine proves no less.
    """
    problem = Problem(world)
    problem.hint(hint)
    solver = cp_model.CpSolver()
    solver.parameters.max_deterministic_time = time_s
    solver.parameters.max_time_in_seconds = _CLOCK_FACTOR * time_s
    solver.parameters.num_workers = threads
    solver.parameters.random_seed = seed
    solver.parameters.subsolvers.append(_SEARCH)
    status = solver.solve(problem.model)
    assert status != cp_model.INFEASIBLE, "to place nothing is always allowed"
    bound = int(solver.best_objective_bound + 1e-6)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return Optimum(list(hint), sum(worth(_plans(gang)) for gang in hint), bound)
    placed = _Answer(problem, solver).placed()
    return Optimum(placed, round(solver.objective_value), bound)


def _plans(gang: PlannedGang) -> Gang:
    return tuple(worker.plan for worker in gang.workers)


class _Answer:
    """Counts back into workers with devices."""

    def __init__(self, problem: Problem, solver: cp_model.CpSolver) -> None:
        self.problem, self.solver = problem, solver
        self.sets: dict[tuple[Shape, str], list[tuple[Device, ...]]] = {}
        for place in problem.places:
            self._deal(place)

    def placed(self) -> list[PlannedGang]:
        found = []
        for number, unit in enumerate(self.problem.units):
            nodes: dict[Shape, list[Node]] = defaultdict(list)
            for (owner, shape, name), var in self.problem.of_unit.items():
                if owner == number:
                    node = next(p.node for p in self.problem.places if p.node.name == name)
                    nodes[shape] += [node] * self.solver.value(var)
            for gang in unit.gangs[: self.solver.value(self.problem.placed[number])]:
                workers = tuple(self._worker(plan, nodes[shape_of(plan)].pop()) for plan in gang)
                found.append(PlannedGang(workers=workers))
        return found

    def _worker(self, plan: WorkerPlan, node: Node) -> PlannedWorker:
        devices = self.sets[shape_of(plan), node.name].pop()
        claims = tuple(
            DeviceClaim(device_id=device.id, memory_bytes=plan.memory_bytes or device.memory_bytes)
            for device in devices
        )
        runtime = runtime_of(plan, node.device_kind)
        return PlannedWorker(plan=plan, node=node.name, runtime=runtime, claims=claims)

    def _deal(self, place: Place) -> None:
        """Shares in turn over the devices that have them; wholes of islands before the rest."""
        name, problem = place.node.name, self.problem
        shapes = [shape for shape, node in problem.on_node if node == name]
        opened = {
            d.id
            for d in place.devices
            if d.id in problem.shared and self.solver.value(problem.shared[d.id])
        }
        whole = [device for device in place.whole if device.id not in opened]
        for shape in sorted(shapes, key=lambda shape: not wants_island(problem.plans[shape])):
            plan = problem.plans[shape]
            sets = self.sets[shape, name] = []
            for island in place.islands if wants_island(plan) else [""]:
                workers = self._workers(shape, name, island)
                own = [d for d in place.devices if not island or d.island == island]
                if plan.memory_bytes:
                    sets += self._shares(shape, workers, own)
                    continue
                for _ in range(workers):
                    free = [device for device in whole if device in own][: plan.devices]
                    sets.append(tuple(free))
                    whole = [device for device in whole if device not in free]

    def _workers(self, shape: Shape, node: str, island: str) -> int:
        key = (shape, node, island)
        if key in self.problem.in_island:
            return self.solver.value(self.problem.in_island[key])
        return self.solver.value(self.problem.on_node[shape, node])

    def _shares(
        self, shape: Shape, workers: int, devices: list[Device]
    ) -> list[tuple[Device, ...]]:
        dealt = [
            device
            for device in devices
            if (shape, device.id) in self.problem.on_device
            for _ in range(self.solver.value(self.problem.on_device[shape, device.id]))
        ]
        return [tuple(dealt[first::workers]) for first in range(workers)]
