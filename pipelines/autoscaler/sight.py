"""What is known of a variant at a moment: its workers, what they count, what its requests met."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from math import inf
from statistics import fmean

import msgspec

from pipelines.engines.base import EngineMetrics, Sample
from registry.spec import Role, Slo, Variant
from registry.state import Model, Phase, Snapshot, Worker
from registry.traffic import BOUNDS_S, SLOT_S, Latencies, Traffic

TRAFFIC_S = 120.0  # engines that generate that long without a request are not told of
WINDOW_S = 30.0  # of traffic, for quantiles
FRESH_S = 15.0  # older samples and demand tell nothing of now
REQUESTS_MIN = 10  # fewer have no 90th percentile
QUANTILE = 0.9
_KV_USAGE_MAX = 0.9  # of a decode role that is not autoscaled


class Crowd(msgspec.Struct, frozen=True, kw_only=True):
    """The ready workers of a role: *samples* of each, oldest first."""

    samples: tuple[tuple[Sample, ...], ...]

    def newest(self, now: float) -> tuple[EngineMetrics, ...]:
        """Of those workers that were heard of lately."""
        return tuple(
            each[-1].metrics for each in self.samples if each and now - each[-1].at <= FRESH_S
        )

    def kv_usage(self, now: float) -> float:
        """The mean; 0 where nobody was heard of."""
        return fmean(one.kv_cache_usage for one in self.newest(now)) if self.newest(now) else 0.0

    def requests(self, now: float) -> float:
        """Those at a worker, in the mean."""
        known = self.newest(now)
        return fmean(one.requests_running + one.requests_waiting for one in known) if known else 0.0

    def busy(self, since: float, role: Role) -> float:
        """The share of samples in which a worker had prompts to compute, as far as is counted: one
        of *role* prefill where it had anything to do, another where prompts waited, as it nearly
        always has answers under way.
        """
        every = [one.metrics for each in self.samples for one in each if one.at >= since]
        if role is Role.PREFILL:
            had = sum(one.requests_running + one.requests_waiting > 0 for one in every)
        else:
            had = sum(one.requests_waiting > 0 for one in every)
        return had / len(every) if every else 0.0

    def prompt_tokens_per_s(self, since: float) -> float:
        """What all of them compute together."""
        return sum(
            max(0, last.metrics.prompt_tokens - first.metrics.prompt_tokens) / (last.at - first.at)
            for first, last in self._ends(since)
        )

    def waiting_per_s(self, since: float) -> float:
        """How many more requests wait with each second, in all of the engines."""
        return sum(
            (last.metrics.requests_waiting - first.metrics.requests_waiting) / (last.at - first.at)
            for first, last in self._ends(since)
        )

    def _ends(self, since: float) -> Iterator[tuple[Sample, Sample]]:
        for each in self.samples:
            lately = [one for one in each if one.at >= since]
            if len(lately) > 1 and lately[-1].at > lately[0].at:
                yield lately[0], lately[-1]

    @property
    def works(self) -> bool:
        """Whether the engines generated anything since the oldest samples."""
        return any(
            each[-1].metrics.generation_tokens > each[0].metrics.generation_tokens
            for each in self.samples
            if each
        )


def slow_s(seen: Latencies) -> float:
    """The 90th percentile, as little as it may be: the lower end of its bucket, or the mean. So a
    target that it misses is missed.
    """
    bucket = bisect_left(BOUNDS_S, seen.quantile_s(QUANTILE))
    return max(seen.mean_s, BOUNDS_S[bucket - 1] if bucket else 0.0)


class Base(msgspec.Struct, frozen=True, kw_only=True):
    """The least 90th percentiles that were seen of a *revision*."""

    revision: int
    ttft_s: float = inf
    tpot_s: float = inf


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """What a variant's requests met that ended lately; *told* is whether any did for long."""

    told: bool
    requests: int
    prompt_tokens: int
    ttft: Latencies
    tpot: Latencies

    def lower(self, base: Base) -> Base:
        ttft_s, tpot_s = (
            slow_s(seen) if seen.total >= REQUESTS_MIN else inf for seen in (self.ttft, self.tpot)
        )
        return Base(
            revision=base.revision,
            ttft_s=min(base.ttft_s, ttft_s),
            tpot_s=min(base.tpot_s, tpot_s),
        )


