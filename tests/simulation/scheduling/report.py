"""What was measured, as a table for people, with the targets."""

from collections.abc import Sequence
from statistics import mean

import msgspec
from rich.console import Console
from rich.table import Table
from simulation.scheduling.quality import CONTENDERS, OPTIMUM, OURS, Instance
from simulation.scheduling.scale import Scale

FULL_S_MAX = 2.0
CHANGE_P99_MS_MAX = 20.0
PEAK_MIB_MAX = 1024.0
RATIO_MEAN_MIN = 0.98
RATIO_MIN = 0.93


class Verdict(msgspec.Struct, frozen=True):
    what: str
    measured: float
    target: str
    met: bool


class Report(msgspec.Struct, frozen=True, kw_only=True):
    seed: int
    solver_s: float
    scale: Scale | None
    instances: list[Instance]
    verdicts: list[Verdict]


def verdicts_of(scale: Scale | None, instances: Sequence[Instance]) -> list[Verdict]:
    found = [] if scale is None else _of_scale(scale)
    if instances:
        ratios = [one.ratio(OURS) for one in instances]
        for what, ratio, least in (
            ("of the optimum, mean", mean(ratios), RATIO_MEAN_MIN),
            ("of the optimum, least", min(ratios), RATIO_MIN),
        ):
            found.append(Verdict(what, ratio, f"≥ {least:g}", ratio >= least))
    return found


def _of_scale(scale: Scale) -> list[Verdict]:
    rows = (
        ("full placement, CPU s", scale.full.cpu_s, FULL_S_MAX),
        ("one model, p99, CPU ms", scale.change_p99_ms, CHANGE_P99_MS_MAX),
        ("peak memory, MiB", scale.peak_mib, PEAK_MIB_MAX),
    )
    return [Verdict(what, value, f"< {most:g}", value < most) for what, value, most in rows]


def show(report: Report, console: Console) -> None:
    if report.scale is not None:
        _show_scale(report.scale, console)
    if report.instances:
        _show_quality(report, console)
    table = Table(title="targets")
    for head in ("what", "measured", "target", ""):
        table.add_column(head)
    for one in report.verdicts:
        met = "met" if one.met else "NOT met"
        table.add_row(one.what, f"{one.measured:.3f}", one.target, met)
    console.print(table)


def _show_scale(scale: Scale, console: Console) -> None:
    table = Table(
        title=f"{scale.devices:,} devices on {scale.nodes:,} nodes, {scale.models:,} models of "
        f"{scale.workers:,} workers, {scale.in_gangs:,} of them in gangs; one core"
    )
    for head in ("what", "CPU", "wall"):
        table.add_column(head, justify="left" if head == "what" else "right")
    for what, taken in (
        (f"all from empty ({scale.placed:,} placed, {scale.full_share:.0%} full)", scale.full),
        ("a fleet from a snapshot of that", scale.build),
    ):
        table.add_row(what, f"{taken.cpu_s:.3f} s", f"{taken.wall_s:.3f} s")
    outcome = (
        f"one model on that fleet, kept: {scale.changes} of them, {scale.changes_placed} placed, "
        f"{scale.changes_refused} refused, {scale.changes_evicting} evict"
    )
    table.add_row(f"{outcome}; p50", f"{scale.change_p50_ms:.2f} ms", "")
    table.add_row("… p99", f"{scale.change_p99_ms:.2f} ms", "")
    table.add_row("… the longest", f"{scale.change_max_ms:.2f} ms", "")
    table.add_row(f"peak memory: {scale.peak_mib:.0f} MiB", "", "")
    console.print(table)


def _show_quality(report: Report, console: Console) -> None:
    instances = report.instances
    proven = sum(one.proven for one in instances)
    table = Table(
        title=f"placed demand by priority, of the best possible: {len(instances)} fleets of "
        f"{min(one.devices for one in instances)} to {max(one.devices for one in instances)} "
        f"devices ({proven} optima proven, else of the proven bound)"
    )
    table.add_column("who")
    for head in ("mean", "least", "below 0.98"):
        table.add_column(head, justify="right")
    for name in (*CONTENDERS, OPTIMUM):
        ratios = [one.ratio(name) for one in instances]
        below = sum(ratio < RATIO_MEAN_MIN for ratio in ratios)
        table.add_row(name, f"{mean(ratios):.3f}", f"{min(ratios):.3f}", str(below))
    console.print(table)
