"""From a checked request to the last byte of its answer: queue, route, try, retry, go on."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from gateway.api.answer import Usage, read_answer
from gateway.api.events import EVENTS
from gateway.errors import ApiError, BadAnswerError, DeadlineError, UnavailableError
from gateway.proxy.connection import Connection
from gateway.proxy.deadline import TOO_LATE, Stop
from gateway.proxy.disagg import Disaggregation, Prepared
from gateway.proxy.errors import CannotResumeError, LegError, ResetError
from gateway.proxy.exchange import Exchange
from gateway.proxy.hold import Hold
from gateway.proxy.journal import Journal
from gateway.proxy.leg import ANSWER_BYTES_MAX, Leg
from gateway.proxy.retries import RetryBudget
from gateway.proxy.shadow import Shadows
from gateway.proxy.splice import Splice
from gateway.proxy.stream import Relay
from gateway.proxy.takeover import Takeover
from gateway.proxy.wire import Wire
from gateway.routing.admission import Admission
from gateway.routing.load import Ticket
from gateway.routing.pick import ASLEEP, Full, Mode, Route
from gateway.routing.table import ModelRow
from gateway.signals import Collector
from pipelines.engines.base import Body, Engine
from pipelines.engines.resume import can_resume, tokenize_body
from registry.spec import EngineName, RoutingPolicy

ATTEMPTS_MAX = 3
# After pairs have failed this often, decode is asked alone: without KV transfer.
_PAIRS_MAX = 2


class Forwarder:
    """*clock* gives monotonic seconds, *row* a model's row of the moment."""

    def __init__(
        self,
        wire: Wire,
        admission: Admission,
        engines: Mapping[EngineName, Engine],
        *,
        clock: Callable[[], float],
        row: Callable[[str], ModelRow | None],
        signals: Collector,
        shadows: Shadows,
    ) -> None:
        self._wire = wire
        self._admission = admission
        self._row = row
        self._engines = engines
        self._disaggregation = Disaggregation(wire, engines)
        self._takeover = Takeover(wire, engines)
        self._signals = signals
        self._shadows = shadows
        self._clock = clock
        self.active = 0
        self._retries = RetryBudget(lambda: self.active)
        self._turn = 0  # whom to ask for tokens

    async def serve(self, exchange: Exchange) -> None:
        """Answers the client. Raises ApiError if it still has to be told that this failed."""
        request = exchange.request
        assert request is not None
        model = _model(exchange).name
        self.active += 1
        self._signals.began(model, exchange.opened_at)
        if request.stream and request.operation.resumes and can_resume(request.body):
            exchange.journal = Journal()
        try:
            route = await self._route(exchange)
            if route is not None and _model(exchange).shadows:
                self._shadows.copy(exchange, self.attempt)
            failure = await self.attempt(exchange, route) if route else None
            if failure is not None or route is None:
                await self._serve_again(exchange, failure)
        finally:
            self.active -= 1
            self._signals.left(model)

    async def _serve_again(self, exchange: Exchange, failure: LegError | None) -> None:
        """What the first try left to do, by others, within the budget for that."""
        if failure is None:
            raise _given_up(exchange, failure)
        try:
            for _ in range(ATTEMPTS_MAX - 1):
                if not await self._may_retry(exchange, failure):
                    break
                route = await self._route(exchange)
                if route is None:
                    break
                if not _is_worth_it(exchange, route):
                    self._admission.freed(route.answerer)  # the place goes to the next
                    break
                self._wire.metrics.retry(_model(exchange).name, route.variant.name, failure.reason)
                again = await self.attempt(exchange, route)
                if again is None:
                    return
                failure = again
        except CannotResumeError:
            pass
        finally:
            exchange.turn_over()
        raise _given_up(exchange, failure)

    async def _may_retry(self, exchange: Exchange, failure: LegError) -> bool:
        """After a worker that went away, once it is this request's turn: what it had is to be done
        by others, but not all at once. After one that failed at it, only if there is room now:
        errors of a fleet in trouble must not multiply.
        """
        if exchange.turn is None:
            if failure.gone or failure.reason == ResetError.reason or exchange.started:
                limits = _model(exchange).limits
                exchange.watch.until(self._clock() + limits.queued_s, Stop.QUEUED)
                exchange.turn = await self._retries.turn()
            else:
                exchange.turn = self._retries.turn_now()
        return exchange.turn is not None

    async def _route(self, exchange: Exchange) -> Route | None:
        """Workers for the next try, once there is room; None if there is nobody to ask."""
        model, ask = _model(exchange), exchange.ask
        assert ask is not None

        def find() -> Route | Full | None:
            # As it is now: workers may have come and gone while this request waited.
            row = self._row(model.name)
            found = self._wire.router.route(
                row or model, ask, dead=exchange.dead, avoid=exchange.avoid
            )
            if row is None:  # nobody wakes for a deleted model
                return None if found is ASLEEP else found
            # Who is held stays so if the one that was to wake has failed: its place is taken anew.
            return ASLEEP if found is None and exchange.held_s else found

        exchange.leg = None
        exchange.held_s = 0.0
        if model.policy is RoutingPolicy.KV_EVENTS and ask.token_ids is None:
            ask.token_ids = await self._tokens(exchange)
        began = self._clock()
        row = self._row(model.name)
        if row is not None and row.wake_s and not exchange.started:
            dead, avoid = exchange.dead, exchange.avoid
            if self._wire.router.sleeps(row, ask, dead=dead, avoid=avoid):
                exchange.held_s = row.wake_s
                dead.clear()  # who wakes up begins anew
                avoid.clear()
        exchange.watch.until(began + (exchange.held_s or model.limits.queued_s), Stop.QUEUED)
        enter = partial(self._admission.enter, model, exchange.priority, find, tokens=ask.tokens)
        try:
            return await (self._held(exchange, enter) if exchange.held_s else enter())
        finally:
            ended = self._clock()
            exchange.queued_s = (exchange.queued_s or 0.0) + ended - began
            if exchange.trace is not None:
                exchange.trace.waited(began, ended)

    async def _held(
        self, exchange: Exchange, enter: Callable[[], Awaitable[Route | None]]
    ) -> Route | None:
        """Until a worker has woken up. Its time to the first token begins then."""
        exchange.turn_over()  # while it waits it is work for nobody
        self._signals.hurry()
        with Hold(exchange):
            route = await enter()
        exchange.held_s = 0.0
        exchange.first_token_at = self._clock() + _model(exchange).limits.first_token_s
        return route

    async def _tokens(self, exchange: Exchange) -> tuple[int, ...] | None:
        """The prompt's tokens by the engine's own tokenizer, for an exact look into KV caches."""
        assert exchange.request is not None
        if not exchange.request.operation.resumes:
            return None  # engines tokenize what they could go on with, in no other dialect
        for variant in _model(exchange).variants:
            endpoints = variant.unified or variant.prefill or variant.decode
            resuming = self._engines[variant.engine].resuming
            if resuming and resuming.tokenized and endpoints:
                turn = self._turn = self._turn + 1
                return await self._wire.tokens(
                    exchange,
                    endpoints[turn % len(endpoints)],
                    tokenize_body(exchange.request.body, resuming.tokenized),
                )
        return None

    async def attempt(self, exchange: Exchange, route: Route) -> LegError | None:
        """Asks the workers of *route*, once. None when the client has its answer, else why another
        try may help. Raises ApiError if none would, CannotResumeError.
        """
        if exchange.alone and route.mode is Mode.BYPASS:
            route = route._replace(mode=Mode.DEGRADED)
        exchange.route = route
        assert exchange.request is not None
        assert exchange.ask is not None
        # Decode's place is taken before prefill begins, so that others see it coming.
        ticket = self._wire.router.enter(route.answerer, exchange.ask)
        prepared = Prepared(route, exchange.request.body)
        try:
            if exchange.started:
                body = await self._taken_over(exchange, route)
                if body is None:
                    return None  # every token had been said
                prepared = Prepared(route, body)
            if route.prefill is not None:
                prepared = await self._disaggregation.prepare(exchange, route, prepared.body)
            exchange.route = prepared.route
            if prepared.route.mode is Mode.DEGRADED:
                self._wire.metrics.degraded(_model(exchange).name, route.variant.name)
            await self._answer(exchange, prepared, ticket)
            self._transferred(exchange, prepared)
            return None
        except LegError as error:
            self._transferred(exchange, prepared, error.reason)
            exchange.failed_rows += (route.variant,)
            _learn(exchange, prepared.route, error)
            return error
        finally:
            ticket.leave()

    async def _taken_over(self, exchange: Exchange, route: Route) -> Body | None:
        """What the next worker is asked, for a stream that another one began."""
        outcome = "impossible"
        trace = exchange.trace
        step = trace.step("takeover", self._clock()) if trace is not None else None
        try:
            if exchange.journal is None:
                raise CannotResumeError
            body = await self._takeover.body(exchange, route)
            outcome = "complete" if body is None else "resumed"
            return body
        finally:
            self._wire.metrics.takeover(_model(exchange).name, route.variant.name, outcome)
            if step is not None:
                step.ended = self._clock()
                step.error = outcome if outcome == "impossible" else ""

    def _transferred(self, exchange: Exchange, prepared: Prepared, reason: str = "") -> None:
        """Counts the KV transfer of a pair that has answered, or failed for *reason*."""
        route, at = prepared.route, exchange.token_at
        if route.mode is not Mode.DISAGGREGATED:
            return
        pairs = self._wire.metrics.pairs(_model(exchange).name, route.variant.name)
        if at is None and reason:
            pairs.failed[reason] = pairs.failed.get(reason, 0) + 1
            return
        pairs.transfers += 1
        if at is not None and exchange.prefilled_at is not None and prepared.partner is None:
            pairs.transfer.observe(at - exchange.prefilled_at)

    async def _answer(self, exchange: Exchange, prepared: Prepared, ticket: Ticket) -> None:
        request = exchange.request
        assert request is not None
        self._expect(exchange, prepared)
        leg = Leg(
            self._wire,
            exchange,
            prepared.route.answerer,
            prepared.body,
            stream=request.stream,
            once=prepared.route.mode is Mode.DISAGGREGATED,
        )
        if prepared.partner is None:
            await self._answer_by(exchange, leg, ticket)
        else:
            async with self._disaggregation.partnered(exchange, prepared, leg):
                await self._answer_by(exchange, leg, ticket)

    async def _answer_by(self, exchange: Exchange, leg: Leg, ticket: Ticket) -> None:
        assert exchange.request is not None
        async with leg as connection:
            if exchange.request.stream:
                await self._stream(exchange, leg, connection, ticket)
            else:
                await self._whole(exchange, leg, connection, ticket)

    def _expect(self, exchange: Exchange, prepared: Prepared) -> None:
        """Until when this leg must have begun to answer. Where somebody else could be asked it
        gets half of the time that is left.
        """
        assert exchange.request is not None
        now, watch = self._clock(), exchange.watch
        in_pair = prepared.route.mode is Mode.DISAGGREGATED
        by, stop = exchange.begin_by(now), Stop.FIRST_TOKEN
        if exchange.started:
            stop = Stop.BETWEEN_TOKENS
        elif not exchange.request.stream:  # nothing is heard before its end
            by, stop = watch.total_at, Stop.TOTAL
        if in_pair and exchange.request.stream and prepared.partner is None:
            transfer_by = now + _model(exchange).limits.transfer_s
            if transfer_by < by:
                by, stop = transfer_by, Stop.TRANSFER
        elif in_pair or (exchange.request.stream and _others(exchange, prepared.route)):
            by, stop = now + (by - now) / 2, Stop.SLOW
        watch.until(by, stop)

    async def _whole(
        self, exchange: Exchange, leg: Leg, connection: Connection, ticket: Ticket
    ) -> None:
        body = await connection.read_all(ANSWER_BYTES_MAX)
        ticket.answered()
        assert exchange.request is not None
        try:
            exchange.usage = read_answer(body, exchange.request.operation)
        except BadAnswerError:
            raise leg.failed("broken_answer") from None
        exchange.first_at = self._clock()
        exchange.reply(200, body)

    async def _stream(
        self, exchange: Exchange, leg: Leg, connection: Connection, ticket: Ticket
    ) -> None:
        request = exchange.request
        assert request is not None
        relay = Relay(EVENTS[request.operation.name], usage_wanted=request.wants_usage)
        splice = Splice(exchange, connection, relay, ticket, self._clock)
        try:
            await splice.run()
        finally:
            if exchange.started or relay.done:  # else all that came was held back, and is lost
                exchange.events += relay.events
                exchange.usage = _usage_of(exchange, relay)
        if relay.failed:
            raise leg.failed("error_event")
        splice.finish()


