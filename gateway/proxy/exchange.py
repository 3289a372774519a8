"""One inference request while it is served: what is known of it, and its way back to the client."""

from functools import lru_cache

import msgspec

from gateway.api.answer import NO_USAGE
from gateway.api.operations import Dialect
from gateway.api.request import InferenceRequest
from gateway.errors import ApiError
from gateway.limits import Permit
from gateway.listener import ClientRequest
from gateway.metering import Opened
from gateway.proxy.deadline import Stop, Watch
from gateway.proxy.journal import Journal
from gateway.proxy.resume import Resumption
from gateway.proxy.retries import Turn
from gateway.routing.ask import Ask
from gateway.routing.endpoint import Endpoint
from gateway.routing.pick import Mode, Route
from gateway.routing.table import ModelRow, VariantRow
from gateway.tracing import Trace
from registry.spec import Role
from registry.state import Key, Priority

JSON = b"content-type: application/json\r\n"
EVENT_STREAM = (
    b"content-type: text/event-stream; charset=utf-8\r\n"
    b"cache-control: no-cache\r\nx-accel-buffering: no\r\n"
)


class Exchange:
    """Times are monotonic seconds, but for *opened_at*, which is of the epoch."""

    __slots__ = (
        "alone",
        "ask",
        "avoid",
        "began",
        "body_bytes",
        "cached_tokens",
        "client",
        "client_gone",
        "dead",
        "dialect",
        "ended_at",
        "error",
        "events",
        "failed_rows",
        "fallback_from",
        "finished",
        "first_at",
        "first_token_at",
        "greeted",
        "held_s",
        "journal",
        "key",
        "leg",
        "model",
        "opened",
        "opened_at",
        "pairs_failed",
        "passed_on",
        "permit",
        "prefilled_at",
        "priority",
        "queued_s",
        "request",
        "request_id",
        "resumption",
        "route",
        "since",
        "started",
        "status",
        "streaming",
        "token_at",
        "trace",
        "turn",
        "usage",
        "watch",
    )

    def __init__(
        self,
        *,
        client: ClientRequest,
        request_id: str,
        watch: Watch,
        opened_at: float,
        began: float,
        dialect: Dialect = Dialect.OPENAI,
    ) -> None:
        self.client = client
        self.request_id = request_id
        self.watch = watch
        self.opened_at = opened_at
        self.began = began
        self.since = began  # when the model that is to answer was asked
        self.dialect = dialect
        self.trace: Trace | None = None
        self.key: Key | None = None
        self.priority = Priority.NORMAL
        self.model: ModelRow | None = None
        self.fallback_from = ""  # the model that the client asked for, where another answers
        self.passed_on = False  # what its workers did has been told
        self.request: InferenceRequest | None = None
        self.body_bytes = 0
        self.opened: Opened | None = None  # its usage, once it has been let in
        self.permit: Permit | None = None  # of its limits, if its key or its model has any
        self.ask: Ask | None = None
        self.dead: set[str] = set()  # workers that took no part or went away
        self.avoid: set[str] = set()  # workers that did not do well
        self.pairs_failed = 0
        self.failed_rows: tuple[VariantRow, ...] = ()  # one for each try that failed
        self.alone = False  # pairs have failed it: decode alone, without KV transfer
        self.route: Route | None = None
        self.leg: Endpoint | None = None  # the worker that is being waited for
        self.greeted = False  # the client has a stream's head, and nothing of an answer yet
        self.held_s = 0.0  # how long it may wait until a worker has woken, if it does
        self.started = False  # the client has the answer's head
        self.streaming = False  # … which is a stream's
        self.finished = False  # … and the end
        self.client_gone = False
        self.error: ApiError | None = None  # what the client was told instead
        self.status = 0
        self.first_at: float | None = None
        self.token_at: float | None = None  # the first of the leg that answers
        self.prefilled_at: float | None = None  # prefill's answer, of the last pair
        self.queued_s: float | None = None  # waited for room, all tries together
        self.ended_at = 0.0
        self.first_token_at = 0.0  # the deadline
        self.events = 0  # streamed to the client
        self.usage = NO_USAGE
        self.cached_tokens: int | None = None  # as the prefill worker counts them
        self.journal: Journal | None = None  # of a stream that another worker could go on with
        self.resumption: Resumption | None = None  # once one does
        self.turn: Turn | None = None  # in the budget for second tries

    @property
    def key_id(self) -> str:
        return self.key.id if self.key is not None else ""

    @property
    def mode(self) -> Mode | None:
        return self.route.mode if self.route else None

    @property
    def prompt_tokens_cached(self) -> int:
        """As the workers say. In a pair prefill is who knows: for decode the whole prompt comes out
        of a cache.
        """
        if self.mode is Mode.DISAGGREGATED:
            return self.cached_tokens or 0
        return self.usage.cached_tokens

    def fits_pair(self, variant: VariantRow) -> bool:
        assert self.request is not None
        return (
            not self.alone
            and self.request.operation.name in variant.paired_operations
            and self.request.fits_pair(variant.bypass_tokens)
        )

    def turn_over(self) -> None:
        """The second try, if this is one, has been answered or has failed."""
        if self.turn is not None:
            self.turn.over()
            self.turn = None

    def settle(self) -> None:
        """It is over: in place of what its limits set aside for it comes what it used. A stream cut
        short, or an answer that the client did not wait for, has said nothing of the prompt, which
        a worker has read all the same: the estimate stays. It costs what its usage record says.
        """
        permit = self.permit
        if permit is not None:
            assert self.model is not None
            assert self.ask is not None
            usage = self.usage
            tokens = usage.prompt_tokens + usage.completion_tokens
            left = self.client_gone and self.route is not None
            if (self.streaming or left) and not usage.prompt_tokens:
                tokens += self.ask.tokens
            cost_nano = self.model.price.cost_nano(usage.prompt_tokens, usage.completion_tokens)
            permit.settle(tokens, cost_nano)

    def turn_to(self, model: ModelRow, now: float) -> None:
        """Another *model* is to answer, as if nobody had been asked yet."""
        assert self.model is not None
        assert self.request is not None
        assert not self.started, "the client has a part of an answer"
        self.turn_over()
        self.fallback_from = self.fallback_from or self.model.name
        self.model = model
        named = msgspec.Raw(msgspec.json.encode(model.name))
        body = {**self.request.body, "model": named}
        self.request = msgspec.structs.replace(self.request, body=body, model=model.name)
        self.since = now
        self.dead, self.avoid, self.failed_rows = set(), set(), ()
        self.pairs_failed, self.alone = 0, False
        self.route = self.leg = self.journal = None
        self.first_at = self.token_at = self.prefilled_at = self.cached_tokens = None
        self.passed_on = False

    def turn_back(self, model: ModelRow, route: Route | None) -> None:
        """To the one that the client asked for, since no other answered."""
        self.model, self.route = model, route
        self.fallback_from = ""

    def headers(self, form: bytes, route: Route | None) -> bytes:
        """Of the answer, as lines: who asked what, which workers served it how (those of *route*),
        what is left of its limits.
        """
        if self.permit is not None:
            form += self.permit.head
        request_id = self.request_id.encode()
        if self.dialect is Dialect.ANTHROPIC:
            form += b"request-id: %b\r\n" % request_id
        if route is None:
            return b"%bx-request-id: %b\r\n" % (form, request_id)
        if self.fallback_from:
            form += b"x-modelyard-fallback-from: %b\r\n" % self.fallback_from.encode()
        answerer, prefill = route.answerer, route.prefill
        return b"%bx-request-id: %b\r\n%b" % (
            form,
            request_id,
            _place(
                answerer.identity,
                route.mode,
                answerer.role,
                answerer.worker_id,
                prefill.worker_id if prefill is not None else "",
            ),
        )

    def reply(self, status: int, body: bytes, form: bytes = JSON) -> None:
        """The whole answer at once. Nothing may have been sent before."""
        assert not self.greeted, "it has a stream's head"
        self.started = self.finished = True
        self.status = status
        self.client.respond(status, self.headers(form, self.route), body)

    def begin_stream(self) -> None:
        self._begin(self.route)
        self.greeted = False
        self.started = self.streaming = True

    def greet(self) -> None:
        """The head of a stream, if the client has it not yet: the answer may come later. It does
        not name workers: whoever may have failed at it is not who will answer.
        """
        self._begin(None)

    def _begin(self, route: Route | None) -> None:
        if not self.greeted:
            self.greeted = True
            self.status = 200
            self.client.begin(200, self.headers(EVENT_STREAM, route))

    def begin_by(self, now: float) -> float:
        """When a leg that starts *now* must have begun to answer."""
        assert self.model is not None
        if self.started:
            return now + self.model.limits.between_tokens_s
        return self.first_token_at

    def expect_between(self, now: float) -> None:
        """The next token, or the client's taking of the last ones, is due."""
        assert self.model is not None
        self.watch.until(now + self.model.limits.between_tokens_s, Stop.BETWEEN_TOKENS)


@lru_cache(maxsize=4096)
def _place(identity: bytes, mode: Mode, role: Role, worker_id: str, prefill_id: str) -> bytes:
    """The header lines that say who served it how."""
    workers = f"prefill={prefill_id}, decode={worker_id}" if prefill_id else f"{role}={worker_id}"
    lines = f"x-modelyard-mode: {mode}\r\nx-modelyard-workers: {workers}\r\n"
    return identity + lines.encode()
