"""Each model in a shape of its own, beside all in one: at equal devices and equal traffic."""

from collections.abc import Callable, Iterator, Sequence
from statistics import median

import msgspec
from simulation.planning.bursts import REQUESTS, Bursts, bursts, stretch_of
from simulation.planning.forms import forms, options_of
from simulation.planning.mixes import FLEETS, MIXES, Member, subjects, trace
from simulation.planning.router import chooser

from pipelines.planner.fleet import Fleet
from pipelines.planner.options import Option, options
from pipelines.planner.plan import Choice, Plan, Rehearsals, choose
from pipelines.planner.rehearsal import rate_rehearsed
from pipelines.planner.solve import solve

FORMS_REHEARSED = 3  # of all, those that formulas find best
SEEDS = (101, 102, 103)  # none of those that the plan was rehearsed with
FULL = 0.995
PARTS = (FULL, 0.75, 0.5, 0.25)  # of the traffic, the first that the fleet has room for
MANY = 1000.0  # requests a second for each share: more than any of these fleets carries
STEP = 0.04  # how closely the traffic that is carried is found
OWN, AGGREGATED, DISAGGREGATED = "per model", "all aggregated", "all disaggregated"
SHARED = "one shared: "

Mix = tuple[Member, ...]
Tell = Callable[[str], None]


class Contestant(msgspec.Struct, frozen=True, kw_only=True):
    """*carried*: the most requests a second of the whole mix that are served in full, each model
    its part; 0 where one of the models finds no place at all. The rest is at one traffic for all,
    that which shapes of their own carry. *served*: the mean share of a model's traffic.
    *confirmed*: what was seen of the promised goodput under other seeds. *bursts*: when requests of
    the traces come as they came, the mean over models; *device_hours* of all of them together.
    """

    name: str
    carried: float
    served: float
    goodput: float
    devices: int
    confirmed: float
    bursts: float
    bursts_scaled: float
    device_hours: float
    device_hours_scaled: float
    topologies: dict[str, str]


class Whole(msgspec.Struct, frozen=True, kw_only=True):
    """A model in a shape of its own under the whole of its trace, at the planned mean rate."""

    model: str
    workers: str
    rate: float
    bursts: Bursts


class Contest(msgspec.Struct, frozen=True, kw_only=True):
    """*rate*: the requests a second of the mix at which all were planned for. *wholes*: what the
    pipelines per model make of whole traces.
    """

    fleet: str
    models: int
    rate: float
    contestants: tuple[Contestant, ...]
    wholes: tuple[Whole, ...]

    def of(self, name: str) -> Contestant:
        return next(one for one in self.contestants if one.name.startswith(name))

    def dividend(self, over: str) -> float:
        """How much more of its traffic the mean model has served in shapes of their own."""
        return self.of(OWN).served / max(self.of(over).served, 1e-9)


def contest(fleet_name: str, count: int, *, seed: int, tell: Tell) -> Contest:
    """At the traffic that shapes of their own carry in full."""
    stage = _Stage(FLEETS[fleet_name], MIXES[count], seed, tell)
    tell("shapes")
    every = [
        option
        for subject in subjects(stage.mix, MANY)
        for option in options(
            subject.demand, subject.times_of, stage.fleet, engines=subject.engines
        )
    ]
    rivals: dict[str, Sequence[Option]] = {
        OWN: every,
        AGGREGATED: [one for one in every if not one.is_disaggregated],
        DISAGGREGATED: [one for one in every if one.is_disaggregated],
    }
    scale = next(filter(None, (stage.carried(every, OWN, least=part) for part in PARTS)), 0.0)
    if not scale:
        raise ValueError(f"{fleet_name} has no room for even a quarter of {count} models")
    found = [stage.judged(name, offered, scale) for name, offered in rivals.items()]
    found.append(_shared(stage, scale))
    rate = scale * sum(member.share for member in stage.mix)
    return Contest(
        fleet=fleet_name,
        models=count,
        rate=round(rate, 3),
        contestants=tuple(found),
        wholes=tuple(_wholes(stage, every, scale)),
    )


