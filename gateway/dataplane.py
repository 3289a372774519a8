"""The inference listener: an ASGI callable, kept free of any framework for the sake of its cost.

A request's steps: route → key → body → parse → the model's row → `Forwarder.serve` → usage,
metrics, one log line. Whatever goes wrong on the way becomes OpenAI's error envelope, or, once
an answer has begun, an SSE error event.
"""

import asyncio
import itertools
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from secrets import token_hex
from typing import Any

import msgspec
import structlog

from gateway.auth import authenticate
from gateway.body import ClientGoneError, read_body
from gateway.errors import (
    ApiError,
    BodyTimeoutError,
    BodyTooLargeError,
    DeadlineError,
    InternalError,
    MethodError,
    UnavailableError,
    UnknownModelError,
    UnknownRouteError,
)
from gateway.metering import Metering, Sink
from gateway.metrics import GatewayMetrics
from gateway.openai.envelope import render, render_event
from gateway.openai.request import parse_request
from gateway.pages import is_page, render_page
from gateway.proxy.deadline import Receive, Stop, Watch
from gateway.proxy.exchange import Exchange, Send
from gateway.proxy.forward import Forwarder
from gateway.proxy.leg import Wire
from gateway.proxy.upstream import Upstream
from gateway.report import Reporter
from gateway.routing.router import Router
from gateway.routing.table import EMPTY_TABLE, RoutingTable
from pipelines.engines import ENGINES
from pipelines.engines.base import Engine
from registry.spec import EngineName

Scope = Mapping[str, Any]

INFERENCE_PATHS = frozenset({"/v1/chat/completions", "/v1/completions"})
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_JSON = b"application/json"
_BODY_TIMEOUT_S = 30.0
_SHORT_SEND_S = 10.0
_EMPTY_TABLE_RETRY_S = 2

_TOO_LATE = {
    Stop.FIRST_TOKEN: "The model did not begin to answer in time.",
    Stop.BETWEEN_TOKENS: "The model stopped in the middle of its answer.",
    Stop.TOTAL: "The model did not finish its answer in time.",
}

_log = structlog.get_logger("gateway.dataplane")


class _Headers(msgspec.Struct):
    """The request headers that mean something here; all others are ignored, none is relayed."""

    authorization: bytes | None = None
    content_length: bytes | None = None
    request_id: str = ""


