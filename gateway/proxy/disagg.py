"""Prefill and decode apart: the prefill leg, and what is left to do if it fails.

The protocol is the engine adapter's. Sequential: prefill answers one token and says where its KV
lies, and decode gets the client's request with that put in; the parameters are used once, since
nobody knows what became of the KV after a failure. Concurrent: both get the same request at once
and meet in a room of their own; whichever fails takes the other with it.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import NamedTuple

from gateway.api.answer import read_usage
from gateway.api.events import EVENTS, EventForm
from gateway.errors import ApiError
from gateway.proxy.deadline import Stop
from gateway.proxy.errors import LegError
from gateway.proxy.exchange import Exchange
from gateway.proxy.leg import ANSWER_BYTES_MAX, Leg
from gateway.proxy.stream import Relay
from gateway.proxy.wire import Wire
from gateway.routing.endpoint import Endpoint
from gateway.routing.pick import Mode, Route
from pipelines.engines.base import Body, Engine, Pairing, ProtocolError
from registry.spec import EngineName

_PREFILLS_TRIED_MAX = 2
_ROOM_BITS = 63


class Prepared(NamedTuple):
    """What the answering worker gets, and the route as it turned out. *partner* is asked at the
    same time and gets the same.
    """

    route: Route
    body: Body
    partner: Endpoint | None = None


class Disaggregation:
    def __init__(self, wire: Wire, engines: Mapping[EngineName, Engine]) -> None:
        self._wire = wire
        self._engines = engines

    async def prepare(self, exchange: Exchange, route: Route, body: Body) -> Prepared:
        """Runs the prefill leg of *route*, on another prefill worker if the first fails.

        If that fails too, decode gets *body* itself and serves alone. A prefill worker that
        refuses the request as such decides for both legs: its ApiError goes to the client.
        """
        assert route.prefill is not None
        engine = self._engines[route.variant.engine]
        if engine.pairing is Pairing.CONCURRENT:
            return Prepared(route, _room_body(engine, route.prefill, body), route.prefill)
        model, ask = exchange.model, exchange.ask
        assert model is not None
        assert ask is not None
        prefill: Endpoint | None = route.prefill
        for _ in range(_PREFILLS_TRIED_MAX):
            if prefill is None:
                break
            exchange.route = route._replace(prefill=prefill)
            decode_body = await self._prefilled(engine, exchange, prefill, body)
            if decode_body is not None:
                return Prepared(exchange.route, decode_body)
            prefill = self._wire.router.other_prefill(
                model, ask, route, dead=exchange.dead, avoid=exchange.avoid
            )
        return Prepared(route._replace(mode=Mode.DEGRADED, prefill=None), body)

    @asynccontextmanager
    async def partnered(
        self, exchange: Exchange, prepared: Prepared, answering: Leg
    ) -> AsyncIterator[None]:
        """While the answering leg runs, so does its partner's. Whichever fails ends the other at
        once.

        Raises an ApiError if the partner refuses the request as such.
        """
        prefill = prepared.partner
        assert prefill is not None
        partner = asyncio.get_running_loop().create_task(
            self._accompany(exchange, prefill, prepared.body, answering)
        )
        try:
            yield
        except LegError as error:
            if error.reason == Stop.PARTNER and (refusal := await partner) is not None:
                raise refusal from error
            raise
        finally:
            partner.cancel()
            await asyncio.wait((partner,))  # to await the task itself could hide a cancellation

    async def _accompany(
        self, exchange: Exchange, prefill: Endpoint, body: Body, answering: Leg
    ) -> ApiError | None:
        """The prefill half of a concurrent pair. Its answer is thrown away; a refusal is not."""
        assert exchange.request is not None
        assert exchange.ask is not None
        ticket = self._wire.router.enter(prefill, exchange.ask)
        stream = exchange.request.stream
        leg = Leg(self._wire, exchange, prefill, body, stream=stream, once=True, beside=True)
        try:
            async with leg as connection:
                answer = await connection.read_all(ANSWER_BYTES_MAX)
                form = EVENTS[exchange.request.operation.name] if stream else None
                if form is not None and _reports_failure(answer, form):
                    raise leg.failed("error_event")
            self._expect_kv(exchange)
        except LegError as error:
            (exchange.dead if error.gone else exchange.avoid).add(prefill.worker_id)
            answering.partner_failed()
        except ApiError as refusal:
            answering.partner_failed()
            return refusal
        finally:
            ticket.leave()
        return None

    def _expect_kv(self, exchange: Exchange) -> None:
        """Prefill has done its part: if a stream has not begun yet, it is due."""
        assert exchange.request is not None
        assert exchange.model is not None
        if exchange.request.stream and exchange.first_at is None:
            now = self._wire.clock()
            by, transfer_by = exchange.begin_by(now), now + exchange.model.limits.transfer_s
            stop = Stop.TRANSFER if transfer_by < by else Stop.FIRST_TOKEN
            exchange.watch.until(min(by, transfer_by), stop)

    async def _prefilled(
        self, engine: Engine, exchange: Exchange, prefill: Endpoint, body: Body
    ) -> Body | None:
        """What decode gets after *prefill* has done its part; None if it has not."""
        assert exchange.request is not None
        leg_body = engine.prefill_body(body, exchange.request.operation.name)
        answer = await self._prefill(exchange, prefill, leg_body)
        if answer is None:
            return None
        try:
            return engine.decode_body(body, answer)
        except ProtocolError:
            self._wire.failed(prefill, "pd_protocol")
            self._wire.router.health.failed(prefill.worker_id, self._wire.clock(), soft=True)
            exchange.avoid.add(prefill.worker_id)
            return None

    async def _prefill(self, exchange: Exchange, prefill: Endpoint, body: Body) -> bytes | None:
        """The prefill worker's answer; None if it gave none."""
        assert exchange.ask is not None
        # Half of what is left: the other half is for another worker, or for decode alone.
        now = self._wire.clock()
        exchange.watch.until(now + (exchange.begin_by(now) - now) / 2, Stop.SLOW)
        ticket = self._wire.router.enter(prefill, exchange.ask)
        try:
            async with Leg(self._wire, exchange, prefill, body, stream=False) as connection:
                answer = await connection.read_all(ANSWER_BYTES_MAX)
            ticket.answered()
            exchange.prefilled_at = ended = self._wire.clock()
            exchange.cached_tokens = read_usage(answer).cached_tokens
            pairs = self._wire.metrics.pairs(prefill.model, prefill.variant)
            pairs.prefill.observe(ended - now)
            return answer
        except LegError as error:
            (exchange.dead if error.gone else exchange.avoid).add(prefill.worker_id)
            return None
        finally:
            ticket.leave()


def _room_body(engine: Engine, prefill: Endpoint, body: Body) -> Body:
    return engine.concurrent_body(
        body,
        bootstrap_host=prefill.host,
        bootstrap_port=prefill.bootstrap_port,
        room=secrets.randbits(_ROOM_BITS),
    )


def _reports_failure(answer: bytes, form: EventForm) -> bool:
    relay = Relay(form, usage_wanted=True)
    relay.feed(answer)
    return relay.failed
