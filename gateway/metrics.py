"""Prometheus metrics of the inference listener, by the names that the field has for them.

What every request counts is kept in plain numbers (`gateway/tallies.py`) and put into Prometheus'
form when somebody scrapes: the client library's own counters would cost a tenth of a request.
Nothing here is called for a streamed token. No label holds what a client made up: *model* is a
declared one, or empty; statuses, operations and reasons are words of our own. README.md lists all.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Gauge, Histogram
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from gateway.metering.counts import UsageCollector, UsageCounts
from gateway.tallies import Count, Legs, Pairs, Prefixes, Served, Times

_LAG_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, 1, 5)
_SERVED = ("model", "variant", "mode")
_LEG = ("model", "variant", "role")
_PAIR = ("model", "variant")

# What several processes say of one thing is not added up: the oldest table is told, and of what
# all of them see the most that one of them does.
LEAST = frozenset({"modelyard_routing_table_version"})
MOST = frozenset({"modelyard_workers", "modelyard_worker_set_aside"})

Samples = Iterable[tuple[tuple[str, ...], float]]  # labels, value


class Asked(NamedTuple):
    """A family whose values are counted elsewhere, and asked for at each scrape."""

    kind: type[GaugeMetricFamily | CounterMetricFamily]
    name: str
    text: str
    labels: tuple[str, ...]
    read: Callable[[], Samples]


class GatewayMetrics:
    """Registers everything in *registry* once."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._served: dict[tuple[str, str, str], Served] = {}
        self._legs: dict[tuple[str, str, str], Legs] = {}
        self._pairs: dict[tuple[str, str], Pairs] = {}
        self._retries = Count()
        self._takeovers = Count()
        self._degraded = Count()
        self._shadowed = Count()
        self._fallbacks = Count()
        self._errors = Count()
        self._limited = Count()
        self.spans = Count()
        for collector in (
            _Requests(self._served),
            _Upstream(self._legs),
            _KvTransfers(self._pairs),
        ):
            registry.register(collector)
        self.watch(*self._families())
        self.loop_lag = Histogram(
            "modelyard_event_loop_lag_seconds",
            "How late the event loop came to what was due.",
            buckets=_LAG_SECONDS,
            registry=registry,
        )
        self.table_version = Gauge(
            "modelyard_routing_table_version",
            "The registry event that the routing table reflects.",
            registry=registry,
        )

    def _families(self) -> tuple[Asked, ...]:
        return (
            _counted(
                "modelyard_request_errors",
                "Requests that were told an error, by its code: refused, too late, or failed.",
                ("model", "reason"),
                self._errors,
            ),
            _counted(
                "modelyard_limited_requests",
                "Requests that a limit of their key or model turned away, by which one.",
                ("model", "reason"),
                self._limited,
            ),
            _counted(
                "modelyard_retries",
                "Further tries, and streams gone on with elsewhere, by why.",
                ("model", "variant", "reason"),
                self._retries,
            ),
            _counted(
                "modelyard_takeovers",
                "Streams that broke off: resumed elsewhere, complete already, or impossible to "
                "go on with.",
                ("model", "variant", "outcome"),
                self._takeovers,
            ),
            _counted(
                "modelyard_degraded",
                "Requests that one half of a pair served alone, without KV transfer.",
                _PAIR,
                self._degraded,
            ),
            _counted(
                "modelyard_shadow_requests",
                "Copies for a shadow variant: ok, refused by it, failed (error), without room for "
                "it (busy), without a worker (unavailable), or cancelled.",
                ("model", "variant", "outcome"),
                self._shadowed,
            ),
            _counted(
                "modelyard_fallbacks",
                "Requests that another model was asked to answer, by why.",
                ("model", "fallback", "reason"),
                self._fallbacks,
            ),
            _counted(
                "modelyard_trace_spans",
                "Spans of traces: made, exported to the collector, failed to be. What is missing "
                "from made waits, or was dropped for want of room.",
                ("outcome",),
                self.spans,
            ),
        )

    def watch_usage(self, read: Callable[[], UsageCounts]) -> None:
        self._registry.register(UsageCollector(read))

    def watch(self, *families: Asked) -> None:
        """What is asked at each scrape."""
        for family in families:
            self._registry.register(_Asking(family))

    def served(self, model: str, variant: str, mode: str) -> Served:
        labels = model, variant, mode
        served = self._served.get(labels)
        if served is None:
            served = self._served[labels] = Served()
        return served

    def legs(self, model: str, variant: str, role: str) -> Legs:
        labels = model, variant, role
        legs = self._legs.get(labels)
        if legs is None:
            legs = self._legs[labels] = Legs()
        return legs

    def pairs(self, model: str, variant: str) -> Pairs:
        labels = model, variant
        pairs = self._pairs.get(labels)
        if pairs is None:
            pairs = self._pairs[labels] = Pairs()
        return pairs

    def failure(self, model: str, variant: str, role: str, reason: str) -> None:
        failed = self.legs(model, variant, role).failed
        failed[reason] = failed.get(reason, 0) + 1

    def retry(self, model: str, variant: str, reason: str) -> None:
        self._retries.add(model, variant, reason)

    def takeover(self, model: str, variant: str, outcome: str) -> None:
        self._takeovers.add(model, variant, outcome)

    def shadowed(self, model: str, variant: str, outcome: str) -> None:
        self._shadowed.add(model, variant, outcome)

    def fallback(self, model: str, fallback: str, reason: str) -> None:
        self._fallbacks.add(model, fallback, reason)

    def degraded(self, model: str, variant: str) -> None:
        self._degraded.add(model, variant)

    def error(self, model: str, reason: str) -> None:
        self._errors.add(model, reason)

    def limited(self, model: str, reason: str) -> None:
        self._limited.add(model, reason)


