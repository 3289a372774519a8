"""What the replays say: medians over seeds, and how ours compare with the best of the others."""

from collections.abc import Sequence
from statistics import mean, median

import msgspec
from rich.console import Console
from rich.table import Table
from simulation.routing.fleet import Outcome

OURS = ("prefix", "kv_events")
RIVALS = ("round_robin", "sglang", "sglang_eager", "dynamo_approx", "dynamo")


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """*cached* is the share of prompt tokens found in a cache, *busy* of the time in which a
    worker had a prompt in work or waiting.
    """

    ttft_mean_ms: float
    ttft_p50_ms: float
    ttft_p90_ms: float
    ttft_p99_ms: float
    e2e_mean_s: float
    cached: float
    busy: float


class Row(msgspec.Struct, frozen=True, kw_only=True):
    workers: int
    speed: float  # of the trace
    contender: str
    figures: Figures


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """A policy's time to first token over that of the best of its rivals, figure by figure."""

    workers: int
    speed: float
    policy: str
    ttft_mean_ratio: float
    ttft_p90_ratio: float

    @property
    def ahead(self) -> bool:
        return self.ttft_mean_ratio < 1 and self.ttft_p90_ratio < 1


class Report(msgspec.Struct, frozen=True, kw_only=True):
    requests: int
    seeds: int
    rows: list[Row]
    verdicts: list[Verdict]


def figures_of(outcome: Outcome) -> Figures:
    ttft_ms = sorted(seconds * 1000 for seconds in outcome.ttft_s)
    return Figures(
        ttft_mean_ms=mean(ttft_ms),
        ttft_p50_ms=ttft_ms[len(ttft_ms) // 2],
        ttft_p90_ms=ttft_ms[len(ttft_ms) * 9 // 10],
        ttft_p99_ms=ttft_ms[len(ttft_ms) * 99 // 100],
        e2e_mean_s=mean(outcome.e2e_s),
        cached=outcome.hit_rate,
        busy=outcome.busy,
    )


def medians(figures: Sequence[Figures]) -> Figures:
    names = Figures.__struct_fields__
    return Figures(**{name: median(getattr(one, name) for one in figures) for name in names})


def verdicts_of(rows: Sequence[Row]) -> list[Verdict]:
    of = {(row.workers, row.speed, row.contender): row.figures for row in rows}
    return [
        Verdict(
            workers=workers,
            speed=speed,
            policy=policy,
            ttft_mean_ratio=of[workers, speed, policy].ttft_mean_ms
            / min(of[workers, speed, rival].ttft_mean_ms for rival in RIVALS),
            ttft_p90_ratio=of[workers, speed, policy].ttft_p90_ms
            / min(of[workers, speed, rival].ttft_p90_ms for rival in RIVALS),
        )
        for workers, speed in dict.fromkeys((row.workers, row.speed) for row in rows)
        for policy in OURS
    ]


def show(report: Report, console: Console) -> None:
    for workers, speed in dict.fromkeys((row.workers, row.speed) for row in report.rows):
        table = Table(title=f"{workers} workers, the trace {speed:g} times as fast")
        table.add_column("policy")
        heads = ("TTFT mean ms", "p50", "p90", "p99", "E2E mean s", "cached", "busy")
        for head in heads:
            table.add_column(head, justify="right")
        for row in report.rows:
            if (row.workers, row.speed) == (workers, speed):
                table.add_row(row.contender, *_cells(row.figures))
        console.print(table)
    table = Table(title="ours over the best of the others (below 1: ahead)")
    for head in ("load", "policy", "TTFT mean", "TTFT p90"):
        table.add_column(head)
    for verdict in report.verdicts:
        ratios = (f"{verdict.ttft_mean_ratio:.2f}", f"{verdict.ttft_p90_ratio:.2f}")
        table.add_row(f"{verdict.workers} x{verdict.speed:g}", verdict.policy, *ratios)
    console.print(table)


def _cells(figures: Figures) -> list[str]:
    return [
        f"{figures.ttft_mean_ms:.0f}",
        f"{figures.ttft_p50_ms:.0f}",
        f"{figures.ttft_p90_ms:.0f}",
        f"{figures.ttft_p99_ms:.0f}",
        f"{figures.e2e_mean_s:.1f}",
        f"{figures.cached:.1%}",
        f"{figures.busy:.0%}",
    ]
