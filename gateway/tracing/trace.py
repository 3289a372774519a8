"""What a request remembers for its trace: when each thing was done, and by whom. Pure."""

from random import getrandbits
from typing import TYPE_CHECKING, Protocol

from gateway.routing.endpoint import Endpoint
from gateway.tracing.context import header_lines, parent_of, state_of

if TYPE_CHECKING:
    from gateway.proxy.exchange import Exchange

# A shorter wait for room is none.
_WAIT_S_MIN = 0.001
# A request has few; one that is tried and asked again and again must not grow without end.
STEPS_MAX = 32
_LOWER_64_BITS = (1 << 64) - 1


class Step:
    """One thing done for a request; a leg if it has an *endpoint*. Times are monotonic seconds."""

    __slots__ = ("began", "ended", "endpoint", "error", "name", "span_id", "status", "token_at")

    def __init__(self, name: str, began: float, endpoint: Endpoint | None = None) -> None:
        self.name = name
        self.began = began
        self.endpoint = endpoint
        self.ended = began
        self.span_id = _new_id(64)
        self.status = 0  # the worker's, in HTTP
        self.error = ""  # a word for what went wrong
        self.token_at: float | None = None  # a stream's first


class Trace:
    """Of one request. Where it is not *sampled* it has no steps, and only its ids go on: with the
    client's own span as the parent, if there is one.
    """

    __slots__ = ("parent_id", "sampled", "span_id", "state", "steps", "trace_id")

    def __init__(self, trace_id: int, parent_id: int, *, sampled: bool, state: bytes = b"") -> None:
        self.trace_id = trace_id
        self.parent_id = parent_id
        self.sampled = sampled
        self.state = state
        self.span_id = parent_id if parent_id and not sampled else _new_id(64)
        self.steps: list[Step] = []

    def step(self, name: str, now: float, endpoint: Endpoint | None = None) -> Step | None:
        """Begins one. None if it is not to be remembered."""
        if not self.sampled or len(self.steps) >= STEPS_MAX:
            return None
        step = Step(name, now, endpoint)
        self.steps.append(step)
        return step

    def waited(self, began: float, ended: float) -> None:
        """For room on a worker."""
        if ended - began >= _WAIT_S_MIN and (step := self.step("queue", began)) is not None:
            step.ended = ended

    def headers(self, step: Step | None) -> bytes:
        """The header lines that make a worker's own spans children of *step*."""
        span_id = self.span_id if step is None else step.span_id
        return header_lines(self.trace_id, span_id, sampled=self.sampled, state=self.state)


class Tracer(Protocol):
    """Begins the trace of each request and takes it back when the request is over."""

    def begin(self, traceparent: bytes, tracestate: bytes) -> Trace: ...

    def ended(self, exchange: "Exchange", *, operation: str, status: str, reason: str) -> None:
        """*exchange* is over. *operation* and *status* are what its metrics say, *reason* is the
        error that the client was told.
        """

    async def aclose(self) -> None: ...


def begin(traceparent: bytes, tracestate: bytes, ratio: float) -> Trace:
    """The client's trace, sampled if the client's is; else a new one, sampled at *ratio*."""
    parent = parent_of(traceparent) if traceparent else None
    if parent is not None:
        state = state_of(tracestate)
        return Trace(parent.trace_id, parent.span_id, sampled=parent.sampled, state=state)
    trace_id = _new_id(128)
    # As OpenTelemetry's TraceIdRatioBased does: what is drawn is the id.
    return Trace(trace_id, 0, sampled=(trace_id & _LOWER_64_BITS) < ratio * 2**64)


def _new_id(bits: int) -> int:
    """Never zero, which stands for none."""
    return getrandbits(bits) or 1