class _Requests(Collector):
    """The families of what `Served` holds."""

    def __init__(self, served: Mapping[tuple[str, str, str], Served]) -> None:
        self._all = served

    def collect(self) -> Iterable[Metric]:
        requests = CounterMetricFamily(
            "modelyard_requests",
            "Finished requests. Status is the HTTP status, 499 for a client that went away, or "
            "broken_stream for an error after the answer had begun.",
            labels=(*_SERVED, "operation", "status"),
        )
        prompt = _counter("modelyard_prompt_tokens", "Prompt tokens, as workers count.", _SERVED)
        cached = _counter(
            "modelyard_prompt_tokens_cached",
            "Prompt tokens that workers found in their KV caches, where they say so.",
            _SERVED,
        )
        generated = _counter(
            "modelyard_generation_tokens", "Generated tokens, as workers count.", _SERVED
        )
        first_token = _times(
            "modelyard_time_to_first_token_seconds",
            "From a request's arrival to the first byte of its stream.",
            _SERVED,
        )
        per_token = _times(
            "modelyard_time_per_output_token_seconds",
            "Mean time between the tokens of one streamed answer, each answer counted once.",
            _SERVED,
        )
        e2e = _times(
            "modelyard_e2e_request_latency_seconds",
            "From the request's arrival to the end of its answer.",
            _SERVED,
        )
        queue = _times(
            "modelyard_request_queue_time_seconds",
            "How long a request that the queue took waited for room, all tries together.",
            _SERVED,
        )
        for labels, served in tuple(self._all.items()):
            for (operation, status), count in tuple(served.requests.items()):
                requests.add_metric((*labels, operation, status), count)
            prompt.add_metric(labels, served.prompt_tokens)
            cached.add_metric(labels, served.prompt_tokens_cached)
            generated.add_metric(labels, served.generation_tokens)
            _add(first_token, labels, served.first_token)
            _add(per_token, labels, served.per_token)
            _add(e2e, labels, served.e2e)
            _add(queue, labels, served.queue)
        yield from (requests, prompt, cached, generated, first_token, per_token, e2e, queue)


