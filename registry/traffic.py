"""What gateways see of models and tell the others: what is asked for, and how it is served.

Both are written every few seconds and leave no event: they move no version.
"""

import math
from bisect import bisect_left
from collections.abc import Iterable
from typing import Self

import msgspec

# Upper bounds of latency buckets in seconds: half a millisecond to 23 minutes, each √2 times the
# one before, so that a quantile read from them is at most 19 % off its bucket's middle.
BOUNDS_S = tuple(0.0005 * 2 ** (step / 2) for step in range(44))
SLOT_S = 5.0  # what one row of traffic covers
TRAFFIC_KEPT_S = 3600.0


class Latencies(msgspec.Struct, frozen=True, kw_only=True):
    """How long something took: *counts* by bucket of `BOUNDS_S` and one above the last; *sum_s*."""

    counts: tuple[int, ...] = (0,) * (len(BOUNDS_S) + 1)
    sum_s: float = 0.0

    @property
    def total(self) -> int:
        return sum(self.counts)

    @property
    def mean_s(self) -> float:
        return self.sum_s / self.total if self.total else 0.0

    def quantile_s(self, share: float) -> float:
        """Interpolated within its bucket; 0 where nothing was seen."""
        rank, below = share * self.total, 0
        for index, count in enumerate(self.counts):
            if count and below + count >= rank:
                low = BOUNDS_S[index - 1] if index else 0.0
                high = BOUNDS_S[min(index, len(BOUNDS_S) - 1)]
                return low + (high - low) * max(0.0, rank - below) / count
            below += count
        return 0.0

    @classmethod
    def sum_of(cls, many: "Iterable[Latencies]") -> "Latencies":
        some = [one for one in many if any(one.counts)]
        if len(some) < 2:  # noqa: PLR2004
            return some[0] if some else cls()
        counts = tuple(map(sum, zip(*(one.counts for one in some), strict=True)))
        return cls(counts=counts, sum_s=math.fsum(one.sum_s for one in some))

    def __add__(self, other: "Latencies") -> "Latencies":
        counts = tuple(a + b for a, b in zip(self.counts, other.counts, strict=True))
        return Latencies(counts=counts, sum_s=self.sum_s + other.sum_s)

    @classmethod
    def of(cls, seconds: "tuple[float, ...]") -> Self:
        counts = [0] * (len(BOUNDS_S) + 1)
        for value in seconds:
            counts[bisect_left(BOUNDS_S, value)] += 1
        return cls(counts=tuple(counts), sum_s=math.fsum(seconds))


class Traffic(msgspec.Struct, frozen=True, kw_only=True):
    """The requests of a model's variant and revision that ended in one gateway process within
    *at* … *at* + `SLOT_S`. *revision* is whose share of the traffic they took.

    *errors* are those that workers are to blame for: not a client that left or was over a limit,
    nor what was refused before a worker was asked. *paired* are those that prefill and decode
    shared. *ttft* is of streams, from the request's arrival; *tpot* between tokens, one value each;
    *e2e* of whole answers, streamed or not, from the request's arrival to their end.
    """

    at: float
    gateway: str
    model: str
    variant: str
    revision: int
    requests: int = 0
    errors: int = 0
    paired: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    ttft: Latencies = Latencies()
    tpot: Latencies = Latencies()
    e2e: Latencies = Latencies()


class StepTraffic(msgspec.Struct, frozen=True, kw_only=True):
    """What all gateways together have told of a rollout's step so far: the requests of a variant of
    one of its two revisions that ended from *since* (the step's beginning) to *until*, while the
    new revision had *percent* of the traffic.
    """

    model: str
    variant: str
    revision: int
    percent: int
    since: float
    until: float
    requests: int = 0
    errors: int = 0
    ttft: Latencies = Latencies()
    tpot: Latencies = Latencies()

    def __add__(self, row: Traffic) -> "StepTraffic":
        return msgspec.structs.replace(
            self,
            until=max(self.until, row.at + SLOT_S),
            requests=self.requests + row.requests,
            errors=self.errors + row.errors,
            ttft=self.ttft + row.ttft,
            tpot=self.tpot + row.tpot,
        )


class Demand(msgspec.Struct, frozen=True, kw_only=True):
    """What one gateway process has of a model's requests, as of *at*: *queued* ones wait for a
    worker (for one to wake up, too), the oldest since *oldest_at* (0: none), with
    *queued_prompt_tokens* (estimated) in all; *in_flight* are at workers. *asked_at* is when one
    was last let in.
    """

    at: float
    gateway: str
    model: str
    queued: int = 0
    queued_prompt_tokens: int = 0
    oldest_at: float = 0.0
    in_flight: int = 0
    asked_at: float = 0.0
