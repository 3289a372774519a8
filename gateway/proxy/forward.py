"""From a checked request to the last byte of its answer: route, try, retry, pass on."""

from collections.abc import Callable, Mapping

import msgspec

from gateway.errors import ApiError, BadAnswerError, UnavailableError
from gateway.openai.answer import Usage, read_answer
from gateway.proxy.connection import Connection
from gateway.proxy.deadline import Stop
from gateway.proxy.disagg import Disaggregation, Prepared
from gateway.proxy.errors import CutOffError, LegError
from gateway.proxy.exchange import Exchange
from gateway.proxy.leg import ANSWER_BYTES_MAX, Leg, Wire
from gateway.proxy.stream import Relay
from gateway.routing.pick import Mode, Route
from gateway.routing.table import Header, ModelRow
from pipelines.engines.base import Engine
from registry.spec import EngineName

ATTEMPTS_MAX = 3
# At most a fifth of what is under way may be second tries: a fleet in trouble needs less work.
_RETRYING_SHARE = 0.2
_RETRYING_MIN = 3
_EVENT_STREAM = b"text/event-stream; charset=utf-8"
_JSON = b"application/json"
_STREAM_HEADERS: list[Header] = [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]


class Forwarder:
    """*clock* gives monotonic seconds."""

    def __init__(
        self,
        wire: Wire,
        engines: Mapping[EngineName, Engine],
        clock: Callable[[], float],
    ) -> None:
        self._wire = wire
        self._disaggregation = Disaggregation(wire, engines)
        self._clock = clock
        self.active = 0
        self._retrying = 0

    async def serve(self, exchange: Exchange) -> None:
        """Answers the client. Raises ApiError if it still has to be told that this failed."""
        self.active += 1
        retrying = False
        failure: LegError | None = None
        try:
            for _ in range(ATTEMPTS_MAX):
                route = self._route(exchange)
                if route is None:
                    break
                if failure is not None and not retrying:
                    if not self._may_retry():
                        break
                    retrying = True
                    self._retrying += 1
                if failure is not None:
                    self._wire.metrics.retry(_model(exchange).name, failure.reason)
                failure = await self._attempt(exchange, route)
                if failure is None:
                    return
            raise _given_up(exchange, failure)
        finally:
            self.active -= 1
            self._retrying -= retrying

    def _route(self, exchange: Exchange) -> Route | None:
        return self._wire.router.route(
            _model(exchange), exchange.fits_pair, dead=exchange.dead, avoid=exchange.avoid
        )

    def _may_retry(self) -> bool:
        return self._retrying < max(_RETRYING_MIN, _RETRYING_SHARE * self.active)

    async def _attempt(self, exchange: Exchange, route: Route) -> LegError | None:
        """None when the client has its answer, else why another try may help."""
        exchange.route = route
        if route.prefill is not None:
            prepared = await self._disaggregation.prepare(exchange, route)
        else:
            assert exchange.request is not None
            prepared = Prepared(route, exchange.request.body)
        exchange.route = route = prepared.route
        if route.mode is Mode.DEGRADED:
            self._wire.metrics.degraded(_model(exchange).name, route.variant.name)
        try:
            await self._answer(exchange, prepared)
            return None
        except LegError as error:
            _learn(exchange, route, error)
            return error

    async def _answer(self, exchange: Exchange, prepared: Prepared) -> None:
        request = exchange.request
        assert request is not None
        if not request.stream:
            exchange.watch.until(exchange.watch.total_at, Stop.TOTAL)
        elif exchange.first_at is None:
            exchange.watch.until(exchange.first_token_at, Stop.FIRST_TOKEN)
        leg = self._wire.leg(
            exchange,
            prepared.route.answerer,
            msgspec.json.encode(prepared.body),
            stream=request.stream,
        )
        async with leg as connection:
            if request.stream:
                await self._stream(exchange, leg, connection)
            else:
                await self._whole(exchange, leg, connection)

    async def _whole(self, exchange: Exchange, leg: Leg, connection: Connection) -> None:
        body = await connection.read_all(ANSWER_BYTES_MAX)
        try:
            exchange.usage = read_answer(body)
        except BadAnswerError:
            raise leg.failed("broken_answer") from None
        exchange.first_at = self._clock()
        exchange.watch.until(
            exchange.first_at + _model(exchange).limits.between_tokens_s, Stop.BETWEEN_TOKENS
        )
        await exchange.reply(200, body, [], _JSON)

    async def _stream(self, exchange: Exchange, leg: Leg, connection: Connection) -> None:
        assert exchange.request is not None
        relay = Relay(usage_wanted=exchange.request.wants_usage)
        first = b""
        while not first:
            first = relay.feed(await _read(connection))
            if relay.failed:
                raise leg.failed("error_event")
        try:
            await self._pass_on(exchange, leg, connection, relay, first)
        finally:
            exchange.events = relay.events
            exchange.usage = _usage_of(relay)

    async def _pass_on(
        self, exchange: Exchange, leg: Leg, connection: Connection, relay: Relay, out: bytes
    ) -> None:
        """The loop that every streamed token takes."""
        send, watch, clock = exchange.send, exchange.watch, self._clock
        between_s = _model(exchange).limits.between_tokens_s
        now = exchange.first_at = clock()
        headers = exchange.headers(_EVENT_STREAM) + _STREAM_HEADERS
        watch.until(now + between_s, Stop.BETWEEN_TOKENS)
        watch.sending = exchange.started = exchange.streaming = True
        exchange.status = 200
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        while True:
            more = not relay.done
            if out or not more:
                watch.sending = True
                await send({"type": "http.response.body", "body": out, "more_body": more})
                watch.sending = False
            if not more:
                exchange.finished = True
                return
            if relay.failed:
                raise leg.failed("error_event")
            watch.until(clock() + between_s, Stop.BETWEEN_TOKENS)
            out = relay.feed(await _read(connection))


def _model(exchange: Exchange) -> ModelRow:
    assert exchange.model is not None
    return exchange.model


async def _read(connection: Connection) -> bytes:
    chunk = await connection.read()
    if not chunk:
        raise CutOffError("the stream ended without [DONE]")
    return chunk


def _usage_of(relay: Relay) -> Usage:
    """Of a stream cut short there is no count: then the events sent, less the first, which
    names the role. Each of them carried at least one token.
    """
    usage = relay.usage
    if usage.completion_tokens or relay.done:
        return usage
    return Usage(usage.prompt_tokens, max(0, relay.events - 1))


def _learn(exchange: Exchange, route: Route, error: LegError) -> None:
    """Whom the next try leaves out. Raises BadAnswerError if there should be none."""
    if error.gone:
        exchange.dead.add(error.worker_id)
    elif route.prefill is not None:
        # The KV transfer may be what failed, by either's fault: a new pair, others if there are.
        exchange.avoid.update((route.answerer.worker_id, route.prefill.worker_id))
    else:
        raise _given_up(exchange, error)


def _given_up(exchange: Exchange, failure: LegError | None) -> ApiError:
    model = _model(exchange)
    if failure is not None and failure.answered:
        return BadAnswerError(
            f"The worker that had this request gave no usable answer ({failure.reason})."
        )
    reason = f"no worker could be reached ({failure.reason})" if failure else model.reason
    return UnavailableError(
        f"The model '{model.name}' cannot answer now: {reason}.",
        retry_after_s=model.limits.retry_after_s,
    )
