"""`make bench-autoscaling`: targets met and GPU-hours, scaled by role, at a ratio, and fixed."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table
from simulation.autoscaling.contest import (
    RATIOS,
    Entry,
    fixed,
    mean_size,
    per_role,
    shared,
    smallest,
)
from simulation.autoscaling.fleet import TPOT_S, TTFT_S
from simulation.autoscaling.loads import day, recorded
from simulation.azure import Arrival


class Contest(msgspec.Struct, frozen=True, kw_only=True):
    load: str
    requests: int
    entries: list[Entry]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    seed: int
    ttft_s: float
    tpot_s: float
    contests: list[Contest]


def main(arguments: list[str] | None = None) -> int:
    options = _options(arguments)
    report = Report(
        seed=options.seed, ttft_s=TTFT_S, tpot_s=TPOT_S, contests=list(_contests(options.seed))
    )
    for contest in report.contests:
        _show(contest, Console(width=100))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    return 0


def _contests(seed: int) -> Iterator[Contest]:
    yield _contest("a day in four hours", day(code=4, conv=2, seed=seed))
    yield _contest("as recorded, four and two at once", recorded(code=4, conv=2))


def _contest(name: str, load: list[Arrival]) -> Contest:
    mean = mean_size(load)
    entries = [per_role(load, mean), *(shared(load, mean, ratio) for ratio in RATIOS)]
    entries += [smallest(load), fixed(load, mean, "fixed, by the mean load")]
    return Contest(load=name, requests=len(load), entries=entries)


def _show(contest: Contest, console: Console) -> None:
    table = Table(
        title=f"{contest.load}: {contest.requests:,} requests, TTFT within {TTFT_S:g} s and TPOT "
        f"within {TPOT_S * 1e3:g} ms"
    )
    for head in ("who", "prefill : decode", "TTFT", "TPOT", "both", "GPU-hours", "changes"):
        table.add_column(head, justify="left" if head == "who" else "right")
    for entry in contest.entries:
        seen, (prefill, decode) = entry.outcome, entry.workers
        table.add_row(
            entry.who,
            f"{prefill} : {decode}" + (" at first" if seen.reasons else ""),
            *(f"{share:.2%}" for share in (seen.ttft_met, seen.tpot_met, seen.met)),
            f"{seen.gpu_hours:.1f}",
            str(len(seen.reasons)),
        )
    console.print(table)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make bench-autoscaling",
        description="Serves the Azure traces with prefill and decode workers that the autoscaler "
        "scales, each role alone or both at a ratio, and with fixed sizes. On a virtual clock.",
    )
    parser.add_argument("--seed", type=int, default=1, help="(1)")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(".bench/autoscaling.json"),
        help="(.bench/autoscaling.json)",
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
