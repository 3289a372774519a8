"""`make bench-autoscaling`: targets met and GPU-hours, scaled by role, at a ratio, and fixed."""

import argparse
import sys
from collections.abc import Collection, Iterator, Sequence
from functools import cache
from multiprocessing import Pool
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table
from simulation.autoscaling.contest import (
    MET_MIN,
    RATIOS,
    Entry,
    best,
    fixed,
    mean_size,
    policies,
    scaled,
    smallest,
)
from simulation.autoscaling.fleet import Policy, Size
from simulation.autoscaling.loads import EARLY, LATE, Mix, day, recorded
from simulation.autoscaling.workers import TPOT_S, TTFT_S
from simulation.azure import Arrival

CHOSEN_ON = "early halves of the traces, a day"
JUDGED_ON = (
    "late halves, a day (four tenths less code)",
    "late halves, a day with as much code",
    "late halves, as recorded",
)
ROLES, RATIO = "each role by its load", "both at one ratio"


class Contest(msgspec.Struct, frozen=True, kw_only=True):
    load: str
    requests: int
    entries: tuple[Entry, ...]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Settings and sizes are *chosen* *on* one load, and *judged* on others beside those that were
    not chosen: who needs less shows where as many targets are met.
    """

    seed: int
    until_s: float
    ttft_s: float
    tpot_s: float
    on: Contest
    chosen: tuple[Entry, ...]
    judged: tuple[Contest, ...]


class Load(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    seed: int
    until_s: float


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """A fleet that is scaled by a *policy* or has a *size*; else the smallest size, to be found."""

    load: Load
    who: str
    policy: Policy | None = None
    size: Size | None = None


def main(arguments: list[str] | None = None) -> int:
    options = _options(arguments)
    report = _report(seed=options.seed, until_s=options.until_s, jobs=options.jobs)
    show(report, Console(width=110))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    return 0


def _report(*, seed: int, until_s: float, jobs: int) -> Report:
    early = Load(name=CHOSEN_ON, seed=seed, until_s=until_s)
    tasks = [
        *(Task(load=early, who=ROLES, policy=policy) for policy in policies([None])),
        *(Task(load=early, who=RATIO, policy=policy) for policy in policies(RATIOS)),
        Task(load=early, who="fixed, as chosen"),
    ]
    tried = tuple(_done(tasks, jobs, "to choose"))
    roles, ratio = (best([one for one in tried if one.who == who]) for who in (ROLES, RATIO))
    assert ratio.policy
    chosen_ratio = ratio.policy.ratio
    loads = [Load(name=name, seed=seed + 1, until_s=until_s) for name in JUDGED_ON]
    tasks = [
        task
        for load in loads
        for task in (
            *(Task(load=load, who=ROLES, policy=policy) for policy in policies([None])),
            *(Task(load=load, who=RATIO, policy=policy) for policy in policies([chosen_ratio])),
            Task(load=load, who="fixed, as chosen", size=tried[-1].workers),
            Task(load=load, who="fixed, its own smallest"),
            Task(load=load, who="fixed, by its mean", size=mean_size(requests(load))),
        )
    ]
    judged = list(_done(tasks, jobs, "to judge"))
    each = len(tasks) // len(loads)
    return Report(
        seed=seed,
        until_s=until_s,
        ttft_s=TTFT_S,
        tpot_s=TPOT_S,
        on=_contest(early, tried),
        chosen=(roles, ratio, tried[-1]),
        judged=tuple(
            _contest(load, judged[number * each : (number + 1) * each])
            for number, load in enumerate(loads)
        ),
    )


def _contest(load: Load, entries: Sequence[Entry]) -> Contest:
    return Contest(load=load.name, requests=len(requests(load)), entries=tuple(entries))


def _done(tasks: Sequence[Task], jobs: int, why: str) -> Iterator[Entry]:
    with Pool(jobs) as pool:
        for number, entry in enumerate(pool.imap(do, tasks), 1):
            sys.stderr.write(f"\r{number} of {len(tasks)} {why}")
            sys.stderr.flush()
            yield entry
    sys.stderr.write("\n")


def do(task: Task) -> Entry:
    load = requests(task.load)
    if task.policy is not None:
        return scaled(load, task.policy, task.who, seed=task.load.seed)
    return fixed(load, task.size or smallest(load), task.who)


@cache
def requests(load: Load) -> list[Arrival]:
    if load.name == CHOSEN_ON:
        every = day(Mix(4, 2), half=EARLY, seed=load.seed)
    elif load.name == JUDGED_ON[0]:
        every = day(Mix(4, 2), half=LATE, seed=load.seed)
    elif load.name == JUDGED_ON[1]:
        every = day(Mix(7, 2), half=LATE, seed=load.seed)
    else:
        every = recorded(Mix(4, 2), half=LATE)
    return [one for one in every if one.at_s < load.until_s]


def show(report: Report, console: Console) -> None:
    met_min = f"{MET_MIN:.0%}".replace("%", " %")
    chosen = {(one.who, one.settings) for one in report.chosen}
    _show(report.on, f"the fewest GPU-hours for {met_min} are chosen (*)", chosen, console)
    for contest in report.judged:
        _show(contest, "judged (* as chosen)", chosen, console)


def _show(
    contest: Contest, purpose: str, chosen: Collection[tuple[str, str]], console: Console
) -> None:
    table = Table(
        title=f"{contest.load}: {purpose}\n{contest.requests:,} requests, TTFT within {TTFT_S:g} s "
        f"and TPOT within {TPOT_S * 1e3:g} ms"
    )
    for head in ("who", "settings", "TTFT", "TPOT", "both", "GPU-hours", "changes"):
        table.add_column(head, justify="left" if head in {"who", "settings"} else "right")
    for entry in contest.entries:
        seen = entry.outcome
        table.add_row(
            entry.who,
            entry.settings + (" *" if (entry.who, entry.settings) in chosen else ""),
            *(
                f"{share:.2%}".replace("%", " %")
                for share in (seen.ttft_met, seen.tpot_met, seen.met)
            ),
            f"{seen.gpu_hours:.1f}",
            str(len(seen.reasons)),
        )
    console.print(table)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make bench-autoscaling",
        description="Serves the Azure traces with prefill and decode workers that the autoscaler "
        "scales, each role alone or both at one ratio, and with fixed sizes, on a virtual clock. "
        "Settings and sizes are chosen on a day made of the first halves of the traces, and judged "
        "on the second halves. Deterministic; minutes of one core.",
    )
    parser.add_argument("--seed", type=int, default=1, help="of the first day (1)")
    parser.add_argument(
        "--until-s", type=float, default=13_920.0, help="no more than that of each load (13920)"
    )
    parser.add_argument("--jobs", type=int, default=1, help="replays at a time (1)")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(".bench/autoscaling.json"),
        help="(.bench/autoscaling.json)",
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
