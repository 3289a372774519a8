"""From traffic and fleet to the plan that is shown: what the CLI and the admin API ask for.

Needs the optional dependencies (`extra.require`).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from pipelines.planner.demand import Demand, Objective, longest, sampled, spread
from pipelines.planner.fleet import Fleet
from pipelines.planner.inputs import ModelTraffic, Traffic
from pipelines.planner.nearest import Likeness, likeness, scaled
from pipelines.planner.options import Option
from pipelines.planner.plan import (
    CONFIRM_SEEDS,
    Alternative,
    Choice,
    Plan,
    Subject,
    Tell,
    confirm,
    plan,
    quiet,
)
from pipelines.planner.pools import rehearse_pool
from pipelines.planner.profiled import MeasuredFirst
from pipelines.planner.silicon import Silicon, known_models
from pipelines.planner.solve import Pool
from pipelines.planner.specs import overcommit, pool_name, spec_of
from pipelines.planner.times import Worker
from pipelines.planner.traces import TraceError, rate_of, read
from pipelines.planner.views import (
    AlternativeView,
    ConfirmedView,
    ModelPlanView,
    PlanView,
    PoolView,
    ShapeView,
    TimesFrom,
)
from registry.errors import SpecError
from registry.spec import to_data
from registry.state import Profile


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a model's step times; *like* is None where the data has none."""

    source: str
    here: MeasuredFirst
    like: Likeness | None

    def times_from(self, workers: Sequence[Worker]) -> TimesFrom:
        """What is least sure, of all *workers*."""
        if workers and all(map(self.here.has, workers)):
            return TimesFrom.MEASURED
        is_estimate = self.like is not None and self.like.is_estimate
        return TimesFrom.ESTIMATE if is_estimate else TimesFrom.DATA


def recommend(
    traffic: Traffic,
    fleet: Fleet,
    profiles: Sequence[Profile] = (),
    *,
    folder: Path | None,
    objective: Objective = Objective.GOODPUT,
    seed: int = 0,
    tell: Tell = quiet,
) -> PlanView:
    """By what was measured on this fleet, *profiles*, where there is that. Traces are found from
    *folder*; without one there may be none. *tell* is told what is being done. Raises SpecError,
    where *objective* cannot be met on *fleet*, too.
    """
    subjects, known = _subjects(traffic, profiles, folder)
    made = plan(subjects, fleet, objective=objective, seed=seed, tell=tell)
    tell("playing the plan through")
    return view(made, known)


def demand_of(model: ModelTraffic, folder: Path | None, where: str = "") -> Demand:
    """Its traces are found from *folder*. Raises SpecError."""
    rate = model.requests_per_s
    if model.trace:
        if folder is None:
            raise SpecError(f"{where}trace", "is for files of the command line: leave it out")
        try:
            arrivals = read(folder / model.trace)
        except TraceError as error:
            raise SpecError(f"{where}trace", f"{model.trace}: {error}") from None
        lengths = sampled([arrival.length for arrival in arrivals])
        longest_tokens = longest(arrival.length for arrival in arrivals)
        rate = rate or rate_of(arrivals)
    else:
        lengths = spread(model.prompt_tokens, model.answer_tokens, model.length_cv)
        longest_tokens = 0
    return Demand(
        model=model.name,
        rate=rate,
        lengths=lengths,
        slo=model.slo,
        share=model.share,
        weight=model.weight,
        headroom=model.headroom or 0.0,
        longest_tokens=longest_tokens,
    )


def _subjects(
    traffic: Traffic, profiles: Sequence[Profile], folder: Path | None
) -> tuple[list[Subject], dict[str, Known]]:
    subjects, known = [], {}
    for number, model in enumerate(traffic.models):
        where = f"models[{number}]."
        found = known[model.name] = _known(model, profiles, where)
        subjects.append(
            Subject(
                demand=demand_of(model, folder, where),
                times_of=found.here.times,
                engines=model.engines,
            )
        )
    return subjects, known


def _known(model: ModelTraffic, profiles: Sequence[Profile], where: str) -> Known:
    """Raises SpecError for a model that nothing is known of."""
    is_measured = any(profile.source == model.source for profile in profiles)
    like = _likeness(model, known_models(), where, is_needed=not is_measured)
    otherwise = scaled(Silicon(like.measured).times, like.factor) if like else None
    here = MeasuredFirst(model.source, profiles, otherwise)
    return Known(source=model.source, here=here, like=like)


def _likeness(
    model: ModelTraffic, known: tuple[str, ...], where: str, *, is_needed: bool
) -> Likeness | None:
    if model.measured_as:
        if model.measured_as not in known:
            raise SpecError(
                f"{where}measured_as",
                f"is {model.measured_as!r}, allowed are {', '.join(known)}",
            )
        return Likeness(model.measured_as)
    name = model.source.partition("://")[2].partition("@")[0]
    found = likeness(name, known)
    if found is None and is_needed:
        raise SpecError(
            f"{where}measured_as",
            f"is missing: {name!r} is not among the measured models, was not measured here "
            "(modelyard measure), and its name says no size (as 8B or 30B-A3B do); allowed are "
            f"{', '.join(known)}",
        )
    return found


