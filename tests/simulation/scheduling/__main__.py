"""`make bench-scheduler`: how fast places are found, and how good they are."""

import argparse
import sys
from pathlib import Path

import msgspec
from rich.console import Console
from simulation.scheduling.quality import OURS, Effort, Instance, instances
from simulation.scheduling.report import Report, show, verdicts_of
from simulation.scheduling.scale import measured_apart


def main(arguments: list[str] | None = None) -> int:
    """0 if every target is met."""
    options = _options(arguments)
    scale = None if options.quick else measured_apart(options.seed, options.changes)
    found = _instances(options)
    report = Report(
        seed=options.seed,
        solver_s=options.solver_s,
        scale=scale,
        instances=found,
        verdicts=verdicts_of(scale, found),
    )
    show(report, Console(width=100))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    return 0 if all(verdict.met for verdict in report.verdicts) else 1


def _instances(options: argparse.Namespace) -> list[Instance]:
    count = min(options.instances, 4) if options.quick else options.instances
    low, high = (12, 24) if options.quick else (64, 256)
    effort = Effort(time_s=options.solver_s, threads=options.threads)
    seeds = range(options.seed, options.seed + count)
    found = []
    sizes = {"devices_min": low, "devices_max": high}
    for one in instances(seeds, effort, **sizes, jobs=options.jobs):
        found.append(one)
        known = "optimum" if one.proven else "bound"
        sys.stderr.write(
            f"{len(found)} of {count}: {one.devices} devices, {one.gangs} gangs, "
            f"{one.ratio(OURS):.3f} of the {known}\n"
        )
        sys.stderr.flush()
    return found


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make bench-scheduler",
        description="Places 1,000 models on a fleet of 10,000 devices, on one core; then compares "
        "what is placed on 100 crowded small fleets with the exact optimum (CP-SAT) and with other "
        "rules. Exits with 1 if a target is missed.",
    )
    parser.add_argument("--quick", action="store_true", help="four tiny fleets, no large one")
    parser.add_argument("--instances", type=int, default=100, help="small fleets (100)")
    parser.add_argument(
        "--changes", type=int, default=400, help="single models, on the large (400)"
    )
    parser.add_argument("--seed", type=int, default=1, help="(1)")
    parser.add_argument(
        "--solver-s", type=float, default=12.0, help="of work for each optimum (12)"
    )
    parser.add_argument("--threads", type=int, default=2, help="of the solver (2)")
    parser.add_argument("--jobs", type=int, default=1, help="small fleets at a time (1)")
    parser.add_argument(
        "--out", type=Path, default=Path(".bench/scheduler.json"), help="(.bench/scheduler.json)"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
