"""What remains of a request when it is over: a usage record, metrics, one log line."""

import msgspec

from gateway.access_log import AccessLine, AccessLog
from gateway.api.operations import OPERATIONS
from gateway.errors import ApiError, InternalError, QueueFullError, ShutdownError
from gateway.metering import Metering, Opened
from gateway.metrics import GatewayMetrics
from gateway.proxy.exchange import Exchange
from gateway.routing.pick import Mode, Route
from gateway.signals import Collector, Outcome
from gateway.tallies import Served
from gateway.tracing import Tracer
from registry.usage import UsageRecord, UsageStatus

# They are asked every few seconds, by machines.
_QUIET = frozenset({"/healthz", "/readyz"})
_KNOWN = _QUIET | OPERATIONS.keys() | {"/v1/models"}
_CLIENT_GONE = "499"
_BROKEN_STREAM = "broken_stream"
_SERVER_ERROR = 500


class Reporter:
    def __init__(
        self,
        metrics: GatewayMetrics,
        metering: Metering,
        access: AccessLog,
        signals: Collector,
        tracer: Tracer | None = None,
    ) -> None:
        self._signals = signals
        self._tracer = tracer
        self._metrics = metrics
        self._metering = metering
        self._access = access

    def ended(self, exchange: Exchange, path: str, now: float) -> None:
        """*now* is of the epoch. Takes note of *exchange*, which must be over."""
        if path in _QUIET:
            return
        status = _status(exchange)
        model = exchange.model.name if exchange.model else ""
        route = exchange.route
        variant, mode = (route.variant.name, route.mode.value) if route else ("", "")
        operation = OPERATIONS[path].name if path in OPERATIONS else ""
        served = self._metrics.served(model, variant, mode)
        served.request(operation, status)
        if exchange.queued_s is not None and not isinstance(exchange.error, QueueFullError):
            served.queue.observe(exchange.queued_s)
        reason = _reason(exchange.error) if exchange.error is not None else ""
        if reason:
            self._metrics.error(model, reason)
        trace = exchange.trace if exchange.trace is not None and exchange.trace.sampled else None
        if exchange.opened is not None:
            self._metering.close(_record(exchange, exchange.opened, now))
        if exchange.first_at is not None:
            self._observe(exchange, exchange.first_at, served)
        if route is not None and not exchange.passed_on:
            self._signal(exchange, route, exchange.error, now)
        failed = exchange.error is not None and exchange.error.status >= _SERVER_ERROR
        self._access.add(
            AccessLine(
                timestamp=self._access.stamp(now),
                level="warning" if failed else "info",
                request_id=exchange.request_id,
                key=exchange.key_id,
                path=path if path in _KNOWN else "other",
                operation=operation,
                model=model,
                variant=variant,
                mode=mode,
                status=status,
                error=_logged(exchange.error) if exchange.error is not None else None,
                worker=route.answerer.worker_id if route else "",
                prefill_worker=route.prefill.worker_id if route and route.prefill else "",
                duration_ms=round((exchange.ended_at - exchange.began) * 1000, 1),
                trace_id=f"{trace.trace_id:032x}" if trace is not None else msgspec.UNSET,
            )
        )
        if self._tracer is not None and trace is not None:
            self._tracer.ended(exchange, operation=operation, status=status, reason=reason)

    def _observe(self, exchange: Exchange, first_at: float, served: Served) -> None:
        served.e2e.observe(exchange.ended_at - exchange.began)
        usage = exchange.usage
        served.prompt_tokens += usage.prompt_tokens
        served.prompt_tokens_cached += exchange.prompt_tokens_cached
        served.generation_tokens += usage.completion_tokens
        if exchange.streaming:
            served.first_token.observe(first_at - exchange.began)
            if usage.completion_tokens > 1:
                streamed_s = exchange.ended_at - first_at
                served.per_token.observe(streamed_s / (usage.completion_tokens - 1))

    def copied(self, exchange: Exchange, now: float) -> None:
        """A copy for a shadow variant is over: its traffic is all that remains of it."""
        assert exchange.model is not None
        assert exchange.route is not None
        model, row = exchange.model.name, exchange.route.variant
        self._signals.ended(model, row.name, row.revision, _outcome(exchange, exchange.error), now)

    def passed_on(self, exchange: Exchange, error: ApiError, now: float) -> None:
        """Another model is to answer, because of *error*."""
        if exchange.route is not None:
            self._signal(exchange, exchange.route, error, now)
        exchange.passed_on = True

    def _signal(self, exchange: Exchange, route: Route, error: ApiError | None, now: float) -> None:
        assert exchange.model is not None
        model, row = exchange.model.name, route.variant
        outcome = _outcome(exchange, error)
        self._signals.ended(model, row.name, row.revision, outcome, now)
        # Whoever else failed at it must not look well because another one stood in.
        for other in {(failed.name, failed.revision) for failed in exchange.failed_rows}:
            if other != (row.name, row.revision):
                self._signals.ended(model, *other, Outcome(failed=True), now)


def _outcome(exchange: Exchange, error: ApiError | None) -> Outcome:
    usage, first_at = exchange.usage, exchange.first_at
    ttft_s = tpot_s = None
    if exchange.streaming and first_at is not None:
        ttft_s = first_at - exchange.since
        if usage.completion_tokens > 1:
            tpot_s = (exchange.ended_at - first_at) / (usage.completion_tokens - 1)
    return Outcome(
        failed=error is not None and not exchange.client_gone and _is_workers(error),
        paired=exchange.mode is Mode.DISAGGREGATED,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        ttft_s=ttft_s,
        tpot_s=tpot_s,
        e2e_s=exchange.ended_at - exchange.since if exchange.finished and error is None else None,
    )


def _is_workers(error: ApiError) -> bool:
    """Whether workers are to blame for it, of a request that they were asked for: one that waits
    for room then waits because a worker has failed at it.
    """
    if isinstance(error, InternalError | ShutdownError):
        return False
    return error.status >= _SERVER_ERROR or isinstance(error, QueueFullError)


def _status(exchange: Exchange) -> str:
    if exchange.client_gone and not exchange.finished:
        return _CLIENT_GONE
    if (exchange.streaming or exchange.greeted) and (exchange.error or not exchange.finished):
        return _BROKEN_STREAM
    return str(exchange.status)


def _reason(error: ApiError) -> str:
    """The code of *error*'s kind. Not its own: that may be a worker's word."""
    kind = type(error)
    if kind is ApiError:
        return "worker_refused"
    return str(kind.code or kind.type)


def _logged(error: ApiError) -> str:
    """Closer than its kind where the gateway itself chose the word."""
    return _reason(error) if type(error) is ApiError else str(error.code or error.type)


def _record(exchange: Exchange, opened: Opened, now: float) -> UsageRecord:
    """Of a request that never reached a worker, too: it has no variant then, and no tokens."""
    assert exchange.model is not None
    if exchange.finished and exchange.error is None:
        status = UsageStatus.OK
    else:
        status = UsageStatus.CANCELLED if exchange.client_gone else UsageStatus.ERROR
    route, usage = exchange.route, exchange.usage
    return UsageRecord(
        request_id=opened.request_id,
        key_id=opened.key_id,
        model=exchange.model.name,
        variant=route.variant.name if route else "",
        revision=route.variant.revision if route else 0,
        mode=route.mode if route else "",
        status=status,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        opened_at=opened.opened_at,
        closed_at=max(now, opened.opened_at),
        operation=opened.operation,
        cost_nano=exchange.model.price.cost_nano(usage.prompt_tokens, usage.completion_tokens),
    )
