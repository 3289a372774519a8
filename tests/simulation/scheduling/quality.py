"""How much of the best possible each one places, instance by instance."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import NamedTuple

import msgspec
from simulation.scheduling.baselines import Chooser, binpack, first_fit, placed_by, spread
from simulation.scheduling.optimum import solve
from simulation.scheduling.rules import broken_rules, worth, worth_placed
from simulation.scheduling.worlds import World, a_world, runtime_of

from pipelines.scheduler import place
from pipelines.topology import Gang
from registry.state import PlannedGang

OURS = "modelyard"
OPTIMUM = "optimum found"
Contender = Callable[[World], Sequence[PlannedGang]]


class Instance(msgspec.Struct, frozen=True, kw_only=True):
    """One fleet. *worth* is what each contender placed, *bound* what no placement can exceed,
    *wanted* what was asked for.
    """

    seed: int
    devices: int
    gangs: int
    wanted: int
    bound: int
    proven: bool
    worth: dict[str, int]

    def ratio(self, contender: str) -> float:
        return self.worth[contender] / self.bound if self.bound else 1.0


class Effort(NamedTuple):
    """Of the solver, for each instance. *time_s* is by its own count of the work done."""

    time_s: float
    threads: int


def _ours(world: World) -> Sequence[PlannedGang]:
    return place(world.snapshot, world.gangs, runtime_of).placed


def _as_they_came(choose: Chooser) -> Contender:
    return lambda world: placed_by(choose, world, world.gangs)


def _by_priority(choose: Chooser) -> Contender:
    return lambda world: placed_by(choose, world, sorted(world.gangs, key=_priority))


def _priority(gang: Gang) -> int:
    return -gang[0].priority


CONTENDERS: dict[str, Contender] = {
    OURS: _ours,
    "first fit": _as_they_came(first_fit),
    "first fit, by priority": _by_priority(first_fit),
    "spread": _as_they_came(spread),
    "binpack": _as_they_came(binpack),
    "binpack, by priority": _by_priority(binpack),
}


def measured(world: World, seed: int, effort: Effort) -> Instance:
    """Raises AssertionError where any of them, the optimum included, breaks a rule."""
    placed = {name: contender(world) for name, contender in CONTENDERS.items()}
    best = max(placed.values(), key=worth_placed)
    optimum = solve(world, best, time_s=effort.time_s, threads=effort.threads, seed=seed)
    placed[OPTIMUM] = optimum.placed
    for name, gangs in placed.items():
        broken = broken_rules(world, gangs)
        assert not broken, f"seed {seed}, {name}: {broken[:3]}"
    assert worth_placed(optimum.placed) == optimum.worth, "the model and the rules disagree"
    return Instance(
        seed=seed,
        devices=len(world.snapshot.devices),
        gangs=len(world.gangs),
        wanted=sum(map(worth, world.gangs)),
        bound=optimum.bound,
        proven=optimum.proven,
        worth={name: worth_placed(gangs) for name, gangs in placed.items()},
    )


def instances(
    seeds: Sequence[int], effort: Effort, *, devices_min: int, devices_max: int, jobs: int = 1
) -> Iterator[Instance]:
    """By the order of *seeds*, as many at a time as there are *jobs*, each in a process."""
    measure = partial(_of_seed, effort=effort, devices_min=devices_min, devices_max=devices_max)
    if jobs == 1:
        yield from map(measure, seeds)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        yield from pool.map(measure, seeds)


def _of_seed(seed: int, effort: Effort, devices_min: int, devices_max: int) -> Instance:
    return measured(a_world(seed, devices_min=devices_min, devices_max=devices_max), seed, effort)
