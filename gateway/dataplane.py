"""The inference listener's handler, kept free of any framework for the sake of its cost.

A request's steps: route → key → body → parse → the model's row → `Forwarder.serve` → usage,
metrics, one log line. Whatever goes wrong on the way becomes an error envelope in the client's
dialect, or, once an answer has begun, an SSE error event.
"""

import asyncio
import itertools
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from secrets import token_hex

import structlog

from gateway.access_log import AccessLog
from gateway.api.body import read_body
from gateway.api.envelope import render, render_event
from gateway.api.operations import OPERATIONS, Operation, dialect_of
from gateway.api.request import parse_request
from gateway.auth import KeyRing, credential, priority
from gateway.errors import (
    ApiError,
    BodyTimeoutError,
    BodyTooLargeError,
    DeadlineError,
    InternalError,
    MethodError,
    OverLimitError,
    QueueTimeoutError,
    RateLimitError,
    ShutdownError,
    UnavailableError,
    UnknownModelError,
    UnknownRouteError,
    UnsupportedOperationError,
)
from gateway.fallback import Fallbacks
from gateway.kv_feed import KvFeed
from gateway.limits import Limiter, estimate
from gateway.listener import ClientGoneError, ClientRequest
from gateway.metering import Metering
from gateway.metrics import GatewayMetrics
from gateway.observed import observe
from gateway.pages import is_page, render_page
from gateway.proxy.deadline import TOO_LATE, Stop, Sweep, Watch
from gateway.proxy.exchange import JSON, Exchange
from gateway.proxy.forward import Forwarder
from gateway.proxy.shadow import Shadows
from gateway.proxy.upstream import Upstream
from gateway.proxy.vigil import PING_S, SILENT_S, Vigil
from gateway.proxy.wire import Wire
from gateway.report import Reporter
from gateway.routing.admission import Admission
from gateway.routing.ask import Ask
from gateway.routing.router import Router
from gateway.routing.table import EMPTY_TABLE, ModelRow, RoutingTable
from gateway.signals import Collector
from gateway.tracing import Tracer
from pipelines.engines import ENGINES
from pipelines.engines.base import Engine
from registry.spec import EngineName
from registry.state import Key

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_BODY_TIMEOUT_S = 30.0
_EMPTY_TABLE_RETRY_S = 2
_SESSION_CHARS_MAX = 256

_log = structlog.get_logger("gateway.dataplane")


