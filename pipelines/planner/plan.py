"""The plan: options by formula, the best of them together, and what was chosen played through.

A formula promises too much where arrivals bunch or a router sees less than one queue would. So each
option that is chosen is rehearsed, its rate corrected, and all is solved anew, until everything
chosen has been rehearsed.
"""

from collections.abc import Callable, Mapping, Sequence
from math import inf

import msgspec

from pipelines.planner.demand import Demand, Objective
from pipelines.planner.fleet import Fleet
from pipelines.planner.frontier import FrontierPoint, frontier
from pipelines.planner.options import Gaps, Missing, Option, Part, TimesOf, options
from pipelines.planner.pools import Pooled, crowd_max, member_of, rehearse_pool
from pipelines.planner.rehearsal import Outcome, poisson, rate_rehearsed, rehearse
from pipelines.planner.solve import WORK_S, Pool, Solution, solve
from pipelines.planner.why import refuse_short, unfit, why

ROUNDS_MAX = 20
HOPE = 1.15  # formulas were seen to promise as much too little, seldom more
REQUESTS = 3000  # of a rehearsal
CONFIRM_SEEDS = (101, 102, 103)  # others than those that corrected the rates
CROWD_LESS = 0.95  # at most, of a pool whose members were late
OVER = 1.02  # a rate is looked for up to a little above what is asked


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """One model to plan for: its *demand*, where its step times come from, and engines allowed."""

    demand: Demand
    times_of: TimesOf
    engines: Sequence[str] = ("vllm", "sglang")


class Alternative(msgspec.Struct, frozen=True):
    """Another shape that serves the same traffic alone: *option* None where none does there."""

    family: str
    device: str
    option: Option | None


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """What a model gets. *rate* is what it holds, *served* what of the traffic that is, without its
    headroom; *why* says what keeps it from more.
    """

    demand: Demand
    options: tuple[Option, ...]
    pool: Pool | None
    alternatives: tuple[Alternative, ...]
    frontier: tuple[FrontierPoint, ...]
    why: str

    @property
    def rate(self) -> float:
        if self.pool is not None:
            return self.demand.rate
        return sum(option.rate for option in self.options)

    @property
    def served(self) -> float:
        return min(1.0, self.rate / self.demand.rate)

    @property
    def goodput(self) -> float:
        return min(self.rate, self.demand.rate)


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """*cost* is that of its devices an hour. *rounds* is how often it was solved; *gap* by how much
    of itself the sum of the weighted shares may be too little, for the rates as they were
    rehearsed. *unfit*: where a model cannot be served at all, the first reason for each kind of
    device.
    """

    choices: tuple[Choice, ...]
    pools: tuple[Pool, ...]
    objective: Objective
    devices: int
    cost: float
    devices_by_model: Mapping[str, int]
    fleet: Fleet
    gap: float
    bound: float
    rounds: int
    unfit: tuple[Missing, ...]

    @property
    def goodput(self) -> float:
        """Requests a second within their SLO, of all models."""
        return sum(choice.goodput for choice in self.choices)


Tell = Callable[[str], None]


def quiet(_: str) -> None:
    """Tells nobody what is being done."""


def plan(
    subjects: Sequence[Subject],
    fleet: Fleet,
    *,
    objective: Objective = Objective.GOODPUT,
    seed: int = 0,
    work_s: float = WORK_S,
    tell: Tell = quiet,
) -> Plan:
    """The best topology for each of *subjects* on *fleet*. The same seed, the same plan. Raises
    SpecError where *objective* asks for all of the traffic and the fleet is too small for it.
    """
    subjects = sorted(subjects, key=lambda subject: subject.demand.model)
    gaps = Gaps()
    every: list[Option] = []
    pooled: list[Pooled] = []
    for subject in subjects:
        tell(f"shapes of {subject.demand.model}")
        every += options(
            subject.demand.planned, subject.times_of, fleet, engines=subject.engines, gaps=gaps
        )
        pooled += pooled_of(subject, fleet)
    demands = [subject.demand for subject in subjects]
    rehearsals = Rehearsals(seed, over=OVER)
    return choose(
        demands,
        every,
        fleet,
        rehearsals,
        gaps,
        pooled=pooled,
        objective=objective,
        seed=seed,
        work_s=work_s,
        tell=tell,
    )