def view(plan: Plan, known: Mapping[str, Known]) -> PlanView:
    by_model = {choice.demand.model: choice.demand for choice in plan.choices}
    return PlanView(
        models=tuple(
            _model(choice, by_model, known[choice.demand.model]) for choice in plan.choices
        ),
        pools=tuple(_pool(pool) for pool in plan.pools),
        goodput=round(plan.goodput, 3),
        objective=plan.objective,
        devices=plan.devices,
        cost=round(plan.cost, 3),
        devices_of_fleet=plan.fleet.devices,
        devices_by_model=dict(plan.devices_by_model),
        gap=round(plan.gap, 4),
        bound=round(plan.bound, 4),
        rounds=plan.rounds,
        notes=tuple(one.reason for one in plan.unfit),
    )


def _model(choice: Choice, by_model: Mapping[str, Demand], known: Known) -> ModelPlanView:
    return ModelPlanView(
        model=choice.demand.model,
        requests_per_s=round(choice.demand.rate, 4),
        headroom=choice.demand.headroom,
        served=round(choice.served, 4),
        goodput=round(choice.goodput, 4),
        shapes=tuple(_shape(option, choice, known) for option in choice.options),
        pool=pool_name(choice.pool) if choice.pool else "",
        why=choice.why,
        measured=known.here.shapes,
        measured_as=known.like.measured if known.like else "",
        is_estimate=known.times_from(_workers(choice)) is TimesFrom.ESTIMATE,
        confirmed=_confirmed(choice, by_model),
        alternatives=tuple(_alternative(one, choice, known) for one in choice.alternatives),
        frontier=choice.frontier,
        spec=to_data(spec_of(choice, known.source)) if choice.options or choice.pool else None,
    )


def _workers(choice: Choice) -> list[Worker]:
    """Those of what was chosen."""
    if choice.pool is not None:
        return [one.worker for one in choice.pool.members if one.model == choice.demand.model]
    return [part.worker for option in choice.options for part in option.parts]


def _shape(option: Option, choice: Choice, known: Known) -> ShapeView:
    return ShapeView(
        shape=option.label,
        family="disaggregated" if option.is_disaggregated else "aggregated",
        engine=option.engine,
        device_model=option.device,
        devices=option.devices,
        rate=round(option.rate, 4),
        tokens_per_device=round(option.rate * choice.demand.answer / option.devices, 1),
        binding=option.binding,
        times=known.times_from([part.worker for part in option.parts]),
    )


def _alternative(one: Alternative, choice: Choice, known: Known) -> AlternativeView:
    return AlternativeView(
        family=one.family,
        device_model=one.device,
        shape=_shape(one.option, choice, known) if one.option else None,
    )


def _pool(pool: Pool) -> PoolView:
    return PoolView(
        name=pool_name(pool),
        device_model=pool.device,
        places=pool.places,
        devices=pool.size,
        models=tuple(sorted(member.model for member in pool.members)),
        overcommit=float(overcommit(pool)),
    )


def _in_pool(choice: Choice, pool: Pool, by_model: Mapping[str, Demand]) -> ConfirmedView:
    (member,) = (one for one in pool.members if one.model == choice.demand.model)
    shares = sorted(
        rehearse_pool(pool.members, by_model, pool.places, seed=seed).share[member.model]
        for seed in CONFIRM_SEEDS
    )
    return ConfirmedView(
        share=round(shares[len(shares) // 2], 4),
        share_worst=round(shares[0], 4),
        ttft_p95_s=round(member.wake_s + member.first_s, 4),
        tpot_p95_s=round((member.serves_s - member.first_s) / max(1.0, choice.demand.answer), 5),
    )


def _confirmed(choice: Choice, by_model: Mapping[str, Demand]) -> ConfirmedView | None:
    if choice.pool is not None:
        return _in_pool(choice, choice.pool, by_model)
    if not choice.options:
        return None
    load = sum(option.rate for option in choice.options)
    played = []
    for seed in CONFIRM_SEEDS:
        outcomes = confirm(choice, seed)
        share = sum(outcome.share * option.rate for option, outcome in outcomes) / load
        slowest = max(outcomes, key=lambda pair: pair[1].ttft_s[1])[1]
        played.append((share, slowest.ttft_s[1], max(o.tpot_s[1] for _, o in outcomes)))
    played.sort()
    share, ttft_s, tpot_s = played[len(played) // 2]
    return ConfirmedView(
        share=round(share, 4),
        share_worst=round(played[0][0], 4),
        ttft_p95_s=round(ttft_s, 4),
        tpot_p95_s=round(tpot_s, 5),
    )
