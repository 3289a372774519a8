"""Prometheus metrics of the inference listener.

Label children are looked up once and kept; nothing here is called for every streamed token. No
label holds what a client made up: *model* is a declared one, or empty.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.25, 0.5, 1, 5)

_LAG_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, 1, 5)


class _Served:
    """The children of one (model, variant, mode)."""

    __slots__ = ("e2e", "first_token", "generated", "per_token", "prompt")

    def __init__(self, owner: "GatewayMetrics", labels: tuple[str, str, str]) -> None:
        self.first_token = owner.first_token.labels(*labels)
        self.per_token = owner.per_token.labels(*labels)
        self.e2e = owner.e2e.labels(*labels)
        self.prompt = owner.prompt_tokens.labels(*labels)
        self.generated = owner.generation_tokens.labels(*labels)


class GatewayMetrics:
    """Registers everything in *registry* once."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        by = ("model", "variant", "mode")

        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(name, text, by, buckets=buckets, registry=registry)

        def counter(name: str, text: str, labels: tuple[str, ...] = by) -> Counter:
            return Counter(name, text, labels, registry=registry)

        self.first_token = histogram(
            "modelyard_time_to_first_token_seconds",
            "From a request's arrival to the first byte of its stream.",
            _SECONDS,
        )
        self.per_token = histogram(
            "modelyard_time_per_output_token_seconds",
            "Mean time between the tokens of one streamed answer.",
            _TOKEN_SECONDS,
        )
        self.e2e = histogram(
            "modelyard_e2e_request_latency_seconds",
            "From the request's arrival to the end of its answer.",
            _SECONDS,
        )
        self.prompt_tokens = counter("modelyard_prompt_tokens", "Prompt tokens, as workers count.")
        self.generation_tokens = counter(
            "modelyard_generation_tokens", "Generated tokens, as workers count."
        )
        self._requests = counter(
            "modelyard_requests",
            "Finished requests. Status is the HTTP status, 499 for a client that went away, or "
            "broken_stream for an error after the answer had begun.",
            (*by, "status"),
        )
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
        self.usage_dropped = Counter(
            "modelyard_usage_records_dropped",
            "Usage records lost because the registry took none for too long.",
            registry=registry,
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
        self._served: dict[tuple[str, str, str], _Served] = {}
        self._request_children: dict[tuple[str, str, str, str], Any] = {}

    def watch(
        self,
        *,
        in_flight: Callable[[], Mapping[str, int]],
        queued: Callable[[], Mapping[str, int]],
    ) -> None:
        """What is asked at each scrape: legs by worker id, waiting requests by model."""
        self._registry.register(
            _Counted("modelyard_in_flight_requests", "Request legs in flight.", "worker", in_flight)
        )
        self._registry.register(
            _Counted("modelyard_queued_requests", "Requests that wait for room.", "model", queued)
        )

    def served(self, model: str, variant: str, mode: str) -> _Served:
        labels = (model, variant, mode)
        served = self._served.get(labels)
        if served is None:
            served = self._served[labels] = _Served(self, labels)
        return served

    def request(self, model: str, variant: str, mode: str, status: str) -> None:
        labels = (model, variant, mode, status)
        child = self._request_children.get(labels)
        if child is None:
            child = self._request_children[labels] = self._requests.labels(*labels)
        child.inc()

    def failure(self, model: str, reason: str) -> None:
        self._failures.labels(model, reason).inc()

    def retry(self, model: str, reason: str) -> None:
        self._retries.labels(model, reason).inc()

    def degraded(self, model: str, variant: str) -> None:
        self._degraded.labels(model, variant).inc()


class _Counted(Collector):
    """A gauge of what is counted elsewhere."""

    def __init__(
        self, name: str, text: str, label: str, read: Callable[[], Mapping[str, int]]
    ) -> None:
        self._name = name
        self._text = text
        self._label = label
        self._read = read

    def collect(self) -> Iterable[GaugeMetricFamily]:
        family = GaugeMetricFamily(self._name, self._text, labels=(self._label,))
        for value, count in dict(self._read()).items():
            family.add_metric((value,), count)
        yield family