def _others(exchange: Exchange, route: Route) -> bool:
    """Whether somebody else could still be asked for this answer."""
    variant = route.variant
    tried = exchange.dead | exchange.avoid | {route.answerer.worker_id}
    rest = (*variant.unified, *variant.decode)
    return any(endpoint.worker_id not in tried for endpoint in rest)


def _is_worth_it(exchange: Exchange, route: Route) -> bool:
    """Not when the same worker has just failed this request and nobody else is left. A pair, or
    decode that was half of one, is another matter: the transfer may have been at fault.
    """
    if route.prefill is not None or exchange.pairs_failed:
        return True
    return route.answerer.worker_id not in exchange.avoid


def _model(exchange: Exchange) -> ModelRow:
    assert exchange.model is not None
    return exchange.model


def _usage_of(exchange: Exchange, relay: Relay) -> Usage:
    """Of a stream cut short there is no count: then the events sent, less those that frame the
    others. Each of them carried at least one token.
    """
    usage = relay.usage
    counted = usage.completion_tokens > 0 or relay.done
    if exchange.resumption is not None:
        usage = exchange.resumption.total(usage)
    if counted:
        return usage
    events = exchange.events - relay.form.framing
    return Usage(usage.prompt_tokens, max(usage.completion_tokens, events))


