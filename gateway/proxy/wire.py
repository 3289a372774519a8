"""What every leg needs: who may be asked, the connections to them, and what is counted."""

import asyncio
from collections.abc import Callable

import msgspec

from gateway.metrics import GatewayMetrics
from gateway.proxy.deadline import Stop
from gateway.proxy.errors import UpstreamError
from gateway.proxy.exchange import Exchange
from gateway.proxy.upstream import Upstream
from gateway.routing.endpoint import Endpoint
from gateway.routing.router import Router
from pipelines.engines.base import Body
from pipelines.engines.resume import TOKENIZE_PATH, read_tokens

_TOKENS_BYTES_MAX = 64 * 1024 * 1024
_OK = 200
# It is a question beside a request: without an answer things go on, less exactly.
_TOKENIZE_S_MAX = 5.0


class Wire:
    def __init__(
        self,
        router: Router,
        upstream: Upstream,
        metrics: GatewayMetrics,
        clock: Callable[[], float],
    ) -> None:
        self.router = router
        self.upstream = upstream
        self.metrics = metrics
        self.clock = clock

    def stalled(self, exchange: Exchange, stop: Stop) -> None:
        """The first token did not come in time: the worker that is waited for is set aside."""
        endpoint = exchange.leg
        if stop is Stop.FIRST_TOKEN and endpoint is not None:
            self.router.health.failed(endpoint.worker_id, self.clock())
            self.failed(endpoint, f"deadline_{stop}")

    def failed(self, endpoint: Endpoint, reason: str) -> None:
        """Counts a leg that failed."""
        self.metrics.failure(endpoint.model, endpoint.variant, endpoint.role, reason)

    async def tokens(
        self, exchange: Exchange, endpoint: Endpoint, body: Body
    ) -> tuple[int, ...] | None:
        """What the engine makes of a prompt; None if it does not say."""
        assert exchange.model is not None
        trace, step = exchange.trace, None
        if trace is not None:
            step = trace.step("tokenize", self.clock(), endpoint)
        connection = None
        kept = False
        try:
            async with asyncio.timeout(_TOKENIZE_S_MAX):
                connection = await self.upstream.request(
                    endpoint,
                    TOKENIZE_PATH,
                    encode_for(endpoint, body),
                    stream=False,
                    request_id=exchange.request_id,
                    connect_s=exchange.model.limits.connect_s,
                    trace=trace.headers(step) if trace is not None else b"",
                )
                answer = await connection.read_all(_TOKENS_BYTES_MAX)
            kept = True
        except (UpstreamError, TimeoutError):
            return None
        finally:
            if step is not None:
                step.ended = self.clock()
                step.error = "" if kept else "unanswered"
            if connection is not None:
                if kept:
                    self.upstream.release(endpoint, connection)
                else:
                    connection.abort()
        return read_tokens(answer) if connection.status == _OK else None


def encode_for(endpoint: Endpoint, body: Body) -> bytes:
    """*body* as JSON, naming the model as it is called there."""
    if endpoint.served_name:
        body = {**body, "model": msgspec.Raw(msgspec.json.encode(endpoint.served_name))}
    return msgspec.json.encode(body)
