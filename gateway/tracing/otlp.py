"""Traces on their way to a collector: OTLP over HTTP, in a thread of its own, bounded.

A request never waits for it and never fails by it: what the queue has no room for is dropped, and
a collector that is away costs its traces. Of OpenTelemetry's own environment variables those hold
that are about the exporter (``OTEL_EXPORTER_OTLP_HEADERS``, ``…_CERTIFICATE``, ``…_TIMEOUT``), the
batches (``OTEL_BSP_*``) and the resource (``OTEL_RESOURCE_ATTRIBUTES``, ``OTEL_SERVICE_NAME``).
"""

import asyncio
import contextlib
import logging
import os
import sys
import threading
from collections.abc import Sequence
from importlib.metadata import version

import structlog
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from gateway.proxy.exchange import Exchange
from gateway.tallies import Count
from gateway.tracing import trace
from gateway.tracing.spans import spans_of
from gateway.tracing.trace import Trace

CLOSE_S_MAX = 3.0

# While a batch is encoded, the event loop gets Python's lock back after this long at most (5 ms
# would be Python's own choice): tokens are waiting for it.
_SWITCH_S = 0.0005

_log = structlog.get_logger("gateway.tracing")


class OtlpTracer:
    """Sends the traces of a share *ratio* of requests to *url*, and those that a client's own trace
    asks for. *spans* counts them by what became of them. Call `aclose` at the end.
    """

    def __init__(self, url: str, ratio: float, spans: Count, *, node: str = "") -> None:
        # It tells each failed try, on lines that are not JSON: we tell when things change.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        sys.setswitchinterval(_SWITCH_S)
        self._ratio = ratio
        self._spans = spans
        self._resource = _resource(node)
        self._exporter = _Counting(OTLPSpanExporter(endpoint=url), spans)
        self._processor = BatchSpanProcessor(self._exporter)

    def begin(self, traceparent: bytes, tracestate: bytes) -> Trace:
        return trace.begin(traceparent, tracestate, self._ratio)

    def ended(self, exchange: Exchange, *, operation: str, status: str, reason: str) -> None:
        if exchange.trace is None or not exchange.trace.sampled:
            return
        try:
            for span in spans_of(
                exchange,
                exchange.trace,
                self._resource,
                operation=operation,
                status=status,
                reason=reason,
            ):
                self._spans.add("made")
                self._processor.on_end(span)
        except Exception as error:  # noqa: BLE001 - a trace is never worth a request
            _log.exception("trace-lost", request_id=exchange.request_id, exc_info=error)

    async def aclose(self) -> None:
        """Sends what waits, if that goes quickly."""
        loop, closed = asyncio.get_running_loop(), asyncio.Event()

        def close() -> None:
            self._processor.shutdown()  # type: ignore[no-untyped-call]
            with contextlib.suppress(RuntimeError):  # the loop has not waited for us
                loop.call_soon_threadsafe(closed.set)

        threading.Thread(target=close, daemon=True).start()
        try:
            async with asyncio.timeout(CLOSE_S_MAX):
                await closed.wait()
        except TimeoutError:
            _log.warning("traces-lost", reason="the collector took too long at the end")
            self._exporter.shutdown()


class _Counting(SpanExporter):
    """Counts what leaves, and tells when the collector goes away and comes back."""

    def __init__(self, exporter: SpanExporter, spans: Count) -> None:
        self._exporter = exporter
        self._spans = spans
        self._away = False
        self._closed = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        try:
            result = self._exporter.export(spans)
        except Exception as error:  # noqa: BLE001 - whatever it is, these are lost and the next may not
            _log.exception("traces-undelivered", exc_info=error)
            result = SpanExportResult.FAILURE
        away = result is not SpanExportResult.SUCCESS
        self._spans.add("failed" if away else "exported", by=len(spans))
        if away != self._away:
            self._away = away
            if away:
                _log.warning("traces-undelivered", spans=len(spans))
            else:
                _log.info("traces-delivered-again")
        return result

    def shutdown(self) -> None:
        if not self._closed:
            self._closed = True
            self._exporter.shutdown()


def _resource(node: str) -> Resource:
    own = Resource(
        {
            "service.name": "modelyard-gateway",
            "service.version": version("modelyard"),
            "service.instance.id": f"{node}/{os.getpid()}",
        }
    )
    return own.merge(OTELResourceDetector().detect())
