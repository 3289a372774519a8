"""The benchmark's tables."""

import math

from load.arithmetic import Verdict, median
from load.scale import Step
from load.scenarios import Samples, Scenario
from load.targets import DIRECT
from rich.console import Console
from rich.table import Table

_ACHIEVED_MIN = 0.9  # below this share of the asked rate the machine was the limit, not the proxy
_COLUMNS = 120  # where the output is no terminal
_MET = {True: "met", False: "NOT met", None: "not measured"}


def a_console() -> Console:
    found = Console()
    return found if found.is_terminal else Console(width=_COLUMNS)


def print_scenario(
    console: Console, scenario: Scenario, targets: list[str], samples: Samples
) -> None:
    table = Table(title=f"{scenario.name}: {scenario.title}", title_justify="left")
    table.add_column("target")
    for name in (
        f"CPU µs/{scenario.unit}",
        f"{scenario.latency} p50 ms",
        "added",
        f"{scenario.latency} p99 ms",
        "added",
        f"{scenario.unit}s/s",
        "machine busy",
        "errors",
    ):
        table.add_column(name, justify="right")
    for target in targets:
        rows = samples.of(scenario.name, target)
        added = "" if target == DIRECT else samples.added_s(scenario.name, target, "p50_s")
        added_p99 = "" if target == DIRECT else samples.added_s(scenario.name, target, "p99_s")
        table.add_row(
            target,
            "" if target == DIRECT else f"{samples.cpu_us(scenario.name, target):.1f}",
            _ms(median(row.p50_s for row in rows)),
            _ms(added),
            _ms(median(row.p99_s for row in rows)),
            _ms(added_p99),
            f"{median(row.per_s for row in rows):,.0f}",
            f"{median(row.machine_busy for row in rows):.0%}",
            str(sum(sum(row.errors.values()) for row in rows)),
        )
    console.print(table)
    _warn_if_saturated(console, scenario, targets, samples)


def _warn_if_saturated(
    console: Console, scenario: Scenario, targets: list[str], samples: Samples
) -> None:
    if not scenario.tokens:
        return
    direct = median(row.per_s for row in samples.of(scenario.name, DIRECT))
    for target in targets:
        reached = median(row.per_s for row in samples.of(scenario.name, target))
        if reached < _ACHIEVED_MIN * direct:
            console.print(
                f"  {target} reached {reached:,.0f} of {direct:,.0f} tokens/s, the machine is "
                "saturated: tokens come in lumps, so neither its TTFT nor its CPU is comparable",
                soft_wrap=True,
            )


def _ms(seconds: float | str) -> str:
    return "" if seconds == "" or math.isnan(seconds) else f"{seconds * 1e3:.2f}"


def print_verdicts(console: Console, verdicts: list[Verdict]) -> None:
    table = Table(title="Modelyard's cost by a router's, and the targets", title_justify="left")
    table.add_column("ratio, medians over the rounds")
    for name in ("measured", "at most", ""):
        table.add_column(name, justify="right")
    for verdict in verdicts:
        measured = "-" if math.isnan(verdict.ratio) else f"{verdict.ratio:.2f}"
        table.add_row(verdict.what, measured, f"{verdict.at_most:.1f}", _MET[verdict.met])
    console.print(table)


def print_scale(console: Console, steps: list[Step]) -> None:
    table = Table(title="scale: gateway processes, requests saturating", title_justify="left")
    for name in ("processes", "requests/s", "speedup", "CPU µs/request", "errors"):
        table.add_column(name, justify="right")
    for step in steps:
        table.add_row(
            str(step.workers),
            f"{step.per_s:,.0f}",
            f"{step.speedup:.2f}",
            f"{step.cpu_us:.1f}",
            str(step.errors),
        )
    console.print(table)
