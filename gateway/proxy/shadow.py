"""Shadow variants: copies of a model's requests, whose answers reach nobody.

A copy is an exchange of its own with a client that takes everything and goes nowhere. So it is
asked, streamed, timed and bounded as the real one is, by a pair, too. It is one try, without limits
and usage, and it never waits: where there is no room for it, it is dropped and counted.
"""

import asyncio
from collections.abc import Awaitable, Callable
from random import random as system_random

import msgspec
import structlog

from gateway.errors import ApiError, BadAnswerError, DeadlineError, InternalError
from gateway.listener import ClientRequest
from gateway.proxy.deadline import TOO_LATE, Stop, Sweep, Watch
from gateway.proxy.errors import CannotResumeError, LegError
from gateway.proxy.exchange import Exchange
from gateway.proxy.wire import Wire
from gateway.routing.ask import Ask
from gateway.routing.pick import FULL, Full, Random, Route
from gateway.routing.table import ModelRow, VariantRow
from registry.spec import Sticky

# At once, of all models: what a gateway spends on them is bounded, whatever the workers would take.
COPIES_MAX = 64
_PERCENT = 100
_SERVER_ERROR = 500

_log = structlog.get_logger("gateway.shadow")

# Asks the workers of a route, once: `Forwarder.attempt`.
Attempt = Callable[[Exchange, Route], Awaitable[LegError | None]]


class _Nowhere:
    """A connection that takes everything. Nobody is at its other end."""

    closed = False

    def write(self, data: bytes) -> None:
        pass

    @property
    def raw_write(self) -> Callable[[bytes], None]:
        return self.write

    def answered(self) -> None:
        pass

    def abort(self) -> None:
        pass

    def read_on(self) -> None:
        pass

    def expect_body(self) -> None:
        pass


_NOWHERE = _Nowhere()


class Shadows:
    """*clock* gives monotonic seconds; *ended* is told of each copy that was sent, when it is over.
    Call `aclose` before the connections to workers are closed.
    """

    def __init__(
        self,
        wire: Wire,
        sweep: Sweep,
        clock: Callable[[], float],
        ended: Callable[[Exchange], None],
        random: Random = system_random,
    ) -> None:
        self._wire = wire
        self._sweep = sweep
        self._clock = clock
        self._ended = ended
        self._random = random
        self._copies: set[asyncio.Task[None]] = set()

    @property
    def active(self) -> int:
        """Copies under way."""
        return len(self._copies)

    def copy(self, original: Exchange, attempt: Attempt) -> None:
        """Sends copies of a request that is about to be served, to each shadow with its chance."""
        model, ask = original.model, original.ask
        assert model is not None
        assert ask is not None
        for shadow in model.shadows:
            chosen = self._random() * _PERCENT < shadow.shadow_percent
            if chosen and ask.operation in shadow.operations:
                self._begin(original, ask, model, shadow, attempt)

    async def aclose(self) -> None:
        """Cuts those under way."""
        copies = tuple(self._copies)
        for task in copies:
            task.cancel()
        if copies:
            await asyncio.wait(copies)

    def _begin(
        self, original: Exchange, ask: Ask, model: ModelRow, shadow: VariantRow, attempt: Attempt
    ) -> None:
        if len(self._copies) >= COPIES_MAX:
            self._wire.metrics.shadowed(model.name, shadow.name, "busy")
            return
        # Of the shadow alone: that is all it may be sent to, and what it is counted under.
        alone = msgspec.structs.replace(
            model, variants=(shadow,), shadows=(), sticky=Sticky.NONE, reason=""
        )
        task = asyncio.get_running_loop().create_task(
            self._send(original, ask, alone, shadow, attempt)
        )
        self._copies.add(task)
        task.add_done_callback(self._copies.discard)

    async def _send(
        self, original: Exchange, ask: Ask, model: ModelRow, shadow: VariantRow, attempt: Attempt
    ) -> None:
        exchange = self._copied(original, ask, model)
        outcome = "cancelled"
        try:
            outcome = await self._outcome(exchange, attempt)
        except Exception as error:  # noqa: BLE001 - nobody waits for it
            outcome = "error"
            exchange.error = InternalError(exchange.request_id)
            _log.exception("shadow-failed", request_id=exchange.request_id, exc_info=error)
        finally:
            exchange.watch.close()
            exchange.ask = None  # it refers back
            exchange.ended_at = self._clock()
            self._wire.metrics.shadowed(model.name, shadow.name, outcome)
            if exchange.route is not None and outcome != "cancelled":
                self._ended(exchange)

    async def _outcome(self, exchange: Exchange, attempt: Attempt) -> str:
        """A word for metrics."""
        assert exchange.model is not None
        assert exchange.ask is not None
        try:
            route = self._wire.router.route(exchange.model, exchange.ask, dead=set(), avoid=set())
            if route is None:
                return "unavailable"
            if isinstance(route, Full):  # nobody wakes for a copy
                return "busy" if route is FULL else "unavailable"
            failure = await attempt(exchange, route)
            if failure is not None:
                raise BadAnswerError(f"The shadow's worker failed ({failure.reason}).")
        except ApiError as error:
            exchange.error = error
            return "error" if error.status >= _SERVER_ERROR else "refused"
        except CannotResumeError:
            return "error"
        except asyncio.CancelledError:
            stop = exchange.watch.claim()
            if stop is None:
                raise
            self._wire.stalled(exchange, stop)
            exchange.error = DeadlineError(TOO_LATE.get(stop, TOO_LATE[Stop.TOTAL]))
            return "error"
        return "ok"

    def _copied(self, original: Exchange, ask: Ask, model: ModelRow) -> Exchange:
        began = self._clock()
        client = ClientRequest(_NOWHERE)
        client.body_complete = True
        exchange = Exchange(
            client=client,
            request_id=f"{original.request_id}-shadow",
            watch=Watch(self._sweep),
            opened_at=original.opened_at,
            began=began,
            dialect=original.dialect,
        )
        exchange.model = model
        exchange.request = original.request
        exchange.ask = Ask(
            prompt=ask.prompt,
            prompt_tokens=ask.prompt_tokens,
            fits_pair=exchange.fits_pair,
            session=ask.session,
            key_id=ask.key_id,
            operation=ask.operation,
            generates=ask.generates,
        )
        exchange.ask.token_ids = ask.token_ids
        exchange.first_token_at = began + model.limits.first_token_s
        exchange.watch.total_at = began + model.limits.total_s
        return exchange
