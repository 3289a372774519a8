"""Who is compared on a load: each role by its load, both at a ratio, and fixed sizes."""

from collections.abc import Callable, Sequence
from math import ceil

import msgspec
from simulation.autoscaling.fleet import Fleet, Outcome, Policy, Size
from simulation.autoscaling.workers import ATTENTION_S, KV_TOKENS, PREFILL_TOKEN_S, STEP_S, Job
from simulation.azure import Arrival

MET_MIN = 0.99
SIZE_MAX = 40
RATIOS = (1.5, 2.0, 2.5, 3.0)


# How long nobody goes, and how full caches may be: from few workers to many.
EAGERNESS = ((120.0, 0.9), (300.0, 0.8), (420.0, 0.75))


def policies(ratios: Sequence[float | None]) -> list[Policy]:
    return [
        Policy(stable_s=stable_s, kv_usage_max=kv_usage_max, ratio=ratio)
        for ratio in ratios
        for stable_s, kv_usage_max in EAGERNESS
    ]


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """*workers* are those it begins with, or without a *policy* always has."""

    who: str
    policy: Policy | None = None
    workers: Size
    outcome: Outcome

    @property
    def settings(self) -> str:
        return self.policy.settings if self.policy else f"{self.workers[0]}:{self.workers[1]}"


def scaled(load: Sequence[Arrival], policy: Policy, who: str, *, seed: int) -> Entry:
    start = mean_size(load)
    if policy.ratio is not None:
        start = (start[0], max(1, round(start[0] / policy.ratio)))
    outcome = Fleet(start, policy=policy, seed=seed).run(load)
    return Entry(who=who, policy=policy, workers=start, outcome=outcome)


def fixed(load: Sequence[Arrival], size: Size, who: str) -> Entry:
    return Entry(who=who, workers=size, outcome=Fleet(size).run(load))


def smallest(load: Sequence[Arrival]) -> Size:
    """The fewest workers that meet the targets for MET_MIN of the requests, if more of a role are
    never worse: no role can have fewer than it needs beside as many of the other one as there may
    be, so from there on every total is tried, and every way to divide it.
    """
    prefill_min = _least(lambda count: _meets(load, (count, SIZE_MAX)))
    decode_min = _least(lambda count: _meets(load, (SIZE_MAX, count)))
    for more in range(SIZE_MAX):
        for for_prefill in range(more + 1):
            size = (prefill_min + for_prefill, decode_min + more - for_prefill)
            if _meets(load, size):
                return size
    raise ValueError(f"{SIZE_MAX} workers of each role are too few for this load")


def mean_size(load: Sequence[Arrival]) -> Size:
    """Workers that the mean load fills to four fifths."""
    jobs = [Job(one) for one in load]
    seconds = load[-1].at_s
    prefill = sum(_prefill_s(job) for job in jobs) / seconds
    held = sum(job.tokens * job.answer * 1.3 * STEP_S for job in jobs) / seconds
    return (_workers(prefill), _workers(held / KV_TOKENS))


def best(entries: Sequence[Entry]) -> Entry:
    """With the fewest GPU-hours of those that meet the targets, or the one that meets most."""
    good = [one for one in entries if one.outcome.met >= MET_MIN]
    if not good:
        return max(entries, key=lambda one: one.outcome.met)
    return min(good, key=lambda one: one.outcome.gpu_hours)


def _workers(filled: float) -> int:
    return max(1, ceil(filled / 0.8))


def _prefill_s(job: Job) -> float:
    return job.prompt * (PREFILL_TOKEN_S + ATTENTION_S * job.prompt / 2)


def _meets(load: Sequence[Arrival], size: Size) -> bool:
    return Fleet(size).meets(load, MET_MIN)


def _least(good: Callable[[int], bool]) -> int:
    """By bisection; SIZE_MAX is taken to be good."""
    low, high = 1, SIZE_MAX
    while low < high:
        middle = (low + high) // 2
        if good(middle):
            high = middle
        else:
            low = middle + 1
    return low
