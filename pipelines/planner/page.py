"""A plan for people: which topology for which model, and what each alternative would take."""

from collections.abc import Iterator

from rich.text import Text

from pipelines.planner.demand import ALL_SERVED, Objective
from pipelines.planner.pools import AWAKE_MIN_S
from pipelines.planner.views import ModelPlanView, PlanView
from registry.cli.output import Cell, show, show_rows

_BAR = 30
_TITLES = (
    "MODEL",
    "TOPOLOGY",
    "ENGINE",
    "ON",
    "DEVICES>",
    "TIMES",
    "HOLDS/S>",
    "ASKED/S>",
    "SERVED>",
)


def show_plan(plan: PlanView) -> None:
    titles = (*_TITLES, "IN SLO>", "WHY NOT MORE")
    show_rows(titles, (row for model in plan.models for row in _rows(model)))
    for pool in plan.pools:
        show(
            Text(
                f"\npool {pool.name}: {len(pool.models)} models take turns on {pool.places} x "
                f"{pool.devices} {pool.device_model} "
                f"(modelyard pools set {pool.name} --overcommit {pool.overcommit:g} "
                f"--awake-min-s {AWAKE_MIN_S:g})"
            )
        )
    costs = list(_costs(plan))
    if costs:
        show(Text())
        show_rows(("MODEL", "ALONE WITH", "ON", "DEVICES>", ""), costs)
    show(Text(f"\n{_total(plan)}"))
    for note in plan.notes:
        show(Text(f"no place: {note}", style="dim"))
    if any(model.spec for model in plan.models):
        show(Text("-o yaml prints the specs: modelyard apply -f takes them.", style="dim"))


def _total(plan: PlanView) -> str:
    used = ", ".join(f"{count} {name}" for name, count in plan.devices_by_model.items() if count)
    needed = "are needed" if plan.objective is Objective.DEVICES else "are used"
    cost = f" at {plan.cost:g} an hour" if plan.cost != plan.devices else ""
    return (
        f"{plan.devices} of {plan.devices_of_fleet} devices {needed} ({used or 'none'}){cost}, "
        f"{plan.goodput:g} requests/s within their SLO; "
        f"solved {plan.rounds} times, bound {plan.bound:g} of {len(plan.models)} models' traffic "
        f"(by weight), gap {plan.gap:.1%}"
    )


def _rows(model: ModelPlanView) -> Iterator[tuple[Cell, ...]]:
    style = "green" if model.served >= ALL_SERVED else "yellow" if model.served else "red"
    served = Text(f"{model.served:.0%}", style=style)
    named = model.model + (f" (est. as {model.measured_as})" if model.is_estimate else "")
    asked = f"{model.requests_per_s:g}"
    if not model.shapes:
        held = f"{model.confirmed.share:.1%}" if model.confirmed else "-"
        where = f"pool {model.pool}" if model.pool else "-"
        yield (named, where, "-", "-", "-", "-", "-", asked, served, held, model.why)
    for number, shape in enumerate(model.shapes):
        first = number == 0
        yield (
            named if first else "",
            f"{shape.family} {shape.shape}",
            shape.engine,
            shape.device_model,
            str(shape.devices),
            shape.times.value,
            f"{shape.rate:.3g}",
            asked if first else "",
            served if first else "",
            f"{model.confirmed.share:.1%}" if first and model.confirmed else "",
            model.why if first else "",
        )


def _costs(plan: PlanView) -> Iterator[tuple[Cell, ...]]:
    """What serving all of a model's traffic alone would take, as bars of devices."""
    costs = [
        (model, one, one.shape)
        for model in plan.models
        for one in model.alternatives
        if one.shape is not None
    ]
    most = max((shape.devices for _, _, shape in costs), default=1)
    last = ""
    for model, one, taken in costs:
        chosen = any(
            shape.family == one.family and shape.device_model == one.device_model
            for shape in model.shapes
        )
        bar = "█" * max(1, round(_BAR * taken.devices / most))
        yield (
            model.model if model.model != last else "",
            f"{one.family} {taken.shape}",
            one.device_model,
            str(taken.devices),
            Text(bar, style="green" if chosen else "dim"),
        )
        last = model.model
