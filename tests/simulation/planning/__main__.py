"""`make bench-planner`: what it is worth that each model has a pipeline of its own."""

import argparse
import logging
import sys
from contextlib import nullcontext
from pathlib import Path

import msgspec
from rich.console import Console
from simulation.planning.contest import SHARED, Contest, contest
from simulation.planning.headlines import headlines
from simulation.planning.mixes import FLEETS, MIXES
from simulation.planning.report import Report, show
from simulation.planning.tail import tail

from pipelines.planner.kept import cache_folder
from pipelines.planner.silicon import kept_in

CONFIRMED_MIN = 0.9  # of what was promised


def main(arguments: list[str] | None = None) -> int:
    """0 if every promise was confirmed to a tenth, and no shared shape beat those of their own."""
    options = _options(arguments)
    logging.disable(logging.WARNING)
    folder = cache_folder()
    with kept_in(folder, _teller("")) if folder else nullcontext():
        return _run(options)


def _run(options: argparse.Namespace) -> int:
    found: list[Contest] = []
    for fleet in options.fleets:
        for count in options.mixes:
            case = f"{fleet}, {count} models"
            found.append(contest(fleet, count, seed=options.seed, tell=_teller(case)))
    rows = [] if options.no_headlines else headlines(options.seed)
    long = None if options.no_tail else tail(options.seed, _teller("tail"))
    report = Report(seed=options.seed, contests=found, headlines=rows, tail=long)
    sys.stderr.write("\r" + " " * 78 + "\r")
    show(report, Console(width=176))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    kept = all(who.confirmed >= CONFIRMED_MIN for one in found for who in one.contestants)
    return 0 if kept and all(one.dividend(SHARED) >= 1 for one in found) else 1


def _teller(case: str):
    def tell(text: str) -> None:
        sys.stderr.write(f"\r{f'{case}: {text}'[:78]:<78}")
        sys.stderr.flush()

    return tell


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make bench-planner",
        description="Mixes of 3, 6 and 12 unlike models on three fleets: what of their traffic is "
        "served within its SLO when each has the topology that the planner gives it, beside all "
        "aggregated, all disaggregated and the best single pipeline for all; each plan is then "
        "played through under other arrivals, by the gateway's own router. Deterministic for a "
        "seed; a few minutes of one core for a mix and fleet.",
    )
    parser.add_argument("--fleets", nargs="*", default=list(FLEETS), choices=list(FLEETS))
    parser.add_argument("--mixes", nargs="+", type=int, default=list(MIXES), choices=list(MIXES))
    parser.add_argument("--seed", type=int, default=0, help="(0)")
    parser.add_argument("--no-tail", action="store_true", help="leave the forty models out")
    parser.add_argument("--no-headlines", action="store_true", help="leave the published cases out")
    parser.add_argument(
        "--out", type=Path, default=Path(".bench/planner.json"), help="(.bench/planner.json)"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
