"""Other models that answer a request, in their order, where its own model has failed at it:
`fallback` of a model's spec.
"""

from collections.abc import Awaitable, Callable, Iterator

from gateway.errors import (
    ApiError,
    BadAnswerError,
    DeadlineError,
    ShutdownError,
    UnavailableError,
)
from gateway.metrics import GatewayMetrics
from gateway.proxy.exchange import Exchange
from gateway.report import Reporter
from gateway.routing.table import ModelRow, RoutingTable
from pipelines.engines.base import is_too_long
from registry.spec import FallbackOn
from registry.state import Key

_NO_ROOM = 429  # as a worker says it that limits its own requests
# What a request is told that has waited in vain, for room or for a worker to wake up.
_WAITED = frozenset({"queue_full", "queue_timeout", "wake_timeout"})


def reason_of(error: ApiError, *, asked: bool) -> FallbackOn | None:
    """What *error*, told before the first byte, is to a model's fallbacks; None if it is nothing
    that another model would do better. *asked*: a worker was asked.
    """
    if type(error) is not ApiError and error.code in _WAITED:
        return FallbackOn.NO_CAPACITY
    if isinstance(error, UnavailableError | DeadlineError):  # its time may be over in the queue
        return FallbackOn.ERROR if asked else FallbackOn.NO_CAPACITY
    if isinstance(error, BadAnswerError):
        return FallbackOn.ERROR
    if asked and type(error) is ApiError:  # a worker's own words
        if error.status == _NO_ROOM:
            return FallbackOn.NO_CAPACITY
        if is_too_long(error.status, error.message, error.code):
            return FallbackOn.CONTEXT_LENGTH
    return None


def candidates(
    model: ModelRow, table: RoutingTable, key: Key, operation: str
) -> Iterator[ModelRow]:
    """The fallbacks of *model* that *key* may use and that answer the operation, in their order.
    Their own fallbacks are nobody's: so there is no chain, and no loop.
    """
    for name in model.fallback.models:
        row = table.model(name, key)
        if row is not None and operation in row.operations:
            yield row


# Asks a model, and says what the client must still be told.
Ask = Callable[[Exchange, Key, ModelRow], Awaitable[ApiError | None]]


class Fallbacks:
    """*clock* gives monotonic seconds, *wall_clock* those of the epoch."""

    def __init__(
        self,
        reporter: Reporter,
        metrics: GatewayMetrics,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        self._reporter = reporter
        self._metrics = metrics
        self._clock = clock
        self._wall_clock = wall_clock

    async def answer(
        self, exchange: Exchange, error: ApiError, table: RoutingTable, ask: Ask
    ) -> ApiError | None:
        """If *error* is a case for them, lets the fallbacks of the request's model answer, each
        within limits and deadlines of its own. What the client must still be told: *error* itself
        where none of them could.
        """
        model, key, route = exchange.model, exchange.key, exchange.route
        if model is None or key is None or not model.fallback.models or exchange.started:
            return error
        reason = reason_of(error, asked=route is not None)
        if reason is None or reason not in model.fallback.on or exchange.request is None:
            return error
        failure, operation = error, exchange.request.operation.name
        for other in candidates(model, table, key, operation):
            self._reporter.passed_on(exchange, failure, self._wall_clock())
            self._metrics.fallback(model.name, other.name, reason)
            exchange.turn_to(other, self._clock())
            again = await ask(exchange, key, other)
            if again is None or exchange.started or isinstance(again, ShutdownError):
                return again
            failure = again
        if exchange.fallback_from:
            self._reporter.passed_on(exchange, failure, self._wall_clock())
            exchange.turn_back(model, route)
        return error