def served(rows: Sequence[Traffic], now: float) -> Served:
    """*rows* are a variant's of the last `TRAFFIC_S`, of all of its revisions."""
    lately = [row for row in rows if row.at + SLOT_S > now - WINDOW_S]
    return Served(
        told=bool(rows),
        requests=sum(row.requests for row in lately),
        prompt_tokens=sum(row.prompt_tokens for row in lately),
        ttft=sum((row.ttft for row in lately), Latencies()),
        tpot=sum((row.tpot for row in lately), Latencies()),
    )


class Sight(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of a variant at *now*. *workers* are all of its live ones, *crowds* the
    ready ones by role. *queued* requests wait at the gateways, with *queued_tokens* of prompts.
    """

    now: float
    model: Model
    variant: Variant
    workers: tuple[Worker, ...]
    crowds: Mapping[Role, Crowd]
    served: Served
    base: Base
    queued: int
    queued_tokens: int

    @property
    def slo(self) -> Slo:
        return self.model.spec.slo

    @property
    def seats(self) -> int:
        """Requests that a worker takes at once."""
        return self.model.spec.limits.in_flight_per_worker

    def ready(self, role: Role) -> list[Worker]:
        return [
            worker
            for worker in self.workers
            if worker.plan.role is role and worker.phase is Phase.READY
        ]

    def waits_for(self, role: Role) -> bool:
        """Whether it is the workers of this role for whom requests wait: the fuller ones."""
        if role is Role.UNIFIED:
            return True
        full = {each: crowd.requests(self.now) for each, crowd in self.crowds.items()}
        decode, prefill = full.get(Role.DECODE, 0.0), full.get(Role.PREFILL, 0.0)
        return (role is Role.DECODE) == (decode > prefill)

    @property
    def blind(self) -> bool:
        """Whether engines generate, and no gateway tells of any request."""
        return not self.served.told and any(crowd.works for crowd in self.crowds.values())

    @property
    def decode_is_full(self) -> bool:
        """Then a first token is late because of decode, and prefill could not help."""
        if Role.DECODE not in self.crowds:
            return False
        decode = next(s for role, s in self.variant.topology.roles() if role is Role.DECODE)
        most = decode.autoscale.kv_usage_max if decode.autoscale else _KV_USAGE_MAX
        return self.crowds[Role.DECODE].kv_usage(self.now) > most


class Signals:
    """What is looked at at *now*, sorted by variant. *traffic* is that of the last `TRAFFIC_S`,
    *samples* by worker.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        traffic: Sequence[Traffic],
        samples: Mapping[str, Sequence[Sample]],
        now: float,
    ) -> None:
        self.snapshot = snapshot
        self.now = now
        self._samples = samples
        self._rows: dict[tuple[str, str], list[Traffic]] = defaultdict(list)
        for row in traffic:
            self._rows[row.model, row.variant].append(row)
        self._workers: dict[tuple[str, str], list[Worker]] = defaultdict(list)
        for worker in snapshot.workers:
            self._workers[worker.plan.model, worker.plan.variant].append(worker)

    def sight(self, model: Model, variant: Variant, base: Base | None) -> Sight:
        """*base* is that of the sight before; one of another revision is begun anew."""
        key = (model.name, variant.name)
        crowds: dict[Role, list[tuple[Sample, ...]]] = defaultdict(list)
        for worker in self._workers[key]:
            if worker.phase is Phase.READY:
                crowds[worker.plan.role].append(tuple(self._samples.get(worker.id, ())))
        lately = served(self._rows[key], self.now)
        if base is None or base.revision != model.revision:
            base = Base(revision=model.revision)
        weights = sum(one.weight for one in model.spec.variants)
        share = variant.weight / weights if weights else 0.0
        asked = [
            one
            for one in self.snapshot.demand
            if one.model == model.name and self.now - one.at <= FRESH_S
        ]
        return Sight(
            now=self.now,
            model=model,
            variant=variant,
            workers=tuple(self._workers[key]),
            crowds={role: Crowd(samples=tuple(each)) for role, each in crowds.items()},
            served=lately,
            base=lately.lower(base),
            queued=round(share * sum(one.queued for one in asked)),
            queued_tokens=round(share * sum(one.queued_prompt_tokens for one in asked)),
        )
