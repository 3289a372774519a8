"""Spans of a request that is over. Attributes follow OpenTelemetry's conventions for generative AI
and HTTP; what they have no name for is under ``modelyard.``. Pure.
"""

from collections import Counter
from collections.abc import Iterator

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from gateway.proxy.exchange import Exchange
from gateway.tracing.trace import Step, Trace

Attributes = dict[str, str | int | float | bool]

_SCOPE = InstrumentationScope("modelyard.gateway")
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_UNSET, _ERROR = Status(StatusCode.UNSET), Status(StatusCode.ERROR)
_SERVER_ERROR = 500
# What the conventions call our operations; others keep their names.
_OPERATION_NAMES = {
    "chat.completions": "chat",
    "completions": "text_completion",
    "messages": "chat",
    "responses": "chat",
}


def spans_of(
    exchange: Exchange,
    trace: Trace,
    resource: Resource,
    *,
    operation: str,
    status: str,
    reason: str,
) -> Iterator[ReadableSpan]:
    """The request's own span, and one for each step of it. Made by hand rather than by a tracer,
    which would keep a context through every await: times and ids are known, and this is cheap.
    """
    # The exchange's times are monotonic; spans are told in nanoseconds of the epoch.
    offset_s = exchange.opened_at - exchange.began
    state = TraceState.from_header([trace.state.decode()]) if trace.state else None

    def context(span_id: int, *, is_remote: bool = False) -> SpanContext:
        return SpanContext(trace.trace_id, span_id, is_remote, _SAMPLED, state)

    def nanoseconds(at: float) -> int:
        return int((at + offset_s) * 1e9)

    def first_token(at: float | None) -> tuple[Event, ...]:
        return () if at is None else (Event("first_token", timestamp=nanoseconds(at)),)

    request = context(trace.span_id)
    streaming = exchange.streaming
    name = _OPERATION_NAMES.get(operation, operation)
    model = exchange.model.name if exchange.model is not None else ""
    failed = exchange.status >= _SERVER_ERROR or (streaming and exchange.error is not None)
    yield ReadableSpan(
        f"{name} {model}".rstrip(),
        request,
        context(trace.parent_id, is_remote=True) if trace.parent_id else None,
        resource,
        _of_request(exchange, name, model, status, reason),
        first_token(exchange.first_at if streaming else None),
        kind=SpanKind.SERVER,
        status=_ERROR if failed else _UNSET,
        start_time=nanoseconds(exchange.began),
        end_time=nanoseconds(exchange.ended_at),
        instrumentation_scope=_SCOPE,
    )
    tries: Counter[str] = Counter()
    for step in trace.steps:
        tries[step.name] += 1
        yield ReadableSpan(
            step.name,
            context(step.span_id),
            request,
            resource,
            _of_step(step, tries[step.name]),
            first_token(step.token_at),
            kind=SpanKind.INTERNAL if step.endpoint is None else SpanKind.CLIENT,
            status=_ERROR if step.error else _UNSET,
            start_time=nanoseconds(step.began),
            end_time=nanoseconds(step.ended),
            instrumentation_scope=_SCOPE,
        )


def _of_request(
    exchange: Exchange, operation: str, model: str, status: str, reason: str
) -> Attributes:
    attributes: Attributes = {
        "gen_ai.operation.name": operation,
        "http.request.method": "POST",
        "modelyard.request_id": exchange.request_id,
        "modelyard.priority": str(exchange.priority),
        "modelyard.status": status,
    }
    if model:
        attributes["gen_ai.request.model"] = model
    if exchange.request is not None:
        attributes["gen_ai.request.stream"] = exchange.request.stream
        attributes["url.path"] = exchange.request.operation.path
    if exchange.status:
        attributes["http.response.status_code"] = exchange.status
    if reason or exchange.client_gone:
        attributes["error.type"] = reason or "client_gone"
    if exchange.queued_s is not None:
        attributes["modelyard.queue_s"] = round(exchange.queued_s, 6)
    if exchange.first_at is not None:
        attributes |= _of_answer(exchange, exchange.first_at)
    route = exchange.route
    if route is not None:
        attributes["gen_ai.provider.name"] = str(route.variant.engine)
        attributes["modelyard.variant"] = route.variant.name
        attributes["modelyard.revision"] = route.variant.revision
        attributes["modelyard.mode"] = str(route.mode)
        attributes["modelyard.worker"] = route.answerer.worker_id
        if route.prefill is not None:
            attributes["modelyard.prefill_worker"] = route.prefill.worker_id
    return attributes


def _of_answer(exchange: Exchange, first_at: float) -> Attributes:
    attributes: Attributes = {
        "gen_ai.usage.input_tokens": exchange.usage.prompt_tokens,
        "gen_ai.usage.output_tokens": exchange.usage.completion_tokens,
    }
    if exchange.prompt_tokens_cached:
        attributes["gen_ai.usage.cache_read.input_tokens"] = exchange.prompt_tokens_cached
    if exchange.streaming:
        attributes["gen_ai.response.time_to_first_chunk"] = round(first_at - exchange.began, 6)
    return attributes


def _of_step(step: Step, number: int) -> Attributes:
    attributes: Attributes = {}
    endpoint = step.endpoint
    if endpoint is not None:
        attributes["modelyard.role"] = str(endpoint.role)
        attributes["modelyard.try"] = number
        attributes["modelyard.variant"] = endpoint.variant
        attributes["modelyard.worker"] = endpoint.worker_id
        attributes["server.address"] = endpoint.host
        attributes["server.port"] = endpoint.port
    if step.status:
        attributes["http.response.status_code"] = step.status
    if step.error:
        attributes["error.type"] = step.error
    return attributes