def pooled_of(subject: Subject, fleet: Fleet) -> list[Pooled]:
    """As what a model could be in a pool, on each kind of device."""
    demand = subject.demand.planned
    found = (
        member_of(demand, subject.times_of, device, engine, fleet.worker_max(device))
        for device in fleet.device_models
        for engine in subject.engines[:1]
    )
    return [member for member in found if member is not None]


def choose(
    demands: Sequence[Demand],
    every: Sequence[Option],
    fleet: Fleet,
    rehearsals: "Rehearsals",
    gaps: Gaps | None = None,
    *,
    pooled: Sequence[Pooled] = (),
    objective: Objective = Objective.GOODPUT,
    seed: int = 0,
    work_s: float = WORK_S,
    with_alternatives: bool = True,
    tell: Tell = quiet,
) -> Plan:
    """The best of the options *every*, whose rates are by formula. *rehearsals* may be from earlier
    plans for demands that differ in their rates only. Raises SpecError as `plan` does.
    """
    gaps = Gaps() if gaps is None else gaps
    planned = [demand.planned for demand in demands]
    by_model = {demand.model: demand for demand in planned}
    every = [option for option in every if option.model in by_model]
    rounds = 0
    while True:
        rounds += 1
        offered = [rehearsals.known(option) for option in every]
        if rounds >= ROUNDS_MAX:
            offered = [option for option in offered if option.is_rehearsed]
        offered = [option for option in offered if option.rate > 0]
        tell(f"solving, round {rounds}: {len(offered)} options of {len(demands)} models")
        solution = solve(
            planned,
            offered,
            fleet,
            pooled=[p for p in pooled if p.model not in rehearsals.barred and rounds < ROUNDS_MAX],
            crowds=rehearsals.crowds,
            seed=seed,
            work_s=work_s,
        )
        new = [o for found in solution.chosen.values() for o in found if not o.is_rehearsed]
        crowded = [pool for pool in solution.pools if not rehearsals.holds(pool, by_model)]
        if not new and not crowded:
            break
        for option in new:
            tell(f"rehearsing {option.model}: {option.label} on {option.device}")
            rehearsals.play(option, by_model[option.model])
    if objective is Objective.DEVICES:
        refuse_short(demands, solution, every, gaps)
    return Plan(
        choices=tuple(
            _choice(demand, every, fleet, solution, gaps, rehearsals if with_alternatives else None)
            for demand in demands
        ),
        pools=solution.pools,
        objective=objective,
        devices=solution.devices,
        cost=solution.cost(fleet),
        devices_by_model=solution.devices_by_model(fleet),
        fleet=fleet,
        gap=solution.gap,
        bound=solution.bound,
        rounds=rounds,
        unfit=tuple(unfit(by_model, every, fleet, gaps)),
    )


def confirm(choice: Choice, seed: int) -> list[tuple[Option, Outcome]]:
    """Each option of the choice at the rate it is planned for, under arrivals by another *seed*."""
    load = min(1.0, choice.demand.rate / choice.rate) if choice.rate else 0.0
    return [
        (
            option,
            rehearse(
                option.group,
                choice.demand,
                poisson(choice.demand, option.rate * load, seed=seed, requests=REQUESTS),
            ),
        )
        for option in choice.options
    ]