class _Upstream(Collector):
    """The families of what `Legs` holds."""

    def __init__(self, legs: Mapping[tuple[str, str, str], Legs]) -> None:
        self._all = legs

    def collect(self) -> Iterable[Metric]:
        started = _counter("modelyard_upstream_requests", "Legs begun: workers asked.", _LEG)
        failed = _counter(
            "modelyard_upstream_failures",
            "Legs that failed, by what went wrong.",
            (*_LEG, "reason"),
        )
        for labels, legs in tuple(self._all.items()):
            started.add_metric(labels, legs.started)
            for reason, count in tuple(legs.failed.items()):
                failed.add_metric((*labels, reason), count)
        yield from (started, failed)


class _KvTransfers(Collector):
    """The families of what `Pairs` holds."""

    def __init__(self, pairs: Mapping[tuple[str, str], Pairs]) -> None:
        self._all = pairs

    def collect(self) -> Iterable[Metric]:
        prefill = _times(
            "modelyard_request_prefill_time_seconds",
            "How long prefill workers took for their legs, where decode is asked after them.",
            _PAIR,
        )
        transfer = _times(
            "modelyard_kv_transfer_time_seconds",
            "From prefill's answer to decode's first streamed token: the KV transfer, decode's own "
            "queue and one step.",
            _PAIR,
        )
        transfers = _counter(
            "modelyard_kv_transfers", "Pairs whose decode worker answered with prefill's KV.", _PAIR
        )
        failed = _counter(
            "modelyard_kv_transfer_failures",
            "Pairs whose decode worker gave no token, by what went wrong.",
            (*_PAIR, "reason"),
        )
        for labels, pairs in tuple(self._all.items()):
            _add(prefill, labels, pairs.prefill)
            _add(transfer, labels, pairs.transfer)
            transfers.add_metric(labels, pairs.transfers)
            for reason, count in tuple(pairs.failed.items()):
                failed.add_metric((*labels, reason), count)
        yield from (prefill, transfer, transfers, failed)


class _Asking(Collector):
    def __init__(self, family: Asked) -> None:
        self._asked = family

    def collect(self) -> Iterable[Metric]:
        asked = self._asked
        family = asked.kind(asked.name, asked.text, labels=asked.labels)
        for labels, value in tuple(asked.read()):
            family.add_metric(labels, value)
        yield family


def _counter(name: str, text: str, labels: tuple[str, ...]) -> CounterMetricFamily:
    return CounterMetricFamily(name, text, labels=labels)


def _times(name: str, text: str, labels: tuple[str, ...]) -> HistogramMetricFamily:
    return HistogramMetricFamily(name, text, labels=labels)


def _add(family: HistogramMetricFamily, labels: tuple[str, ...], times: Times) -> None:
    if buckets := times.buckets():  # else twenty lines that say nothing
        family.add_metric(labels, buckets, times.sum_s)


def _counted(name: str, text: str, labels: tuple[str, ...], count: Count) -> Asked:
    return Asked(CounterMetricFamily, name, text, labels, count.items)


def prefix_families(prefixes: Mapping[tuple[str, str], Prefixes]) -> tuple[Asked, Asked]:
    """Of what the router knew of prompts: hits by queries is its hit ratio."""
    return (
        Asked(
            CounterMetricFamily,
            "modelyard_prefix_cache_queries",
            "Prompt tokens that were looked for in workers' caches, by the policies prefix and "
            "kv_events.",
            _PAIR,
            lambda: ((labels, each.queries) for labels, each in prefixes.items()),
        ),
        Asked(
            CounterMetricFamily,
            "modelyard_prefix_cache_hits",
            "Those of them that the chosen worker was known to hold.",
            _PAIR,
            lambda: ((labels, each.hits) for labels, each in prefixes.items()),
        ),
    )
