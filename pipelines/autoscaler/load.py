"""A role's load, in workers: how many of them, each at its target, it would fill.

Each measure gives such a number; what a role has is the highest of them. Those of the registry's
`Autoscale` ask for more workers; others only say that none of them can be spared:

- queue (prefill, unified): prompt tokens that wait, at the gateways and in the engines, for each
  `queued_prompt_tokens_max` of them a worker;
- KV (decode, unified): the sum of the caches' usage, for each `kv_usage_max` of it a worker;
- seats: requests at the workers, and those for which there is no room, for each
  `in_flight_per_worker` a worker;
- TTFT (prefill, unified) and TPOT (decode, unified), their 90th percentile of the last 30 s beside
  the model's SLO: above it workers x value / SLO; below it workers x (value - base) / (SLO - base),
  where base is what it takes on idle workers (the least that was seen of this revision, at most
  half of the SLO): what load adds is what fewer workers make worse;
- busy (prefill, unified): the workers x the share of samples in which they had anything to do;
  unified ones, which nearly always have answers under way, in which prompts waited. Queues are
  empty until they grow without end, so an empty queue alone says nothing.

Kubernetes' HorizontalPodAutoscaler (ceil(replicas x value / target)) and llm-d's WVA (usage of KV
caches and queues, spread over one replica less) are of this form.
"""

from collections.abc import Iterator

import msgspec

from pipelines.autoscaler.sight import REQUESTS_MIN, WINDOW_S, Crowd, Sight, slow_s
from registry.spec import Autoscale, Role
from registry.traffic import Latencies

BUSY_MAX = 0.8  # share of its time that a prefill worker may have something to do
DRAIN_S = 60.0  # in which what waits is to be done
_PREFILLS = frozenset({Role.PREFILL, Role.UNIFIED})
_DECODES = frozenset({Role.DECODE, Role.UNIFIED})
_PERCENT = 100


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """Of a role *at* a time, when *ready* workers carried it: *workers* that it would fill, and
    *asked* of them by what may ask for more, because of *reason*.
    """

    at: float
    ready: int
    workers: float
    asked: float
    reason: str


class _Measure(msgspec.Struct, frozen=True):
    workers: float
    reason: str
    asks: bool = True


_NONE = _Measure(0.0, "nothing")


def load_of(sight: Sight, role: Role, bounds: Autoscale) -> Load | None:
    """None where nothing is known of one of its ready workers, or nobody is ready."""
    crowd = sight.crowds.get(role)
    if crowd is None or len(crowd.newest(sight.now)) < len(crowd.samples):
        return None
    ready = len(crowd.samples)
    measures = [_seats(sight, role, crowd, ready)]
    if role in _PREFILLS:
        measures += (*_prompts(sight, role, crowd, bounds), _busy(crowd, role, ready))
        if not sight.decode_is_full:
            ttft, base_s = sight.served.ttft, sight.base.ttft_s
            measures.append(_latency("TTFT", ttft, sight.slo.ttft_s, base_s, ready))
    if role in _DECODES:
        measures.append(_kv(sight, crowd, bounds))
        tpot, base_s = sight.served.tpot, sight.base.tpot_s
        measures.append(_latency("TPOT", tpot, sight.slo.tpot_s, base_s, ready))
    most = max(measures, key=lambda one: one.workers)
    asking = max((one for one in measures if one.asks), key=lambda one: one.workers, default=_NONE)
    reason = asking.reason if asking.workers > ready else most.reason
    return Load(
        at=sight.now, ready=ready, workers=most.workers, asked=asking.workers, reason=reason
    )


def _prompts(sight: Sight, role: Role, crowd: Crowd, bounds: Autoscale) -> Iterator[_Measure]:
    ready, known, since = len(crowd.samples), sight.served, sight.now - WINDOW_S
    mean_tokens = known.prompt_tokens / known.requests if known.requests else 0.0
    tokens = sum(one.requests_waiting for one in crowd.newest(sight.now)) * mean_tokens
    if sight.waits_for(role):
        tokens += sight.queued_tokens
    each, most = tokens / ready, bounds.queued_prompt_tokens_max
    waits = f"{each:,.0f} prompt tokens wait for each worker (at most {most:,})"
    busy = crowd.busy(since, role)
    works = _works(role, busy)
    capacity = crowd.prompt_tokens_per_s(since) / (ready * busy) if busy else 0.0
    if not capacity:
        yield _Measure(tokens / most, waits)
        return
    grows = max(0.0, crowd.waiting_per_s(since) * mean_tokens)
    workers = ready * busy / BUSY_MAX + (grows + tokens / DRAIN_S) / capacity
    late = each > most
    yield _Measure(max(workers, ready + 1.0) if late else workers, waits if late else works)
    yield _Measure(tokens / most, waits, asks=False)


def _busy(crowd: Crowd, role: Role, ready: int) -> _Measure:
    share = crowd.busy(0.0, role)
    return _Measure(ready * share / BUSY_MAX, _works(role, share), False)


def _works(role: Role, share: float) -> str:
    what = "workers are busy" if role is Role.PREFILL else "prompts wait"
    return f"{what} {share * _PERCENT:.0f} % of the time"


def _kv(sight: Sight, crowd: Crowd, bounds: Autoscale) -> _Measure:
    usage, most = crowd.kv_usage(sight.now), bounds.kv_usage_max
    return _Measure(
        len(crowd.samples) * usage / most,
        f"KV caches are {usage:.0%} full (at most {most:.0%})".replace("%", " %"),
    )


def _seats(sight: Sight, role: Role, crowd: Crowd, ready: int) -> _Measure:
    each = crowd.requests(sight.now)
    queued = sight.queued if sight.waits_for(role) else 0
    return _Measure(
        (ready * each + queued) / sight.seats,
        f"{each:,.0f} requests at each worker (at most {sight.seats:,}), {queued:,} wait",
        asks=queued > 0,
    )


def _latency(name: str, seen: Latencies, slo_s: float, base_s: float, ready: int) -> _Measure:
    if not slo_s or seen.total < REQUESTS_MIN:
        return _Measure(0.0, f"{name} is not known", False)
    value_s = slow_s(seen)
    base_s = min(base_s, slo_s / 2)
    share = value_s / slo_s if value_s > slo_s else (value_s - base_s) / (slo_s - base_s)
    return _Measure(
        ready * max(0.0, share),
        f"{name} is {_span(value_s)} at the 90th percentile (at most {_span(slo_s)})",
    )


def _span(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1e3:.0f} ms"
