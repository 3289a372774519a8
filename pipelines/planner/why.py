"""Why a model gets no more than it gets, in words. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from pipelines.planner.demand import ALL_SERVED, Demand
from pipelines.planner.fleet import Fleet
from pipelines.planner.options import Gaps, Missing, Option
from pipelines.planner.solve import Solution
from registry.errors import SpecError

UNMEASURED = (
    "nothing has been measured of it on the devices of this fleet: measure it there (modelyard "
    "measure), or name a like model with measured_as"
)


def why(demand: Demand, solution: Solution, every: Sequence[Option], gaps: Gaps) -> str:
    """What keeps a model from more than *solution* gives it; *every* option there was for it."""
    model = demand.model
    if solution.pool_of(model):
        return "it is seldom asked: it takes turns with others"
    if any(option.model == model for option in every):
        return _why_chosen(demand, solution)
    if gaps.missing and model not in gaps.measured:
        return UNMEASURED
    return "no shape of it is within the SLO on any device of the fleet"


def _why_chosen(demand: Demand, solution: Solution) -> str:
    chosen, held = solution.chosen.get(demand.model, ()), solution.held(demand)
    if not chosen:
        return "the devices of the fleet: others' traffic weighs more"
    if held >= demand.planned.rate * ALL_SERVED:
        first = max(chosen, key=lambda option: option.rate)
        return f"{first.binding} would be missed first at a higher rate"
    if held >= demand.rate * ALL_SERVED:
        spare = max(0.0, held / demand.rate - 1)
        return f"the devices of the fleet: headroom is {spare:.0%} instead of {demand.headroom:.0%}"
    return "the devices of the fleet: more of them would serve more of it"


def refuse_short(
    demands: Iterable[Demand], solution: Solution, every: Sequence[Option], gaps: Gaps
) -> None:
    """Raises SpecError where *solution*, the best in goodput, does not hold all of the traffic, and
    says of which models how much is lacking.
    """
    short = [one for one in demands if solution.held(one) < one.planned.rate * ALL_SERVED]
    if not short:
        return
    said = "; ".join(_short(demand, solution, every, gaps) for demand in short)
    more = f" (the solver's gap is {solution.gap:.1%})" if solution.gap > 0 else ""
    raise SpecError(
        "fleet",
        f"is too small to serve all of the traffic. At best{more}, as the objective goodput plans "
        f"it: {said}. Allowed is a fleet with room for all, or the objective goodput",
    )


def _short(demand: Demand, solution: Solution, every: Sequence[Option], gaps: Gaps) -> str:
    held, wanted = solution.held(demand), demand.planned.rate
    spare = f" ({demand.rate:g} and headroom)" if demand.headroom else ""
    return (
        f"{demand.model} has {held:.3g} of {wanted:.3g} requests/s{spare} "
        f"({held / wanted:.0%}; {why(demand, solution, every, gaps)})"
    )


def unfit(
    demands: Mapping[str, Demand], every: Sequence[Option], fleet: Fleet, gaps: Gaps
) -> Iterator[Missing]:
    """Where a model cannot be served at all, the first reason for each kind of device."""
    fit = {(option.model, option.device) for option in every}
    for model in demands:
        for device in fleet.device_models:
            if (model, device) not in fit:
                reasons = (
                    m for m in gaps.missing if m.model == model and m.worker.device == device
                )
                largest = max(reasons, key=lambda m: m.worker.devices, default=None)
                if largest:
                    yield largest
