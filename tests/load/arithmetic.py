"""The numbers of a benchmark: percentiles, medians of paired runs, ratios against their targets."""

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import msgspec
from load.client import Tally


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that *percent* of all are not above; NaN of nothing."""
    if not values:
        return math.nan
    rank = math.ceil(len(values) * percent / 100)
    return sorted(values)[max(rank, 1) - 1]


def median(values: Iterable[float]) -> float:
    """NaN as soon as one value is."""
    known = tuple(values)
    return statistics.median(known) if known and not any(map(math.isnan, known)) else math.nan


def merged(tallies: Sequence[Tally]) -> Tally:
    """What several client processes saw at the same time, as one."""
    errors: Counter[str] = Counter()
    gaps: Counter[int] = Counter()
    for tally in tallies:
        errors.update(tally.errors)
        gaps.update(tally.gaps)
    return Tally(
        good=sum(tally.good for tally in tallies),
        tokens=sum(tally.tokens for tally in tallies),
        wall_s=max(tally.wall_s for tally in tallies),
        cpu_s=sum(tally.cpu_s for tally in tallies),
        errors=dict(errors),
        first_s=[value for tally in tallies for value in tally.first_s],
        whole_s=[value for tally in tallies for value in tally.whole_s],
        gaps=dict(gaps),
    )


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """One ratio that has a target. *ratio* is NaN where it was not measured."""

    what: str
    ratio: float
    at_most: float

    @property
    def met(self) -> bool | None:
        """None: not measured."""
        return None if math.isnan(self.ratio) else self.ratio <= self.at_most


def ratio(ours: float, theirs: float) -> float:
    """Of two costs. An added latency of the other side of nothing or less has no ratio."""
    return ours / theirs if theirs > 0 else math.nan


def slope_per_min(samples: Sequence[tuple[float, float]]) -> float:
    """Of (second, value) pairs, by least squares over their second half."""
    late = samples[len(samples) // 2 :]
    if len({second for second, _ in late}) < 2:
        return math.nan
    seconds, values = zip(*late, strict=True)
    return statistics.linear_regression(seconds, values).slope * 60


def bucket_quantile(buckets: Mapping[float, float], share: float) -> float:
    """Of a Prometheus histogram's cumulative buckets by upper bound, as Prometheus reckons it."""
    bounds = sorted(buckets)
    if not bounds or not buckets[bounds[-1]]:
        return math.nan
    wanted = share * buckets[bounds[-1]]
    below, lower = 0.0, 0.0
    for bound in bounds:
        count = buckets[bound]
        if count >= wanted:
            if math.isinf(bound):
                return lower  # beyond the last bound: at least this
            inside = count - below
            return lower + (bound - lower) * ((wanted - below) / inside if inside else 1.0)
        below, lower = count, bound
    return math.nan
