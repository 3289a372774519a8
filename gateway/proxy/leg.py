"""One leg of a request: one worker asked once.

What went wrong is told to health and metrics here, and nowhere else. A deadline that only this
leg has missed ends the leg, not the request.
"""

import asyncio
from types import TracebackType

from gateway.api.envelope import worker_error
from gateway.api.request import InferenceRequest
from gateway.errors import ApiError, UnsupportedOperationError
from gateway.proxy.connection import Connection
from gateway.proxy.deadline import Stop
from gateway.proxy.errors import (
    BrokenAnswerError,
    CutOffError,
    LegError,
    StaleError,
    UpstreamError,
)
from gateway.proxy.exchange import Exchange
from gateway.proxy.wire import Wire, encode_for
from gateway.routing.endpoint import Endpoint
from gateway.tracing import Step
from pipelines.engines.base import Body

ANSWER_BYTES_MAX = 64 * 1024 * 1024
REFUSAL_BYTES_MAX = 1024 * 1024
_OK = 200
_SERVER_ERROR = 500
_OVERLOADED = 503
# The client's own fault, so the client is told. Any other status below 500 is ours to explain:
# a 401 means that the gateway's token for the worker is wrong, not the client's key.
_REFUSALS = frozenset({400, 413, 422, 429})
# How an engine says that it has no such route. Of what it may lack that is no fault of its.
_LACKING = frozenset({404, 405, 501})
_UNANSWERED = frozenset({"connect", "reset", "hung"})
_DIGITS_MAX = 9  # of a number of seconds