def _learn(exchange: Exchange, route: Route, error: LegError) -> None:
    """Whom the next try leaves out. Raises ApiError if there should be none."""
    if error.gone:
        exchange.dead.add(error.worker_id)
    else:
        exchange.avoid.add(error.worker_id)
        if route.prefill is not None:
            # The KV transfer may be what failed, by either's fault: others if there are.
            exchange.avoid.update((route.answerer.worker_id, route.prefill.worker_id))
    if route.prefill is not None:
        exchange.pairs_failed += 1
        exchange.alone = exchange.pairs_failed >= _PAIRS_MAX
    if exchange.started and (exchange.journal is None or not exchange.journal.whole):
        raise _given_up(exchange, error)


def _given_up(exchange: Exchange, failure: LegError | None) -> ApiError:
    model = _model(exchange)
    if failure is not None and failure.reason.startswith("deadline_"):
        return DeadlineError(
            TOO_LATE[Stop.BETWEEN_TOKENS if exchange.started else Stop.FIRST_TOKEN]
        )
    if exchange.started:
        return BadAnswerError("The worker's answer broke off; what came of it is not whole.")
    if failure is not None and failure.answered:
        return BadAnswerError(
            f"The worker that had this request gave no usable answer ({failure.reason})."
        )
    reason = f"no worker could be reached ({failure.reason})" if failure else model.reason
    reason = reason or "no worker that answers this is ready"
    return UnavailableError(
        f"The model '{model.name}' cannot answer now: {reason}.",
        retry_after_s=model.limits.retry_after_s,
    )
