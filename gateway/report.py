"""What remains of a request when it is over: a usage record, metrics, one log line."""

import structlog

from gateway.metering import Metering
from gateway.metrics import GatewayMetrics
from gateway.proxy.exchange import Exchange
from registry.state import UsageRecord, UsageStatus

# They are asked every few seconds, by machines.
_QUIET = frozenset({"/healthz", "/readyz"})
_KNOWN = _QUIET | {"/v1/chat/completions", "/v1/completions", "/v1/models"}
_CLIENT_GONE = "499"
_BROKEN_STREAM = "broken_stream"
_SERVER_ERROR = 500


class Reporter:
    def __init__(self, metrics: GatewayMetrics, metering: Metering) -> None:
        self._metrics = metrics
        self._metering = metering
        # Bound once: a lazy logger would be put together again for every request.
        self._log = structlog.get_logger("gateway.access").bind()

    def ended(self, exchange: Exchange, path: str, now: float) -> None:
        """*now* is of the epoch. Takes note of *exchange*, which must be over."""
        if path in _QUIET:
            return
        status = _status(exchange)
        model = exchange.model.name if exchange.model else ""
        route = exchange.route
        variant, mode = (route.variant.name, route.mode.value) if route else ("", "")
        self._metrics.request(model, variant, mode, status)
        if exchange.reached:
            self._metering.add(_record(exchange, now))
        if exchange.first_at is not None:
            self._observe(exchange, exchange.first_at, (model, variant, mode))
        failed = exchange.error is not None and exchange.error.status >= _SERVER_ERROR
        log = self._log.warning if failed else self._log.info
        log(
            "request",
            request_id=exchange.request_id,
            key=exchange.key_id,
            path=path if path in _KNOWN else "other",
            model=model,
            variant=variant,
            mode=mode,
            status=status,
            error=exchange.error.code if exchange.error else None,
            duration_ms=round((exchange.ended_at - exchange.began) * 1000, 1),
        )

    def _observe(self, exchange: Exchange, first_at: float, labels: tuple[str, str, str]) -> None:
        served = self._metrics.served(*labels)
        served.e2e.observe(exchange.ended_at - exchange.began)
        usage = exchange.usage
        if usage.prompt_tokens:
            served.prompt.inc(usage.prompt_tokens)
        if usage.completion_tokens:
            served.generated.inc(usage.completion_tokens)
        if exchange.streaming:
            served.first_token.observe(first_at - exchange.began)
            if usage.completion_tokens > 1:
                streamed_s = exchange.ended_at - first_at
                served.per_token.observe(streamed_s / (usage.completion_tokens - 1))


def _status(exchange: Exchange) -> str:
    if exchange.client_gone and not exchange.finished:
        return _CLIENT_GONE
    if exchange.streaming and (exchange.error or not exchange.finished):
        return _BROKEN_STREAM
    return str(exchange.status)


def _record(exchange: Exchange, now: float) -> UsageRecord:
    assert exchange.model is not None
    assert exchange.route is not None
    if exchange.finished and exchange.error is None:
        status = UsageStatus.OK
    else:
        status = UsageStatus.CANCELLED if exchange.client_gone else UsageStatus.ERROR
    return UsageRecord(
        request_id=exchange.request_id,
        key_id=exchange.key_id,
        model=exchange.model.name,
        variant=exchange.route.variant.name,
        revision=exchange.route.answerer.revision,
        mode=exchange.route.mode,
        status=status,
        prompt_tokens=exchange.usage.prompt_tokens,
        completion_tokens=exchange.usage.completion_tokens,
        opened_at=exchange.opened_at,
        closed_at=now,
    )
