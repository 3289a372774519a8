"""What a scrape asks of the parts that know it: workers, queues, caches."""

from collections.abc import Callable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from gateway.kv_feed import KvFeed
from gateway.metrics import Asked, GatewayMetrics, Samples, prefix_families
from gateway.routing.admission import Admission
from gateway.routing.endpoint import Endpoint
from gateway.routing.router import Router
from gateway.routing.table import RoutingTable

_WORKER = ("model", "variant", "role", "worker")


def observe(
    metrics: GatewayMetrics,
    *,
    table: Callable[[], RoutingTable],
    router: Router,
    admission: Admission,
    kv_feed: KvFeed,
    clock: Callable[[], float],
) -> None:
    """Makes *metrics* ask them at each scrape. *clock* gives the health record's seconds."""

    def phases() -> Samples:
        return table().phases.items()

    def set_aside() -> Samples:
        aside = router.health.aside(clock())
        return [(_labels(e), 1) for e in table().endpoints() if e.worker_id in aside]

    metrics.watch(
        Asked(
            GaugeMetricFamily,
            "modelyard_in_flight_requests",
            "Request legs in flight, by worker; an idle one has no sample.",
            _WORKER,
            lambda: [(_labels(endpoint), legs) for endpoint, legs in router.legs()],
        ),
        Asked(
            GaugeMetricFamily,
            "modelyard_queued_requests",
            "Requests that wait for room.",
            ("model",),
            lambda: [((model,), count) for model, count in admission.waiting.items()],
        ),
        Asked(
            GaugeMetricFamily,
            "modelyard_workers",
            "Live workers, by phase.",
            ("model", "variant", "role", "phase"),
            phases,
        ),
        Asked(
            GaugeMetricFamily,
            "modelyard_worker_set_aside",
            "1 for a worker that gets no requests now, because it failed or hangs.",
            _WORKER,
            set_aside,
        ),
        Asked(
            CounterMetricFamily,
            "modelyard_kv_events",
            "Messages of workers about their KV caches.",
            ("kind",),
            lambda: [((kind,), count) for kind, count in kv_feed.counts.by_kind().items()],
        ),
        *prefix_families(router.prefixes),
    )


def _labels(endpoint: Endpoint) -> tuple[str, ...]:
    return endpoint.model, endpoint.variant, endpoint.role, endpoint.worker_id