class _Stage:
    """A fleet and a mix; what was rehearsed once serves all plans on them."""

    def __init__(self, fleet: Fleet, mix: Mix, seed: int, tell: Tell) -> None:
        self.fleet = fleet
        self.mix = mix
        self.seed = seed
        self.tell = tell
        self._rehearsals = Rehearsals(seed)

    def plan(self, offered: Sequence[Option], scale: float) -> Plan:
        demands = [subject.demand for subject in subjects(self.mix, scale)]
        return choose(
            demands, offered, self.fleet, self._rehearsals, seed=self.seed, with_alternatives=False
        )

    def by_formula(self, offered: Sequence[Option], scale: float) -> float:
        """The mean share served, if formulas were right."""
        demands = [subject.demand for subject in subjects(self.mix, scale)]
        return solve(demands, offered, self.fleet, seed=self.seed).served / len(demands)

    def carried(self, offered: Sequence[Option], name: str, *, least: float) -> float:
        """The highest scale at which *least* of the traffic is served."""
        low = high = 0.01
        if self.by_formula(offered, low) < least:
            return 0.0
        while self.by_formula(offered, high) >= least:
            low, high = high, 2 * high
        low = 0.0  # formulas promise too much: they bound from above
        while high - low > STEP * high:
            middle = (low + high) / 2 if low else high * 0.8
            self.tell(f"{name}: {middle:.3g} carried?")
            if _served(self.plan(offered, middle)) >= least:
                low = middle
            else:
                high = middle
            if high < 0.01:
                return 0.0
        return low

    def judged(self, name: str, offered: Sequence[Option], scale: float) -> Contestant:
        total = sum(member.share for member in self.mix)
        carried = self.carried(offered, name, least=FULL)
        self.tell(name)
        return _contestant(name, self.plan(offered, scale), self, carried * total)


def _shared(stage: _Stage, scale: float) -> Contestant:
    """The best of all forms: ranked by formula, the first of them rehearsed."""
    fleet, asked = stage.fleet, subjects(stage.mix, MANY)
    worker_max = max(fleet.worker_max(device) for device in fleet.device_models)
    ranked = []
    for form in forms(worker_max, fleet.devices):
        stage.tell(f"{SHARED}{form.label}")
        offered = options_of(form, asked, fleet)
        if offered:
            ranked.append((stage.by_formula(offered, scale), form.label, offered))
    ranked.sort(key=lambda one: (-one[0], one[1]))
    found = [
        stage.judged(f"{SHARED}{label}", offered, scale)
        for _, label, offered in ranked[:FORMS_REHEARSED]
    ]
    return max(found, key=lambda one: (one.served, one.carried))


def _wholes(stage: _Stage, every: Sequence[Option], scale: float) -> Iterator[Whole]:
    traces = {member.name: member.trace for member in stage.mix}
    for choice in stage.plan(every, scale).choices:
        name = choice.demand.model
        if choice.options:
            stage.tell(f"the whole trace of {name}")
            yield Whole(
                model=name,
                workers=_label(choice),
                rate=round(min(choice.demand.rate, choice.rate), 3),
                bursts=bursts(choice, trace(traces[name]), stage.seed),
            )


def _label(choice: Choice) -> str:
    return " + ".join(f"{o.label} {o.engine} {o.device}" for o in choice.options)


def _served(plan: Plan) -> float:
    return sum(choice.served for choice in plan.choices) / len(plan.choices)


def _contestant(name: str, plan: Plan, stage: _Stage, carried: float) -> Contestant:
    traces = {member.name: member.trace for member in stage.mix}
    served = [choice for choice in plan.choices if choice.options]
    confirmed = [_confirmed(choice, stage.seed) for choice in served]
    under = [
        bursts(choice, stretch_of(trace(traces[choice.demand.model]), stage.seed), stage.seed)
        for choice in served
    ]
    count = max(1, len(under))
    return Contestant(
        name=name,
        carried=round(carried, 3),
        served=round(_served(plan), 4),
        goodput=round(plan.goodput, 3),
        devices=plan.devices,
        confirmed=round(sum(confirmed) / plan.goodput, 3) if plan.goodput else 0.0,
        bursts=round(sum(one.share for one in under) / count, 4),
        bursts_scaled=round(sum(one.share_scaled for one in under) / count, 4),
        device_hours=round(sum(one.device_hours for one in under), 3),
        device_hours_scaled=round(sum(one.device_hours_scaled for one in under), 3),
        topologies={choice.demand.model: _label(choice) for choice in plan.choices},
    )


def _confirmed(choice: Choice, seed: int) -> float:
    """The rate within the SLO under other seeds and the gateway's own router, of each option the
    median of three: up to what is planned for it.
    """
    load = min(1.0, choice.demand.rate / choice.rate)
    return sum(
        median(
            rate_rehearsed(
                option.group,
                choice.demand,
                option.rate * load,
                seed=other,
                requests=REQUESTS,
                most=option.rate * load,
                choose=chooser(seed),
            )
            for other in SEEDS
        )
        for option in choice.options
    )
