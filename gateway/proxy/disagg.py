"""Prefill and decode apart: the prefill leg, and what is left to do if it fails.

The protocol is the engine adapter's and sequential: prefill answers one token and says where its
KV lies, and decode gets the client's request with that put in. Transfer parameters are used
once: a second try of decode needs a second prefill, since nobody knows what became of the KV.
"""

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from gateway.proxy.deadline import Stop
from gateway.proxy.errors import LegError
from gateway.proxy.exchange import Exchange
from gateway.proxy.leg import ANSWER_BYTES_MAX, Wire
from gateway.routing.pick import Mode, Route
from gateway.routing.table import Endpoint
from pipelines.engines.base import Body, Engine, ProtocolError
from registry.spec import EngineName

_PREFILLS_TRIED_MAX = 2


class Prepared(NamedTuple):
    """What the answering worker gets, and the route as it turned out."""

    route: Route
    body: Body


class Disaggregation:
    def __init__(self, wire: Wire, engines: Mapping[EngineName, Engine]) -> None:
        self._wire = wire
        self._engines = engines

    async def prepare(self, exchange: Exchange, route: Route) -> Prepared:
        """Runs the prefill leg of *route*, on another prefill worker if the first fails.

        If that fails too, decode gets the client's own request and serves alone. A prefill worker
        that refuses the request as such decides for both legs: its ApiError goes to the client.
        """
        request, model, prefill = exchange.request, exchange.model, route.prefill
        assert request is not None
        assert model is not None
        engine = self._engines[route.variant.engine]
        leg_body = msgspec.json.encode(engine.prefill_body(request.body))
        for _ in range(_PREFILLS_TRIED_MAX):
            if prefill is None:
                break
            exchange.route = route._replace(prefill=prefill)
            answer = await self._prefill(exchange, prefill, leg_body)
            body = self._decode_body(engine, exchange, prefill, answer)
            if body is not None:
                return Prepared(exchange.route, body)
            prefill = self._wire.router.other_prefill(
                model, route, dead=exchange.dead, avoid=exchange.avoid
            )
        return Prepared(route._replace(mode=Mode.DEGRADED, prefill=None), request.body)

    async def _prefill(
        self, exchange: Exchange, prefill: Endpoint, leg_body: bytes
    ) -> bytes | None:
        """The prefill worker's answer; None if it gave none."""
        exchange.watch.until(exchange.first_token_at, Stop.FIRST_TOKEN)
        try:
            async with self._wire.leg(exchange, prefill, leg_body, stream=False) as connection:
                return await connection.read_all(ANSWER_BYTES_MAX)
        except LegError as error:
            (exchange.dead if error.gone else exchange.avoid).add(prefill.worker_id)
            return None

    def _decode_body(
        self, engine: Engine, exchange: Exchange, prefill: Endpoint, answer: bytes | None
    ) -> Body | None:
        if answer is None:
            return None
        assert exchange.request is not None
        assert exchange.model is not None
        try:
            return engine.decode_body(exchange.request.body, answer)
        except ProtocolError:
            self._wire.metrics.failure(exchange.model.name, "pd_protocol")
            self._wire.router.health.failed(prefill.worker_id, self._wire.clock(), soft=True)
            exchange.avoid.add(prefill.worker_id)
            return None