class Rehearsals:
    """What options were seen to hold. A rate is looked for up to *over* times what is asked: more
    of it would change no plan for that demand, but one for more would ask for it.
    """

    def __init__(self, seed: int, over: float = inf) -> None:
        self._seed = seed
        self._over = over
        self._rates: dict[tuple[str, tuple[Part, ...]], float] = {}
        self.crowds: dict[tuple[str, int], float] = {}
        self.barred: set[str] = set()  # from pools

    def known(self, option: Option) -> Option:
        """With the rate it was seen to hold; else with a hopeful one."""
        rate = self._rates.get((option.model, option.parts))
        if rate is None:
            return msgspec.structs.replace(option, rate=HOPE * option.rate)
        return msgspec.structs.replace(option, rate=rate, is_rehearsed=True)

    def holds(self, pool: Pool, demands: Mapping[str, Demand]) -> bool:
        """Whether its members answer in time, played. If not, pools of its kind get as many fewer
        as more places would have been needed; who is late even with a place of its own gets none.
        """
        late = self._late(pool, pool.places, demands)
        places = pool.places
        while late and places < len(pool.members):
            places += 1
            late = self._late(pool, places, demands)
        self.barred |= late
        if places == pool.places:
            return not late
        kind = (pool.device, pool.size)
        awake = sum(member.awake for member in pool.members)
        part = min(CROWD_LESS * self.crowds.get(kind, 1.0), awake / crowd_max(places))
        self.crowds[kind] = part
        return False

    def _late(self, pool: Pool, places: int, demands: Mapping[str, Demand]) -> set[str]:
        outcome = rehearse_pool(pool.members, demands, places, seed=self._seed)
        return {model for model, share in outcome.share.items() if share < demands[model].share}

    def play(self, hoped: Option, demand: Demand) -> None:
        """*hoped* as `known` gave it."""
        most = self._over * demand.rate
        self._rates[hoped.model, hoped.parts] = rate_rehearsed(
            hoped.group,
            demand,
            min(hoped.rate / HOPE, most / OVER),
            seed=self._seed,
            requests=REQUESTS,
            most=most,
        )


def _choice(  # noqa: PLR0917 - all that a plan is made of
    demand: Demand,
    every: Sequence[Option],
    fleet: Fleet,
    solution: Solution,
    gaps: Gaps,
    rehearsals: Rehearsals | None,
) -> Choice:
    """*rehearsals*: of alternatives; without it nobody asks for any."""
    model = demand.model
    return Choice(
        demand=demand,
        options=solution.chosen.get(model, ()),
        pool=solution.pool_of(model),
        alternatives=_alternatives(demand.planned, every, fleet, rehearsals) if rehearsals else (),
        frontier=frontier(demand, every, _home(model, solution, every)) if rehearsals else (),
        why=why(demand, solution, every, gaps),
    )


def _home(model: str, solution: Solution, every: Sequence[Option]) -> str:
    """The kind of device that does most of a model's work, or could do."""
    own = solution.chosen.get(model, ()) or [one for one in every if one.model == model]
    best = max(own, key=lambda option: option.rate, default=None)
    return best.device if best else ""


def _alternatives(
    demand: Demand, every: Sequence[Option], fleet: Fleet, rehearsals: Rehearsals
) -> tuple[Alternative, ...]:
    """For each kind of device and family the fewest devices that serve all of the traffic."""
    found = []
    own = [option for option in every if option.model == demand.model]
    for device in fleet.device_models:
        for family in ("aggregated", "disaggregated"):
            rivals = [
                o
                for o in own
                if o.device == device and o.is_disaggregated == (family == "disaggregated")
            ]
            found.append(Alternative(family, device, _least(demand, rivals, rehearsals)))
    return tuple(found)


def _least(demand: Demand, rivals: Sequence[Option], rehearsals: Rehearsals) -> Option | None:
    """Of those that hold all of *demand*, by rehearsal, the one of the fewest devices."""
    while True:
        fit = [o for o in map(rehearsals.known, rivals) if o.rate >= demand.rate]
        best = min(fit, key=lambda o: (o.devices, -o.rate), default=None)
        if best is None or best.is_rehearsed:
            return best
        rehearsals.play(best, demand)
