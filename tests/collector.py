"""An OTLP collector of few words: it keeps the spans that are sent to it over HTTP."""

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

_NANO = 1e9


class SpanSeen:
    """One span, with its ids as hex and its attributes as plain values."""

    def __init__(self, span, resource):
        self.name, self.kind = span.name, span.kind
        self.trace_id, self.span_id = span.trace_id.hex(), span.span_id.hex()
        self.parent_id = span.parent_span_id.hex()
        self.state = span.trace_state
        self.began, self.ended = span.start_time_unix_nano / _NANO, span.end_time_unix_nano / _NANO
        self.failed = span.status.code == span.status.STATUS_CODE_ERROR
        self.attributes = {each.key: _value(each.value) for each in span.attributes}
        self.events = {each.name: each.time_unix_nano / _NANO for each in span.events}
        self.resource = resource

    def __getitem__(self, attribute):
        return self.attributes[attribute]


def _value(value):
    return getattr(value, value.WhichOneof("value"))


class Collector:
    def __init__(self):
        self.bodies: list[bytes] = []
        self.url = ""

    @property
    def spans(self) -> list[SpanSeen]:
        found = []
        for body in self.bodies:
            for group in ExportTraceServiceRequest.FromString(body).resource_spans:
                resource = {each.key: _value(each.value) for each in group.resource.attributes}
                found += [SpanSeen(s, resource) for scope in group.scope_spans for s in scope.spans]
        return sorted(found, key=lambda span: span.began)

    def one(self, name) -> SpanSeen:
        (span,) = [span for span in self.spans if span.name == name]
        return span


@contextlib.contextmanager
def a_collector() -> Iterator[Collector]:
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            collector.bodies.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector.url = f"http://127.0.0.1:{server.server_port}/v1/traces"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
