"""Prometheus metrics of the inference listener.

What every request counts is kept in plain numbers and put into Prometheus' form when somebody
scrapes: the client library's own counters would cost a tenth of a request. Nothing here is called
for a streamed token. No label holds what a client made up: *model* is a declared one, or empty.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from itertools import accumulate

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from gateway.metering.counts import UsageCollector, UsageCounts

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.25, 0.5, 1, 5)
_LAG_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, 1, 5)
_BY = ("model", "variant", "mode")

Labels = tuple[str, str, str]


class Times:
    """A histogram's numbers."""

    __slots__ = ("_bounds_s", "_counts", "_sum_s")

    def __init__(self, bounds_s: tuple[float, ...]) -> None:
        self._bounds_s = bounds_s
        self._counts = [0] * (len(bounds_s) + 1)
        self._sum_s = 0.0

    def observe(self, seconds: float) -> None:
        self._counts[bisect_left(self._bounds_s, seconds)] += 1
        self._sum_s += seconds

    def add_to(self, family: HistogramMetricFamily, labels: Labels) -> None:
        bounds = [*map(str, map(float, self._bounds_s)), "+Inf"]
        buckets = list(zip(bounds, map(float, accumulate(self._counts)), strict=True))
        family.add_metric(labels, buckets, self._sum_s)


class Served:
    """What the requests of one (model, variant, mode) have come to; requests by status."""

    __slots__ = (
        "e2e",
        "first_token",
        "generation_tokens",
        "per_token",
        "prompt_tokens",
        "requests",
    )

    def __init__(self) -> None:
        self.requests: dict[str, int] = {}
        self.first_token = Times(_SECONDS)
        self.per_token = Times(_TOKEN_SECONDS)
        self.e2e = Times(_SECONDS)
        self.prompt_tokens = 0
        self.generation_tokens = 0

    def request(self, status: str) -> None:
        self.requests[status] = self.requests.get(status, 0) + 1


class GatewayMetrics:
    """Registers everything in *registry* once."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._served: dict[Labels, Served] = {}
        registry.register(_Requests(self._served))

        def counter(name: str, text: str, labels: tuple[str, ...]) -> Counter:
            return Counter(name, text, labels, registry=registry)

        self._failures = counter(
            "modelyard_upstream_failures",
            "Legs that failed, by what went wrong.",
            ("model", "reason"),
        )
        self._retries = counter(
            "modelyard_retries",
            "Further tries, and streams gone on with elsewhere, by why.",
            ("model", "reason"),
        )
        self._degraded = counter(
            "modelyard_degraded",
            "Requests that one half of a prefill/decode pair served alone, without KV transfer.",
            ("model", "variant"),
        )
        self._limited = counter(
            "modelyard_limited_requests",
            "Requests that a limit of their key or model turned away, by which one.",
            ("model", "reason"),
        )
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

    def watch_usage(self, read: Callable[[], UsageCounts]) -> None:
        self._registry.register(UsageCollector(read))

    def watch(
        self,
        *,
        in_flight: Callable[[], Mapping[str, int]],
        queued: Callable[[], Mapping[str, int]],
        kv_events: Callable[[], Mapping[str, int]],
    ) -> None:
        """What is asked at each scrape: legs by worker id, waiting requests by model, messages
        about KV caches by what became of them.
        """
        for kind, name, text, label, read in (
            (
                GaugeMetricFamily,
                "modelyard_in_flight_requests",
                "Request legs in flight.",
                "worker",
                in_flight,
            ),
            (
                GaugeMetricFamily,
                "modelyard_queued_requests",
                "Requests that wait for room.",
                "model",
                queued,
            ),
            (
                CounterMetricFamily,
                "modelyard_kv_events",
                "Messages of workers about their KV caches.",
                "kind",
                kv_events,
            ),
        ):
            self._registry.register(_Counted(kind, (name, text), label, read))

    def served(self, model: str, variant: str, mode: str) -> Served:
        labels = (model, variant, mode)
        served = self._served.get(labels)
        if served is None:
            served = self._served[labels] = Served()
        return served

    def failure(self, model: str, reason: str) -> None:
        self._failures.labels(model, reason).inc()

    def retry(self, model: str, reason: str) -> None:
        self._retries.labels(model, reason).inc()

    def degraded(self, model: str, variant: str) -> None:
        self._degraded.labels(model, variant).inc()

    def limited(self, model: str, reason: str) -> None:
        self._limited.labels(model, reason).inc()


class _Requests(Collector):
    """The families of what `Served` holds."""

    def __init__(self, served: Mapping[Labels, Served]) -> None:
        self._all = served

    def collect(self) -> Iterable[Metric]:
        requests = CounterMetricFamily(
            "modelyard_requests",
            "Finished requests. Status is the HTTP status, 499 for a client that went away, or "
            "broken_stream for an error after the answer had begun.",
            labels=(*_BY, "status"),
        )
        prompt = CounterMetricFamily(
            "modelyard_prompt_tokens", "Prompt tokens, as workers count.", labels=_BY
        )
        generated = CounterMetricFamily(
            "modelyard_generation_tokens", "Generated tokens, as workers count.", labels=_BY
        )
        first_token = HistogramMetricFamily(
            "modelyard_time_to_first_token_seconds",
            "From a request's arrival to the first byte of its stream.",
            labels=_BY,
        )
        per_token = HistogramMetricFamily(
            "modelyard_time_per_output_token_seconds",
            "Mean time between the tokens of one streamed answer.",
            labels=_BY,
        )
        e2e = HistogramMetricFamily(
            "modelyard_e2e_request_latency_seconds",
            "From the request's arrival to the end of its answer.",
            labels=_BY,
        )
        for labels, served in dict(self._all).items():
            for status, count in served.requests.items():
                requests.add_metric((*labels, status), count)
            prompt.add_metric(labels, served.prompt_tokens)
            generated.add_metric(labels, served.generation_tokens)
            served.first_token.add_to(first_token, labels)
            served.per_token.add_to(per_token, labels)
            served.e2e.add_to(e2e, labels)
        yield from (requests, prompt, generated, first_token, per_token, e2e)


class _Counted(Collector):
    """What is counted elsewhere, as a family of *kind*."""

    def __init__(
        self,
        kind: type[GaugeMetricFamily | CounterMetricFamily],
        named: tuple[str, str],
        label: str,
        read: Callable[[], Mapping[str, int]],
    ) -> None:
        self._kind = kind
        self._named = named
        self._label = label
        self._read = read

    def collect(self) -> Iterable[Metric]:
        family = self._kind(*self._named, labels=(self._label,))
        for value, count in dict(self._read()).items():
            family.add_metric((value,), count)
        yield family
