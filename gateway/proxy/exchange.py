"""One inference request while it is served: what is known of it, and its way back to the client."""

from collections.abc import Awaitable, Callable
from typing import Any

from gateway.errors import ApiError
from gateway.openai.answer import NO_USAGE
from gateway.openai.request import InferenceRequest
from gateway.proxy.deadline import Watch
from gateway.routing.pick import Mode, Route
from gateway.routing.table import Endpoint, Header, ModelRow, VariantRow
from registry.spec import Role

Send = Callable[[Any], Awaitable[None]]


class Exchange:
    """Times are monotonic seconds, but for *opened_at*, which is of the epoch."""

    __slots__ = (
        "avoid",
        "began",
        "client_gone",
        "dead",
        "ended_at",
        "error",
        "events",
        "finished",
        "first_at",
        "first_token_at",
        "key_id",
        "leg",
        "model",
        "opened_at",
        "reached",
        "request",
        "request_id",
        "route",
        "send",
        "started",
        "status",
        "streaming",
        "usage",
        "watch",
    )

    def __init__(
        self, *, request_id: str, send: Send, watch: Watch, opened_at: float, began: float
    ) -> None:
        self.request_id = request_id
        self.send = send
        self.watch = watch
        self.opened_at = opened_at
        self.began = began
        self.key_id = ""
        self.model: ModelRow | None = None
        self.request: InferenceRequest | None = None
        self.dead: set[str] = set()  # workers that took no part or went away
        self.avoid: set[str] = set()  # workers that did not do well
        self.route: Route | None = None
        self.leg: Endpoint | None = None  # the worker that is being waited for
        self.reached = False  # some worker has been given the request
        self.started = False  # the client has the answer's head
        self.streaming = False  # … which is a stream's
        self.finished = False  # … and the end
        self.client_gone = False
        self.error: ApiError | None = None  # what the client was told instead
        self.status = 0
        self.first_at: float | None = None
        self.ended_at = 0.0
        self.first_token_at = 0.0  # the deadline
        self.events = 0  # streamed to the client
        self.usage = NO_USAGE

    @property
    def mode(self) -> Mode | None:
        return self.route.mode if self.route else None

    def fits_pair(self, variant: VariantRow) -> bool:
        assert self.request is not None
        return self.request.fits_pair(variant.bypass_tokens)

    def headers(self, content_type: bytes) -> list[Header]:
        """Of the answer: who asked what, and which workers served it how."""
        headers = [(b"content-type", content_type), (b"x-request-id", self.request_id.encode())]
        route = self.route
        if route is not None:
            headers += route.answerer.identity
            headers.append((b"x-modelyard-mode", route.mode.encode()))
            headers.append((b"x-modelyard-workers", _workers(route)))
        return headers

    async def reply(
        self, status: int, body: bytes, headers: list[Header], content_type: bytes
    ) -> None:
        """The whole answer at once. Nothing may have been sent before."""
        self.started = True
        self.status = status
        self.watch.sending = True
        all_headers = self.headers(content_type)
        all_headers.append((b"content-length", b"%d" % len(body)))
        all_headers += headers
        await self.send({"type": "http.response.start", "status": status, "headers": all_headers})
        await self.send({"type": "http.response.body", "body": body, "more_body": False})
        self.finished = True
        self.watch.sending = False


def _workers(route: Route) -> bytes:
    answerer = route.answerer
    if route.prefill is not None:
        return f"prefill={route.prefill.worker_id}, decode={answerer.worker_id}".encode()
    return f"{Role(answerer.role).value}={answerer.worker_id}".encode()