class DataPlane:
    """Mount it at the root of the inference listener; it needs no lifespan.

    *usage_sink* gets usage records in batches. `table` may be set at any time, from the same
    event loop. Call `aclose` when the listener has stopped.
    """

    def __init__(
        self,
        *,
        metrics: GatewayMetrics,
        usage_sink: Sink,
        engines: Mapping[EngineName, Engine] = ENGINES,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        body_timeout_s: float = _BODY_TIMEOUT_S,
    ) -> None:
        # Request ids of our own: unique over all processes, and cheap.
        self._id_prefix = token_hex(10)
        self._id_numbers = itertools.count()
        self._clock = clock
        self._wall_clock = wall_clock
        self._body_timeout_s = body_timeout_s
        self._table = EMPTY_TABLE
        self._metrics = metrics
        self.router = Router(clock)
        self.upstream = Upstream(clock)
        self._metering = Metering(usage_sink, metrics.usage_dropped.inc)
        self._reporter = Reporter(metrics, self._metering)
        wire = Wire(self.router, self.upstream, metrics, clock)
        self._wire = wire
        self._forwarder = Forwarder(wire, engines, clock)
        metrics.watch_in_flight(lambda: self.router.in_flight)

    @property
    def table(self) -> RoutingTable:
        return self._table

    @table.setter
    def table(self, table: RoutingTable) -> None:
        """Requests under way keep the rows they have; what nobody names any more is forgotten."""
        self._table = table
        workers = table.worker_ids()
        self.router.keep(workers, frozenset(table.models))
        self.upstream.keep(workers)
        self._metrics.table_version.set(table.version)

    @property
    def active(self) -> int:
        """Requests being served."""
        return self._forwarder.active

    async def aclose(self) -> None:
        """Closes every connection to workers and writes the usage that still waits."""
        self.upstream.close()
        await self._metering.aclose()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return  # no websockets, no lifespan of our own
        watch = Watch(self._clock)
        headers = _read_headers(scope)
        exchange = Exchange(
            request_id=headers.request_id or f"{self._id_prefix}{next(self._id_numbers):012x}",
            send=send,
            watch=watch,
            opened_at=self._wall_clock(),
            began=self._clock(),
        )
        try:
            error = await self._outcome(exchange, self._handle(exchange, scope, headers, receive))
            if error is not None:
                await self._outcome(exchange, self._tell(exchange, error))
        finally:
            watch.close()
            exchange.ended_at = self._clock()
            self._reporter.ended(exchange, scope["path"], self._wall_clock())

    async def _outcome(self, exchange: Exchange, work: Awaitable[None]) -> ApiError | None:
        """What the client must still be told after *work*; None if nothing."""
        try:
            await work
        except ApiError as error:
            return error
        except ClientGoneError:
            exchange.client_gone = True
        except asyncio.CancelledError:
            stop = exchange.watch.claim()
            if stop is None:
                raise
            return self._stopped(exchange, stop)
        except Exception as error:  # noqa: BLE001 - the last resort: the client gets an answer
            _log.exception("request-failed", request_id=exchange.request_id, exc_info=error)
            return InternalError(exchange.request_id)
        return None

    async def _handle(
        self, exchange: Exchange, scope: Scope, headers: _Headers, receive: Receive
    ) -> None:
        path, method = scope["path"], scope["method"]
        if path in INFERENCE_PATHS:
            if method != "POST":
                raise MethodError("POST")
            await self._infer(exchange, path, headers, receive)
        elif not is_page(path):
            raise UnknownRouteError
        elif method not in ("GET", "HEAD"):
            raise MethodError("GET")
        else:
            exchange.watch.until(self._clock() + _SHORT_SEND_S, Stop.CLIENT_STALLED)
            status, body = render_page(path, self._table, headers.authorization, self._wall_clock())
            await exchange.reply(status, body, [], _JSON)

    async def _infer(
        self, exchange: Exchange, path: str, headers: _Headers, receive: Receive
    ) -> None:
        table = self._table
        if table.version < 0:
            raise UnavailableError(
                "The gateway is starting: it has not read the registry yet.",
                retry_after_s=_EMPTY_TABLE_RETRY_S,
            )
        key = authenticate(headers.authorization, table.keys, self._wall_clock())
        exchange.key_id = key.id
        exchange.watch.until(self._clock() + self._body_timeout_s, Stop.BODY)
        data = await read_body(receive, headers.content_length, table.body_bytes_max)
        request = exchange.request = parse_request(path, data)
        model = table.model(request.model, key)
        if model is None:
            raise UnknownModelError(request.model)
        exchange.model = model
        limits = model.limits
        if len(data) > limits.body_bytes:
            raise BodyTooLargeError(limits.body_bytes)
        if not model.variants:
            raise UnavailableError(
                f"The model '{model.name}' cannot answer now: {model.reason}.",
                retry_after_s=limits.retry_after_s,
            )
        exchange.first_token_at = exchange.began + limits.first_token_s
        exchange.watch.total_at = exchange.began + limits.total_s
        exchange.watch.listen(receive)
        await self._forwarder.serve(exchange)

    async def _tell(self, exchange: Exchange, error: ApiError) -> None:
        """Sends *error* in the form that the answer so far allows."""
        exchange.watch.total_at = float("inf")
        exchange.watch.until(self._clock() + _SHORT_SEND_S, Stop.CLIENT_STALLED)
        exchange.error = error
        if not exchange.started:
            headers = [(name.encode(), value.encode()) for name, value in error.headers.items()]
            await exchange.reply(error.status, render(error), headers, _JSON)
        elif exchange.streaming:
            body = render_event(error)
            await exchange.send({"type": "http.response.body", "body": body, "more_body": False})
            exchange.finished = True

    def _stopped(self, exchange: Exchange, stop: Stop) -> ApiError | None:
        if stop in (Stop.CLIENT_GONE, Stop.CLIENT_STALLED):
            exchange.client_gone = True
            return None
        if stop is Stop.BODY:
            return BodyTimeoutError(self._body_timeout_s)
        self._wire.stalled(exchange, stop)
        return DeadlineError(_TOO_LATE[stop])


def _read_headers(scope: Scope) -> _Headers:
    headers = _Headers()
    for name, value in scope["headers"]:
        if name == b"authorization":
            headers.authorization = value
        elif name == b"content-length":
            headers.content_length = value
        elif name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            headers.request_id = value.decode()
    return headers
