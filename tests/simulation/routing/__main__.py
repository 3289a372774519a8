"""`make bench-routing`: the routing policies against the formulas of other routers."""

import argparse
import sys
from collections.abc import Iterator
from multiprocessing import Pool, cpu_count
from pathlib import Path
from typing import NamedTuple

import msgspec
from rich.console import Console
from simulation.routing.fleet import CONTENDERS, replay
from simulation.routing.report import (
    Figures,
    Report,
    Row,
    figures_of,
    medians,
    show,
    verdicts_of,
)
from simulation.routing.trace import read_trace, replayed

# How many times as fast as it was recorded; README.md says what load that is.
SPEEDS = {8: (2.0, 2.3), 32: (9.5, 11.5)}
_QUICK_REQUESTS = 3000


class Run(NamedTuple):
    """One replay, of the first *requests* of the trace."""

    workers: int
    speed: float
    contender: str
    seed: int
    requests: int


def main(arguments: list[str] | None = None) -> int:
    """0 if ours are ahead everywhere."""
    options = _options(arguments)
    report = _report(
        requests=_QUICK_REQUESTS if options.quick else len(read_trace()),
        speeds={workers: some[:1] if options.quick else some for workers, some in SPEEDS.items()},
        seeds=1 if options.quick else options.seeds,
        jobs=options.jobs,
    )
    show(report, Console(width=100))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    return 0 if all(verdict.ahead for verdict in report.verdicts) else 1


def measure(run: Run) -> Figures:
    requests = replayed(read_trace()[: run.requests], speed=run.speed, seed=run.seed)
    contender = CONTENDERS[run.contender]
    return figures_of(replay(requests, contender, workers=run.workers, seed=run.seed))


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make bench-routing",
        description="Replays the Mooncake conversation trace onto simulated fleets of 8 and 32 "
        "workers and compares times to first token under each routing policy. Deterministic. "
        "Exits with 1 if one of ours is not ahead of the others in mean and p90.",
    )
    parser.add_argument("--quick", action="store_true", help="a quarter of the trace, one seed")
    parser.add_argument("--seeds", type=int, default=3, help="replays of each, for the median (3)")
    parser.add_argument(
        "--jobs", type=int, default=cpu_count(), help="processes; results are the same"
    )
    parser.add_argument(
        "--out", type=Path, default=Path(".bench/routing.json"), help="(.bench/routing.json)"
    )
    return parser.parse_args(arguments)


def _report(
    *, requests: int, speeds: dict[int, tuple[float, ...]], seeds: int, jobs: int
) -> Report:
    rows = [
        (workers, speed, contender)
        for workers, some in speeds.items()
        for speed in some
        for contender in CONTENDERS
    ]
    runs = [Run(*row, seed, requests) for row in rows for seed in range(1, seeds + 1)]
    measured = _measured(runs, jobs)
    found = [
        Row(
            workers=workers,
            speed=speed,
            contender=contender,
            figures=medians([next(measured) for _ in range(seeds)]),
        )
        for workers, speed, contender in rows
    ]
    return Report(requests=requests, seeds=seeds, rows=found, verdicts=verdicts_of(found))


def _measured(runs: list[Run], jobs: int) -> Iterator[Figures]:
    with Pool(jobs) as pool:
        for number, figures in enumerate(pool.imap(measure, runs), 1):
            sys.stderr.write(f"\r{number} of {len(runs)} replays")
            sys.stderr.flush()
            yield figures
    sys.stderr.write("\n")


if __name__ == "__main__":
    sys.exit(main())