class DataPlane:
    """Call it with each request of the inference listener; let `watch_workers` run beside it.

    *metering* is closed with it. `table` may be set at any time, from the same
    event loop. Call `aclose` when the listener has stopped.
    """

    def __init__(
        self,
        *,
        metrics: GatewayMetrics,
        metering: Metering,
        engines: Mapping[EngineName, Engine] = ENGINES,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        body_timeout_s: float = _BODY_TIMEOUT_S,
        silent_s: float = SILENT_S,
        ping_s: float = PING_S,
        access_log: AccessLog | None = None,
        limiter: Limiter | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        # Request ids of our own: unique over all processes, and cheap.
        self._id_prefix = token_hex(10)
        self._id_numbers = itertools.count()
        self._clock = clock
        self._wall_clock = wall_clock
        self._body_timeout_s = body_timeout_s
        self._table = EMPTY_TABLE
        self._keys = KeyRing(EMPTY_TABLE.keys)
        self._metrics = metrics
        self._sweep = Sweep(clock)
        self.router = Router(clock)
        self.upstream = Upstream(clock)
        self.admission = Admission(wall_clock)
        self.signals = Collector(self.admission.queued)
        self.router.on_leave = self.admission.freed
        self._kv_feed = KvFeed(self.router.kv)
        self._metering = metering
        self._access_log = access_log or AccessLog()
        self._limiter = limiter or Limiter(wall_clock=wall_clock)
        self._tracer = tracer
        self._reporter = Reporter(metrics, self._metering, self._access_log, self.signals, tracer)
        self._fallbacks = Fallbacks(self._reporter, metrics, clock, wall_clock)
        self._wire = Wire(self.router, self.upstream, metrics, clock)
        self.shadows = Shadows(
            self._wire,
            self._sweep,
            clock,
            lambda copy: self._reporter.copied(copy, self._wall_clock()),
        )
        self._forwarder = Forwarder(
            self._wire,
            self.admission,
            engines,
            clock=clock,
            row=self._row,
            signals=self.signals,
            shadows=self.shadows,
        )
        self._vigil = Vigil(
            self.upstream,
            self.router,
            lambda: self._table,
            clock,
            silent_s=silent_s,
            ping_s=ping_s,
        )
        metrics.watch_usage(lambda: metering.counts)
        observe(
            metrics,
            table=lambda: self._table,
            router=self.router,
            admission=self.admission,
            kv_feed=self._kv_feed,
            clock=clock,
        )

    @property
    def table(self) -> RoutingTable:
        return self._table

    @table.setter
    def table(self, table: RoutingTable) -> None:
        """Requests under way keep the rows they have; what nobody names any more is forgotten."""
        self._table = table
        self._keys = KeyRing(table.keys)
        self._limiter.spending_read()
        workers = table.worker_ids()
        self.router.keep(workers, frozenset(table.models))
        self.upstream.keep(workers)
        self.signals.keep(table.models)
        self.admission.look_again()
        self._kv_feed.follow(table)
        self._metrics.table_version.set(table.version)

    @property
    def active(self) -> int:
        """Requests being served."""
        return self._forwarder.active

    async def watch_workers(self) -> None:
        """Lets go of workers that hang, learns what others hold in their KV caches, and looks after
        the ledger of limits, until cancelled.
        """
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._vigil.run())
            tasks.create_task(self._kv_feed.run())
            tasks.create_task(self._limiter.watch())

    async def aclose(self) -> None:
        """Closes every connection to workers and writes the usage that still waits."""
        await self.shadows.aclose()
        self.upstream.close()
        self._sweep.close()
        self._limiter.close()
        self._access_log.flush()
        await self._metering.aclose()
        if self._tracer is not None:
            await self._tracer.aclose()

    async def __call__(self, client: ClientRequest) -> None:
        began = self._clock()
        watch = Watch(self._sweep, client.task)
        client.on_gone = watch.client_gone
        client.on_stop = watch.shut_down
        exchange = Exchange(
            client=client,
            request_id=self._request_id(client),
            watch=watch,
            opened_at=self._wall_clock(),
            began=began,
            dialect=dialect_of(client.path, anthropic=bool(client.anthropic_version)),
        )
        operation = OPERATIONS.get(client.path) if client.method == b"POST" else None
        if operation is not None and self._tracer is not None:
            exchange.trace = self._tracer.begin(client.traceparent, client.tracestate)
        work = self._show(exchange) if operation is None else self._infer(exchange, operation)
        try:
            error = await self._outcome(exchange, work)
            if error is not None and operation is not None:
                error = await self._fallbacks.answer(exchange, error, self._table, self._again)
            if error is not None:
                self._tell(exchange, error)
        finally:
            watch.close()
            client.on_gone = client.on_stop = None
            exchange.settle()
            exchange.ask = None  # it refers back: a cycle a request would be the collector's work
            exchange.ended_at = self._clock()
            self._reporter.ended(exchange, client.path, self._wall_clock())

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

    async def _show(self, exchange: Exchange) -> None:
        """Everything but inference: the small pages."""
        client = exchange.client
        path = client.path
        if path in OPERATIONS:
            raise MethodError("POST")
        if not is_page(path):
            raise UnknownRouteError
        if client.method not in (b"GET", b"HEAD"):
            raise MethodError("GET")
        shown = credential(client.authorization, client.api_key)
        status, body = render_page(
            path, self._table, shown, self._wall_clock(), dialect=exchange.dialect
        )
        exchange.reply(status, body)

    async def _infer(self, exchange: Exchange, operation: Operation) -> None:
        table, client, watch = self._table, exchange.client, exchange.watch
        if table.version < 0:
            raise UnavailableError(
                "The gateway is starting: it has not read the registry yet.",
                retry_after_s=_EMPTY_TABLE_RETRY_S,
            )
        shown = credential(client.authorization, client.api_key)
        key = self._keys.authenticate(shown, self._wall_clock())
        exchange.key = key
        exchange.priority = priority(client.priority, key.priority)
        watch.until(self._clock() + self._body_timeout_s, Stop.BODY)
        data = await read_body(client, table.body_bytes_max)
        request = exchange.request = parse_request(operation, data)
        model = table.model(request.model, key)
        if model is None:
            raise UnknownModelError(request.model)
        exchange.model = model
        exchange.body_bytes = len(data)
        await self._answer(exchange, operation, key, model)

    def _again(self, exchange: Exchange, key: Key, model: ModelRow) -> Awaitable[ApiError | None]:
        """Asks another *model*, as `Fallbacks` wants it."""
        assert exchange.request is not None
        operation = exchange.request.operation
        return self._outcome(exchange, self._answer(exchange, operation, key, model))

    async def _answer(
        self, exchange: Exchange, operation: Operation, key: Key, model: ModelRow
    ) -> None:
        client, watch, request = exchange.client, exchange.watch, exchange.request
        assert request is not None
        limits = model.limits
        if exchange.body_bytes > limits.body_bytes:
            raise BodyTooLargeError(limits.body_bytes)
        if operation.name not in model.operations:
            raise UnsupportedOperationError.of_model(model.name, operation.path, model.operations)
        if not model.variants:
            raise UnavailableError(
                f"The model '{model.name}' cannot answer now: {model.reason}.",
                retry_after_s=limits.retry_after_s,
            )
        exchange.ask = Ask(
            prompt=request.prompt(),
            prompt_tokens=request.prompt_tokens(),
            fits_pair=exchange.fits_pair,
            session=_session(client.session) or request.session(),
            key_id=key.id,
            operation=operation.name,
            generates=operation.generates,
        )
        await self._let_in(exchange, key, model)
        exchange.first_token_at = exchange.since + limits.first_token_s
        watch.total_at = exchange.since + limits.total_s
        if operation.metered and exchange.opened is None:
            exchange.opened = self._metering.open(
                request_id=exchange.request_id,
                key_id=key.id,
                model=model.name,
                operation=operation.name,
            )
        await self._forwarder.serve(exchange)

    async def _let_in(self, exchange: Exchange, key: Key, model: ModelRow) -> None:
        """Takes what it may use from the limits of both. Raises ApiError if there is too little."""
        request, ask = exchange.request, exchange.ask
        assert request is not None
        assert ask is not None
        if exchange.permit is None and not self._limiter.limits(key, model):
            return
        wanted = estimate(
            ask.prompt, ask.tokens, request.answer_tokens_max(), answers=request.answers
        )
        try:
            if exchange.permit is None:
                exchange.permit = await self._limiter.admit(key, model, wanted)
            else:
                await self._limiter.move(exchange.permit, model, wanted)
        except (RateLimitError, OverLimitError) as error:
            self._metrics.limited(model.name, error.reason)
            raise

    def _tell(self, exchange: Exchange, error: ApiError) -> None:
        """Sends *error* in the form that the answer so far allows."""
        exchange.error = error
        dialect, request_id = exchange.dialect, exchange.request_id
        if not exchange.started:
            headers = b"".join(
                b"%b: %b\r\n" % (name.encode(), value.encode())
                for name, value in error.headers.items()
            )
            exchange.reply(error.status, render(error, dialect, request_id), JSON + headers)
        elif exchange.streaming and not exchange.finished:
            exchange.client.end(
                render_event(error, dialect, request_id=request_id, number=exchange.events)
            )
            exchange.finished = True

    def _stopped(self, exchange: Exchange, stop: Stop) -> ApiError | None:
        if stop in (Stop.CLIENT_GONE, Stop.CLIENT_STALLED):
            exchange.client_gone = True
            exchange.client.abort()
            return None
        if stop is Stop.BODY:
            return BodyTimeoutError(self._body_timeout_s)
        if stop is Stop.SHUTDOWN:
            return ShutdownError()
        model = exchange.model
        if stop is Stop.QUEUED and model is not None:
            limits = model.limits
            return QueueTimeoutError(model.name, limits.queued_s, limits.retry_after_s)
        self._wire.stalled(exchange, stop)
        return DeadlineError(TOO_LATE.get(stop, TOO_LATE[Stop.TOTAL]))

    def _row(self, name: str) -> ModelRow | None:
        return self._table.models.get(name)

    def _request_id(self, client: ClientRequest) -> str:
        if client.request_id and _REQUEST_ID.fullmatch(client.request_id):
            return client.request_id.decode()
        return f"{self._id_prefix}{next(self._id_numbers):012x}"


def _session(header: bytes) -> str:
    return header.decode("latin-1")[:_SESSION_CHARS_MAX]
