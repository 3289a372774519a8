"""Who is compared on a load: each role by its load, both at a ratio, and fixed sizes."""

from collections.abc import Callable, Sequence
from math import ceil

import msgspec
from simulation.autoscaling.fleet import Fleet, Outcome, Policy, Size
from simulation.autoscaling.workers import ATTENTION_S, KV_TOKENS, PREFILL_TOKEN_S, STEP_S, Job
from simulation.azure import Arrival

MET_MIN = 0.99
SIZE_MAX = 48
RATIOS = (1.5, 2.0, 2.5, 3.0)


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """*workers* are those it begins with, or always has."""

    who: str
    workers: Size
    outcome: Outcome


def per_role(load: Sequence[Arrival], start: Size) -> Entry:
    outcome = Fleet(start, policy=Policy(start=start)).run(load)
    return Entry(who="each role by its load", workers=start, outcome=outcome)


def shared(load: Sequence[Arrival], start: Size, ratio: float) -> Entry:
    """The same autoscaler for both at once: who needs more takes the other one along."""
    start = (start[0], max(1, round(start[0] / ratio)))
    outcome = Fleet(start, policy=Policy(start=start, ratio=ratio)).run(load)
    return Entry(who=f"both at {ratio:g}:1", workers=start, outcome=outcome)


def fixed(load: Sequence[Arrival], size: Size, who: str) -> Entry:
    return Entry(who=who, workers=size, outcome=Fleet(size).run(load))


def smallest(load: Sequence[Arrival]) -> Entry:
    """The fewest workers that meet the targets for MET_MIN of the requests: for every number of
    prefill workers from the least that can on, the fewest for decode, as long as that may be less.
    """
    least = _least(lambda count: _meets(load, (count, SIZE_MAX)))
    best = (least, _least(lambda count: _meets(load, (least, count))))
    for prefill in range(least + 1, sum(best)):
        decode = sum(best) - prefill - 1
        if decode < 1 or not _meets(load, (prefill, decode)):
            break
        best = (prefill, _least(lambda count, p=prefill: _meets(load, (p, count)), decode))
    return fixed(load, best, "fixed, the smallest that meets 99 %")


def mean_size(load: Sequence[Arrival]) -> Size:
    """Workers that the mean load fills to four fifths."""
    jobs = [Job(one) for one in load]
    seconds = load[-1].at_s
    prefill = sum(_prefill_s(job) for job in jobs) / seconds
    held = sum(job.tokens * job.answer * 1.3 * STEP_S for job in jobs) / seconds
    return (_workers(prefill), _workers(held / KV_TOKENS))


def _workers(filled: float) -> int:
    return max(1, ceil(filled / 0.8))


def _prefill_s(job: Job) -> float:
    return job.prompt * (PREFILL_TOKEN_S + ATTENTION_S * job.prompt / 2)


def _meets(load: Sequence[Arrival], size: Size) -> bool:
    return Fleet(size).run(load).met >= MET_MIN


def _least(good: Callable[[int], bool], high: int = SIZE_MAX) -> int:
    """By bisection; *high* is taken to be good."""
    low = 1
    while low < high:
        middle = (low + high) // 2
        if good(middle):
            high = middle
        else:
            low = middle + 1
    return low
