"""A plan for people: which topology for which model, and what each alternative would take."""

import sys

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipelines.planner.views import ModelPlanView, PlanView

_UNWRAPPED_COLUMNS = 10_000
_BAR = 30
_ALL_SERVED = 0.999


def show(shown: PlanView) -> None:
    out = Console(
        highlight=False,
        markup=False,
        emoji=False,
        width=None if sys.stdout.isatty() else _UNWRAPPED_COLUMNS,
    )
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for title in ("MODEL", "TOPOLOGY", "ENGINE", "ON"):
        table.add_column(title, no_wrap=True)
    for title in ("DEVICES", "HOLDS/S", "ASKED/S", "SERVED", "IN SLO"):
        table.add_column(title, no_wrap=True, justify="right")
    table.add_column("WHY NOT MORE")
    for model in shown.models:
        _rows(table, model)
    _print(out, table)
    for pool in shown.pools:
        out.print()
        out.print(
            f"pool {pool.name}: {len(pool.models)} models take turns on {pool.places} x "
            f"{pool.devices} {pool.device_model} "
            f"(modelyard pools set {pool.name} --overcommit {pool.overcommit:g})"
        )
    _alternatives(out, shown)
    used = ", ".join(f"{count} {name}" for name, count in shown.devices_by_model.items() if count)
    out.print()
    out.print(
        f"{shown.devices} of {shown.devices_of_fleet} devices ({used or 'none'}), "
        f"{shown.goodput:g} requests/s within their SLO; "
        f"solved {shown.rounds} times, gap {shown.gap:.1%}"
    )
    for note in shown.notes:
        out.print(Text(f"no place: {note}", style="dim"))
    if any(model.spec for model in shown.models):
        out.print(Text("-o yaml prints the specs: modelyard apply -f takes them.", style="dim"))


def _rows(table: Table, model: ModelPlanView) -> None:
    style = "green" if model.served >= _ALL_SERVED else "yellow" if model.served else "red"
    served = Text(f"{model.served:.0%}", style=style)
    named = model.model + (f" (est. as {model.measured_as})" if model.is_estimate else "")
    asked = f"{model.requests_per_s:g}"
    if not model.shapes:
        held = f"{model.confirmed.share:.1%}" if model.confirmed else "-"
        where = f"pool {model.pool}" if model.pool else "-"
        table.add_row(named, where, "-", "-", "-", "-", asked, served, held, model.why)
    for number, shape in enumerate(model.shapes):
        first = number == 0
        table.add_row(
            named if first else "",
            f"{shape.family} {shape.shape}",
            shape.engine,
            shape.device_model,
            str(shape.devices),
            f"{shape.rate:.3g}",
            asked if first else "",
            served if first else "",
            f"{model.confirmed.share:.1%}" if first and model.confirmed else "",
            model.why if first else "",
        )


def _alternatives(out: Console, shown: PlanView) -> None:
    """What serving all of a model's traffic alone would take, as bars of devices."""
    costs = [
        (model, one)
        for model in shown.models
        for one in model.alternatives
        if one.shape is not None
    ]
    if not costs:
        return
    most = max(one.shape.devices for _, one in costs if one.shape)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for title in ("MODEL", "ALONE WITH", "ON"):
        table.add_column(title, no_wrap=True)
    table.add_column("DEVICES", no_wrap=True, justify="right")
    table.add_column("", no_wrap=True)
    last = ""
    for model, one in costs:
        if one.shape is None:
            continue
        chosen = any(
            shape.family == one.family and shape.device_model == one.device_model
            for shape in model.shapes
        )
        bar = Text("█" * max(1, round(_BAR * one.shape.devices / most)))
        bar.stylize("green" if chosen else "dim")
        table.add_row(
            model.model if model.model != last else "",
            f"{one.family} {one.shape.shape}",
            one.device_model,
            str(one.shape.devices),
            bar,
        )
        last = model.model
    out.print()
    _print(out, table)


def _print(out: Console, table: Table) -> None:
    with out.capture() as captured:
        out.print(table)
    for line in captured.get().splitlines():
        click.echo(line.rstrip())
