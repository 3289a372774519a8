"""What was measured, as tables for people."""

from collections.abc import Sequence

import msgspec
from rich.console import Console
from rich.table import Table
from simulation.planning.contest import OWN, Contest
from simulation.planning.headlines import Headline
from simulation.planning.tail import Tail

ALL = 0.999


class Report(msgspec.Struct, frozen=True, kw_only=True):
    seed: int
    contests: list[Contest]
    headlines: list[Headline]
    tail: Tail | None


def show(report: Report, console: Console) -> None:
    if report.contests:
        _contests(report.contests, console)
    if report.tail is not None:
        _tail(report.tail, console)
    if report.headlines:
        _headlines(report.headlines, console)


def _contests(contests: Sequence[Contest], console: Console) -> None:
    table = Table(title="shapes of their own beside one for all, at equal devices and traffic")
    for name in ("fleet", "models", "pipelines"):
        table.add_column(name)
    for name in (
        "carried/s",
        "served",
        "goodput/s",
        "devices",
        "confirmed",
        "in bursts",
        "scaled",
        "device-hours",
        "dividend",
    ):
        table.add_column(name, justify="right")
    for one in contests:
        for number, who in enumerate(one.contestants):
            table.add_row(
                one.fleet if number == 0 else "",
                str(one.models) if number == 0 else "",
                who.name,
                f"{who.carried:.2f}" if who.carried else "-",
                f"{who.served:.1%}",
                f"{who.goodput:.2f}",
                str(who.devices),
                f"{who.confirmed:.2f}",
                f"{who.bursts:.1%}",
                f"{who.bursts_scaled:.1%}",
                _hours(who.device_hours, who.device_hours_scaled),
                "" if who.name == OWN else f"{one.dividend(who.name):.2f}x",
            )
        table.add_section()
    console.print(table)
    for one in contests:
        console.print(f"{one.fleet}, {one.models} models, per model:")
        for model, shape in one.of(OWN).topologies.items():
            console.print(f"  {model}: {shape or 'nothing'}")
    _wholes(contests, console)


def _wholes(contests: Sequence[Contest], console: Console) -> None:
    table = Table(title="per model, under whole traces at the planned mean rate")
    for name in ("fleet", "models", "model"):
        table.add_column(name)
    for name in ("requests/s", "minutes", "in bursts", "scaled", "device-hours"):
        table.add_column(name, justify="right")
    for one in contests:
        for number, whole in enumerate(one.wholes):
            seen = whole.bursts
            table.add_row(
                one.fleet if number == 0 else "",
                str(one.models) if number == 0 else "",
                whole.model,
                f"{whole.rate:.2f}",
                f"{seen.minutes:.0f}",
                f"{seen.share:.1%}",
                f"{seen.share_scaled:.1%}",
                _hours(seen.device_hours, seen.device_hours_scaled),
            )
        table.add_section()
    console.print(table)


def _hours(fixed: float, scaled: float) -> str:
    return f"{fixed:.1f} → {scaled:.1f}"


def _tail(tail: Tail, console: Console) -> None:
    table = Table(title="forty models of Zipf popularity, all served in full")
    for name in ("pipelines", "devices", "of a group each"):
        table.add_column(name, justify="left" if name == "pipelines" else "right")
    pools = f"mixed, {tail.members} models in pools of {tail.places} places"
    for name, devices in (
        ("an aggregated group each, H100", tail.dedicated),
        ("any topology each, any device", tail.mixed),
        (pools, tail.pooled),
    ):
        table.add_row(name, str(devices), f"{devices / tail.dedicated:.0%}")
    console.print(table)
    for pool in tail.pools:
        console.print(
            f"{pool.members} models in {pool.places} places, first token in time: "
            f"{pool.rehearsed:.1%} of the requests by the rehearsal (the worst model "
            f"{pool.rehearsed_least:.1%}), {pool.by_rules:.1%} by the controller's rules "
            f"({pool.by_rules_least:.1%}), {pool.moves_per_hour:g} moves an hour"
        )
    if tail.served < ALL:
        console.print(f"not comparable: only {tail.served:.1%} is served")


def _headlines(headlines: Sequence[Headline], console: Console) -> None:
    table = Table(title="published cases")
    for name in ("case", "devices"):
        table.add_column(name)
    for name in ("aggregated", "disaggregated", "ratio", "published"):
        table.add_column(name, justify="right")
    for one in headlines:
        table.add_row(
            one.case,
            str(one.devices),
            f"{one.aggregated_tokens:.1f} ({one.aggregated_shape})",
            f"{one.disaggregated_tokens:.1f} ({one.disaggregated_shape})",
            f"{one.ratio:.2f}x",
            one.published,
        )
    console.print(table)
    for one in headlines:
        for worker in one.placed:
            console.print(f"{one.case}: {worker.role} on {', '.join(worker.devices)}")
    console.print("tokens/s/GPU; steady: half of the requests within, as published tools count")
