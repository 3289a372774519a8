"""From traffic and fleet to the plan that is shown: what the CLI and the admin API ask for.

Needs the optional dependencies (`extra.require`).
"""

from collections.abc import Mapping
from pathlib import Path

from pipelines.planner.demand import Demand, Objective, sampled, spread
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
from pipelines.planner.silicon import Silicon, known_models
from pipelines.planner.solve import Pool
from pipelines.planner.specs import overcommit, pool_name, spec_of
from pipelines.planner.traces import TraceError, rate_of, read
from pipelines.planner.views import (
    AlternativeView,
    ConfirmedView,
    ModelPlanView,
    PlanView,
    PoolView,
    ShapeView,
)
from registry.errors import SpecError
from registry.spec import to_data


def recommend(
    traffic: Traffic,
    fleet: Fleet,
    *,
    folder: Path | None,
    objective: Objective = Objective.GOODPUT,
    seed: int = 0,
    tell: Tell = quiet,
) -> PlanView:
    """Traces are found from *folder*; without one there may be none. *tell* is told what is being
    done. Raises SpecError, where *objective* cannot be met on *fleet*, too.
    """
    subjects, like = _subjects(traffic, folder, known_models())
    made = plan(subjects, fleet, objective=objective, seed=seed, tell=tell)
    tell("playing the plan through")
    return view(made, {model.name: model.source for model in traffic.models}, like)


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
        rate = rate or rate_of(arrivals)
    else:
        lengths = spread(model.prompt_tokens, model.answer_tokens, model.length_cv)
    return Demand(
        model=model.name,
        rate=rate,
        lengths=lengths,
        slo=model.slo,
        share=model.share,
        weight=model.weight,
        headroom=model.headroom or 0.0,
    )


def _subjects(
    traffic: Traffic, folder: Path | None, known: tuple[str, ...]
) -> tuple[list[Subject], dict[str, Likeness]]:
    subjects, like = [], {}
    for number, model in enumerate(traffic.models):
        where = f"models[{number}]."
        found = _likeness(model, known, where)
        like[model.name] = found
        subjects.append(
            Subject(
                demand=demand_of(model, folder, where),
                times_of=scaled(Silicon(found.measured).times, found.factor),
                engines=model.engines,
            )
        )
    return subjects, like


def _likeness(model: ModelTraffic, known: tuple[str, ...], where: str) -> Likeness:
    if model.measured_as:
        if model.measured_as not in known:
            raise SpecError(
                f"{where}measured_as",
                f"is {model.measured_as!r}, allowed are {', '.join(known)}",
            )
        return Likeness(model.measured_as)
    name = model.source.partition("://")[2].partition("@")[0]
    found = likeness(name, known)
    if found is None:
        raise SpecError(
            f"{where}measured_as",
            f"is missing: {name!r} is not among the measured models, and its name says no size "
            f"(as 8B or 30B-A3B do); allowed are {', '.join(known)}",
        )
    return found


def view(plan: Plan, sources: Mapping[str, str], like: Mapping[str, Likeness]) -> PlanView:
    by_model = {choice.demand.model: choice.demand for choice in plan.choices}
    return PlanView(
        models=tuple(_model(choice, by_model, sources, like) for choice in plan.choices),
        pools=tuple(_pool(pool) for pool in plan.pools),
        goodput=round(plan.goodput, 3),
        objective=plan.objective,
        devices=plan.devices,
        cost=round(plan.cost, 3),
        devices_of_fleet=plan.fleet.devices,
        devices_by_model=dict(plan.devices_by_model),
        gap=round(plan.gap, 4),
        rounds=plan.rounds,
        notes=tuple(one.reason for one in plan.unfit),
    )


def _model(
    choice: Choice,
    by_model: Mapping[str, Demand],
    sources: Mapping[str, str],
    like: Mapping[str, Likeness],
) -> ModelPlanView:
    name = choice.demand.model
    return ModelPlanView(
        model=name,
        requests_per_s=round(choice.demand.rate, 4),
        headroom=choice.demand.headroom,
        served=round(choice.served, 4),
        goodput=round(choice.goodput, 4),
        shapes=tuple(_shape(option, choice) for option in choice.options),
        pool=pool_name(choice.pool) if choice.pool else "",
        why=choice.why,
        measured_as=like[name].measured,
        is_estimate=like[name].is_estimate,
        confirmed=_confirmed(choice, by_model),
        alternatives=tuple(_alternative(one, choice) for one in choice.alternatives),
        frontier=choice.frontier,
        spec=to_data(spec_of(choice, sources[name])) if choice.options or choice.pool else None,
    )


def _shape(option: Option, choice: Choice) -> ShapeView:
    return ShapeView(
        shape=option.label,
        family="disaggregated" if option.is_disaggregated else "aggregated",
        engine=option.engine,
        device_model=option.device,
        devices=option.devices,
        rate=round(option.rate, 4),
        tokens_per_device=round(option.rate * choice.demand.answer / option.devices, 1),
        binding=option.binding,
    )


def _alternative(one: Alternative, choice: Choice) -> AlternativeView:
    return AlternativeView(
        family=one.family,
        device_model=one.device,
        shape=_shape(one.option, choice) if one.option else None,
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