class Leg:
    """``async with`` it: yields the connection once the answer's head is there. The request's
    deadlines are not about a leg that runs *beside* the one the client's answer comes from. One
    that leads to a KV transfer is sent *once*: its parameters are good for one try.

    Raises LegError, or an ApiError with the worker's own words if the worker refuses the request
    as such.
    """

    __slots__ = (
        "_beside",
        "_body",
        "_connection",
        "_endpoint",
        "_exchange",
        "_once",
        "_step",
        "_stream",
        "_under_way",
        "_wire",
    )

    def __init__(
        self,
        wire: Wire,
        exchange: Exchange,
        endpoint: Endpoint,
        body: Body,
        *,
        stream: bool,
        once: bool = False,
        beside: bool = False,
    ) -> None:
        self._wire = wire
        self._exchange = exchange
        self._endpoint = endpoint
        self._body = body
        self._stream = stream
        self._once = once
        self._beside = beside
        self._connection: Connection | None = None
        self._step: Step | None = None
        self._under_way = False

    async def __aenter__(self) -> Connection:
        if not self._beside:
            self._exchange.leg = self._endpoint
            self._exchange.token_at = None
        self._under_way = True
        endpoint = self._endpoint
        self._wire.metrics.legs(endpoint.model, endpoint.variant, endpoint.role).started += 1
        trace = self._exchange.trace
        if trace is not None:
            self._step = trace.step(endpoint.role, self._wire.clock(), endpoint)
        try:
            connection = self._connection = await self._request()
            if connection.status != _OK:
                await self._refused(connection)
            self._check_form(connection)
            return connection
        except BaseException as error:
            # A refusal was read to its end.
            self._leave(keep=isinstance(error, ApiError), error=error)
            self._translate(error)
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave(keep=error is None, error=error)
        if error is None:
            if not self._beside:
                self._exchange.leg = None
            self._wire.router.health.succeeded(self._endpoint.worker_id)
        else:
            self._translate(error)

    def partner_failed(self) -> None:
        """Ends the leg from outside, wherever it is."""
        if self._under_way:
            self._exchange.watch.partner_failed()

    async def _request(self) -> Connection:
        exchange = self._exchange
        assert exchange.request is not None
        assert exchange.model is not None
        return await self._wire.upstream.request(
            self._endpoint,
            exchange.request.operation.path,
            encode_for(self._endpoint, self._body),
            stream=self._stream,
            request_id=exchange.request_id,
            connect_s=exchange.model.limits.connect_s,
            once=self._once,
            trace=exchange.trace.headers(self._step) if exchange.trace is not None else b"",
        )

    def _leave(self, *, keep: bool, error: BaseException | None) -> None:
        self._under_way = False
        if self._step is not None:
            self._remember(self._step, error)
        if self._connection is not None:
            if keep:
                self._wire.upstream.release(self._endpoint, self._connection)
            else:
                self._connection.abort()

    def _remember(self, step: Step, error: BaseException | None) -> None:
        step.ended = self._wire.clock()
        if self._connection is not None:
            step.status = self._connection.status
        if not self._beside:
            step.token_at = self._exchange.token_at
        if error is not None and not step.error:
            # A cancellation is given its reason by `failed`, if the leg is what it was about.
            step.error = str(getattr(error, "reason", "")) or (
                "refused" if isinstance(error, ApiError) else "cancelled"
            )

    async def _refused(self, connection: Connection) -> None:
        status, request = connection.status, self._exchange.request
        assert request is not None
        lacking = status in _LACKING and request.operation.optional
        if status not in _REFUSALS and not lacking:
            raise self.failed(
                f"status_{status}",
                gone=status == _OVERLOADED,
                soft=status >= _SERVER_ERROR,
            )
        body = await connection.read_all(REFUSAL_BYTES_MAX)
        # A worker's words may name the place it runs at; that is not the client's to know.
        body = body.replace(self._endpoint.authority.encode(), b"the worker")
        if lacking:
            raise _unsupported(request, body)
        raise _refusal(status, body, connection.retry_after)

    def _check_form(self, connection: Connection) -> None:
        expected = b"text/event-stream" if self._stream else b"application/json"
        if not connection.content_type.lower().startswith(expected):
            raise BrokenAnswerError("the answer has an unexpected content-type")
        if connection.encoding.lower() not in (b"", b"identity"):
            raise BrokenAnswerError("the answer is compressed, which was not asked for")

    def _translate(self, error: BaseException) -> None:
        """Raises LegError if *error* is over for this leg alone."""
        if isinstance(error, StaleError):  # nobody's fault
            worker = self._endpoint.worker_id
            raise LegError(worker, error.reason, gone=False, answered=False) from error
        if isinstance(error, UpstreamError):
            broken = isinstance(error, BrokenAnswerError) or self._lacked_kv(error)
            raise self.failed(error.reason, gone=not broken, soft=broken) from error
        if isinstance(error, asyncio.CancelledError) and not self._beside:
            stop = self._exchange.watch.claim_leg()
            if stop is Stop.PARTNER:  # not this worker's fault
                worker = self._endpoint.worker_id
                raise LegError(worker, stop, gone=False, answered=True) from error
            if stop is not None:
                raise self.failed(f"deadline_{stop}", soft=stop is Stop.TRANSFER) from error

    def _lacked_kv(self, error: UpstreamError) -> bool:
        """Whether it was cut as vLLM cuts a stream whose KV did not come, where it has no event to
        say so. A worker that has gone will be found out by the next try.
        """
        exchange = self._exchange
        assert exchange.request is not None
        told = exchange.request.operation.resumes
        return isinstance(error, CutOffError) and self._once and not told and not exchange.started

    def failed(self, reason: str, *, gone: bool = False, soft: bool = True) -> LegError:
        """Notes the failure and gives the error to raise."""
        self._wire.router.health.failed(self._endpoint.worker_id, self._wire.clock(), soft=soft)
        self._wire.failed(self._endpoint, reason)
        if self._step is not None:
            self._step.error = reason
        answered = reason not in _UNANSWERED and not reason.startswith("deadline_")
        return LegError(self._endpoint.worker_id, reason, gone=gone, answered=answered)


def _unsupported(request: InferenceRequest, body: bytes) -> ApiError:
    error = worker_error(body)
    return UnsupportedOperationError(
        f"The worker of the model {request.model!r} does not answer {request.operation.path}"
        + (f": {error.message}" if error else ".")
    )


def _refusal(status: int, body: bytes, retry_after: bytes) -> ApiError:
    error = worker_error(body)
    is_number = retry_after.isdigit() and len(retry_after) <= _DIGITS_MAX
    refusal = ApiError(
        error.message if error else f"The worker refused the request with status {status}.",
        param=error.param if error else None,
        code=error.code if error else None,
        headers={"retry-after": str(int(retry_after))} if is_number else {},
    )
    refusal.status = status
    refusal.type = error.type if error else "invalid_request_error"
    return refusal
