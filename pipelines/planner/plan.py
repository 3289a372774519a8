"""The plan: options by formula, the best of them together, and what was chosen played through.

A formula promises too much where arrivals bunch or a router sees less than one queue would. So each
option that is chosen is rehearsed, its rate corrected, and all is solved anew, until everything
chosen has been rehearsed.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from pipelines.planner.demand import Demand
from pipelines.planner.fleet import Fleet
from pipelines.planner.options import Missing, Option, TimesOf, options
from pipelines.planner.rehearsal import Outcome, poisson, rate_rehearsed, rehearse
from pipelines.planner.solve import WORK_S, Solution, solve

ROUNDS_MAX = 12
HOPE = 1.1  # formulas were seen to promise up to that much too little
REQUESTS = 3000  # of a rehearsal
CONFIRM_SEEDS = (101, 102, 103)  # others than those that corrected the rates
_OVER = 1.02  # a rate is looked for up to a little above what is asked


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
    """What a model gets. *rate* is what it holds, *served* what of the traffic that is; *why* says
    what keeps it from more.
    """

    demand: Demand
    options: tuple[Option, ...]
    alternatives: tuple[Alternative, ...]
    why: str

    @property
    def rate(self) -> float:
        return sum(option.rate for option in self.options)

    @property
    def served(self) -> float:
        return min(1.0, self.rate / self.demand.rate)

    @property
    def goodput(self) -> float:
        return min(self.rate, self.demand.rate)


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """*rounds* is how often it was solved; *gap* by how much of itself the sum of the weighted
    shares may be too little, for the rates as they were rehearsed. *unfit*: where a model cannot be
    served at all, the first reason for each kind of device.
    """

    choices: tuple[Choice, ...]
    devices: int
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


Allowed = Callable[[Option], bool]


def plan(
    subjects: Sequence[Subject],
    fleet: Fleet,
    *,
    allowed: Allowed = lambda _: True,
    seed: int = 0,
    work_s: float = WORK_S,
    tell: Callable[[str], None] = lambda _: None,
) -> Plan:
    """The best topology for each of *subjects* on *fleet*, among the options that are *allowed*."""
    subjects = sorted(subjects, key=lambda subject: subject.demand.model)
    missing: list[Missing] = []
    every: list[Option] = []
    for subject in subjects:
        tell(f"shapes of {subject.demand.model}")
        every += options(
            subject.demand, subject.times_of, fleet, engines=subject.engines, missing=missing
        )
    return chosen_of(subjects, every, fleet, allowed, missing, seed=seed, work_s=work_s, tell=tell)


def chosen_of(
    subjects: Sequence[Subject],
    every: Sequence[Option],
    fleet: Fleet,
    allowed: Allowed = lambda _: True,
    missing: Sequence[Missing] = (),
    *,
    seed: int = 0,
    work_s: float = WORK_S,
    tell: Callable[[str], None] = lambda _: None,
) -> Plan:
    """As `plan`, among the options *every*."""
    demands = {subject.demand.model: subject.demand for subject in subjects}
    known = _Rehearsed(demands, every, seed)
    rounds = 0
    while True:
        rounds += 1
        is_last = rounds >= ROUNDS_MAX
        offered = [o for o in known.options() if allowed(o) and (o.is_rehearsed or not is_last)]
        tell(f"solving, round {rounds}: {len(offered)} options of {len(demands)} models")
        solution = solve(list(demands.values()), offered, fleet, seed=seed, work_s=work_s)
        new = [o for found in solution.chosen.values() for o in found if not o.is_rehearsed]
        if not new:
            break
        for option in new:
            tell(f"rehearsing {option.model}: {option.label} on {option.device}")
            known.rehearse(option)
    return _plan(demands, solution, known, fleet, allowed=allowed, missing=missing, rounds=rounds)


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


class _Rehearsed:
    """All options, those that were rehearsed with the rate they were seen to hold."""

    def __init__(self, demands: Mapping[str, Demand], every: Sequence[Option], seed: int) -> None:
        self._demands = demands
        self._seed = seed
        self._options = [
            msgspec.structs.replace(o, rate=HOPE * o.rate)
            for o in every
            if o.model in demands and not o.is_rehearsed
        ]

    def options(self) -> list[Option]:
        return [option for option in self._options if option.rate > 0]

    def rehearse(self, option: Option) -> Option:
        demand = self._demands[option.model]
        promised = min(option.rate / HOPE, demand.rate)
        rate = rate_rehearsed(
            option.group,
            demand,
            promised,
            seed=self._seed,
            requests=REQUESTS,
            most=_OVER * demand.rate,
        )
        found = msgspec.structs.replace(option, rate=rate, is_rehearsed=True)
        self._options[self._options.index(option)] = found
        return found


def _plan(
    demands: Mapping[str, Demand],
    solution: Solution,
    known: _Rehearsed,
    fleet: Fleet,
    *,
    allowed: Allowed,
    missing: Sequence[Missing],
    rounds: int,
) -> Plan:
    offered = [option for option in known.options() if allowed(option)]
    choices = tuple(
        Choice(
            demand=demand,
            options=solution.chosen.get(model, ()),
            alternatives=_alternatives(demand, known, fleet),
            why=_why(demand, solution, offered),
        )
        for model, demand in demands.items()
    )
    used = dict.fromkeys(fleet.device_models, 0)
    for choice in choices:
        for option in choice.options:
            used[option.device] += option.devices
    return Plan(
        choices=choices,
        devices=solution.devices,
        devices_by_model=used,
        fleet=fleet,
        gap=solution.gap,
        bound=solution.bound,
        rounds=rounds,
        unfit=tuple(_unfit(demands, known.options(), fleet, missing)),
    )


def _unfit(
    demands: Mapping[str, Demand],
    every: Sequence[Option],
    fleet: Fleet,
    missing: Sequence[Missing],
) -> Iterator[Missing]:
    fit = {(option.model, option.device) for option in every}
    for model in demands:
        for device in fleet.device_models:
            if (model, device) not in fit:
                reasons = (m for m in missing if m.model == model and m.worker.device == device)
                largest = max(reasons, key=lambda m: m.worker.devices, default=None)
                if largest:
                    yield largest


def _alternatives(demand: Demand, known: _Rehearsed, fleet: Fleet) -> tuple[Alternative, ...]:
    """For each family and kind of device the fewest devices that serve all of the traffic."""
    found = []
    for device in fleet.device_models:
        for family in ("aggregated", "disaggregated"):
            fitting: Option | None = None
            while fitting is None:
                options = (
                    o
                    for o in known.options()
                    if o.model == demand.model
                    and o.device == device
                    and o.is_disaggregated == (family == "disaggregated")
                    and o.rate >= demand.rate * (1 if o.is_rehearsed else HOPE)
                )
                fitting = min(options, key=lambda o: (o.devices, -o.rate), default=None)
                if fitting is None:
                    break
                if not fitting.is_rehearsed:
                    known.rehearse(fitting)
                    fitting = None
            found.append(Alternative(family, device, fitting))
    return tuple(found)


def _why(demand: Demand, solution: Solution, offered: Sequence[Option]) -> str:
    own = [option for option in offered if option.model == demand.model]
    if not own:
        return "no shape of it is within the SLO on any device of the fleet"
    chosen = solution.chosen.get(demand.model, ())
    served = sum(option.rate for option in chosen)
    if served >= demand.rate * 0.999:
        first = max(chosen, key=lambda option: option.rate)
        return f"{first.binding} would be missed first at a higher rate"
    if not chosen:
        return "the devices of the fleet: others' traffic weighs more"
    return "the devices of the fleet: more of them would serve more of it"
