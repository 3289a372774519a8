"""One HTTP/1.1 connection to a worker, on httptools.

Everything a worker sends is untrusted: heads are bounded, bodies are read no faster than they are
taken, and an answer counts as whole only when its framing says so.
"""

import asyncio
from collections.abc import Callable
from typing import cast

import httptools

from gateway.proxy.errors import (
    BrokenAnswerError,
    CutOffError,
    ResetError,
    UnfinishedError,
    UpstreamError,
)

HEAD_BYTES_MAX = 64 * 1024
# Read ahead of the client at most this much, then let TCP hold the worker back.
BUFFER_BYTES_MAX = 256 * 1024
_INTERIM_MAX = 8
# Up to this size copying a body is cheaper than a second system call.
_ONE_WRITE_BYTES_MAX = 32 * 1024
_STATUS_OK = 200
_STATUSES_WITHOUT_BODY = (204, 304)


class Connection(asyncio.Protocol):
    """Carries one request after another. *on_lost* is called once, when it is closed."""

    __slots__ = (
        "_between_chunks",
        "_buffered",
        "_framed",
        "_head_bytes",
        "_interim",
        "_linger",
        "_loop",
        "_on_complete",
        "_on_lost",
        "_parser",
        "_parts",
        "_paused",
        "_raw_sink",
        "_sink",
        "_sink_error",
        "_transport",
        "_waiter",
        "asked_at",
        "busy",
        "closed",
        "complete",
        "content_type",
        "encoding",
        "error",
        "head_done",
        "heard",
        "heard_at",
        "idle_since",
        "keep_alive",
        "received",
        "retry_after",
        "status",
    )

    def __init__(
        self, loop: asyncio.AbstractEventLoop, on_lost: Callable[["Connection"], None]
    ) -> None:
        self._loop = loop
        self._on_lost = on_lost
        self._on_complete: Callable[[Connection], None] | None = None
        self._sink: Callable[[bytes], bool] | None = None
        self._raw_sink: Callable[[bytes], bool] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._linger: asyncio.TimerHandle | None = None
        self.closed = False
        self.busy = False
        self.idle_since = 0.0
        self.asked_at = 0.0  # when something was last sent; the loop's time
        self.heard = False  # something has come since somebody last asked
        self.heard_at = 0.0  # by `heard_by`
        self._reset()

    def _reset(self) -> None:
        self.status = 0
        self.content_type = b""
        self.encoding = b""
        self.retry_after = b""
        self.received = self.head_done = self.complete = self.keep_alive = False
        self.error: UpstreamError | None = None
        self._sink = self._raw_sink = None
        self._sink_error: Exception | None = None
        self._between_chunks = False
        self._framed = self._interim = False
        self._head_bytes = 0
        self._parts: list[bytes] = []
        self._buffered = 0
        self._paused = False

    # For the request's task.

    def start(self, head: bytes, body: bytes) -> None:
        """Sends a request. The connection must be idle."""
        assert not self.busy, "one request at a time"
        assert self._transport is not None
        self._reset()
        self.busy = True
        self.asked_at = self._loop.time()
        if len(body) <= _ONE_WRITE_BYTES_MAX:
            self._transport.write(head + body)
        else:
            self._transport.write(head)
            self._transport.write(body)

    async def wait_head(self) -> None:
        """Until status and headers are there. Closes itself if they will not be. Raises
        UpstreamError.
        """
        try:
            while not self.head_done:
                if self.error is not None:
                    raise self.error
                await self._wait()
        except BaseException:
            self.abort()
            raise

    async def read(self) -> bytes:
        """What has come of the body since the last call, b"" at its end. Raises UpstreamError."""
        while not self._parts:
            if self.complete:
                return b""
            if self.error is not None:
                raise self.error
            await self._wait()
        parts = self._parts
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        self._parts = []
        self._buffered = 0
        if self._paused:
            self._resume()
        return data

    async def pump(
        self, sink: Callable[[bytes], bool], raw_sink: Callable[[bytes], bool] | None = None
    ) -> None:
        """Hands everything that comes of the body to *sink*, from within the event loop's own
        callbacks, until it returns True: no task wakes for a token.

        *raw_sink* is offered what comes between two chunks as it came, before the parser: if it
        takes it (returns True), these must be whole chunks and more.

        Raises UpstreamError, also when the body ends before that, and whatever *sink* raises.
        """
        if self._parts:
            parts, self._parts, self._buffered = self._parts, [], 0
            if sink(b"".join(parts)):
                return
        self._sink, self._raw_sink = sink, raw_sink
        try:
            while self._is_pumping:
                if self.complete:
                    raise UnfinishedError("the stream ended without its last event")
                if self.error is not None:
                    raise self.error
                await self._wait()
        finally:
            self._sink = self._raw_sink = None
        if self._sink_error is not None:
            raise self._sink_error

    @property
    def _is_pumping(self) -> bool:
        return self._sink is not None

    def heard_by(self, now: float) -> float:
        """When something last came, as far as those who ask now and then can tell."""
        if self.heard:
            self.heard = False
            self.heard_at = now
        return self.heard_at

    def hold(self, held: bool) -> None:
        """Reads no further while *held*: whoever takes what comes is slower than the worker."""
        if held:
            self._pause()
        elif self._paused:
            self._resume()

    def fail(self, error: UpstreamError) -> None:
        """Ends the answer with *error*, from outside of it."""
        if self.busy:
            self._fail(error)
            self._wake()

    async def read_all(self, limit_bytes: int) -> bytes:
        """The whole body. Raises UpstreamError, also when it is over *limit_bytes*."""
        data = await self.read()
        if self.complete and not self._parts and len(data) <= limit_bytes:
            return data
        parts, total = [], 0
        while data:
            parts.append(data)
            total += len(data)
            if total > limit_bytes:
                raise BrokenAnswerError(f"the answer is over {limit_bytes} bytes")
            data = await self.read()
        return b"".join(parts)

    def finish(self, on_complete: Callable[["Connection"], None], timeout_s: float) -> None:
        """The request needs no more of this answer: *on_complete* gets the connection back once
        its framing is complete too. That may be now; if not within *timeout_s*, it is closed.
        """
        self._parts = []
        if self.complete or self.closed:
            on_complete(self)
            return
        self._on_complete = on_complete
        self._linger = self._loop.call_later(timeout_s, self.abort)
        if self._paused:
            self._resume()

    @property
    def reusable(self) -> bool:
        return self.complete and self.keep_alive and not self.closed

    def abort(self) -> None:
        """Closes at once: what the worker still does for this request is wanted no more."""
        if self._transport is not None:
            self._transport.abort()
        self.closed = True

    async def _wait(self) -> None:
        self._waiter = waiter = self._loop.create_future()
        try:
            await waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _resume(self) -> None:
        self._paused = False
        if not self.closed and self._transport is not None:
            self._transport.resume_reading()

    # For the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not inherit from asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if not self.busy:
            self.abort()  # an answer to no request
            return
        self.received = True
        self.heard = True
        if self._between_chunks and self._raw_sink is not None and self._raw_sink(data):
            return
        self._parse(data)
        if not self.head_done:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX:
                self._fail(BrokenAnswerError(f"the head is over {HEAD_BYTES_MAX} bytes"))
        elif self._sink is not None:
            self._sink_parts(self._sink)
            return
        elif self._buffered > BUFFER_BYTES_MAX and not self._paused:
            self._pause()
        self._wake()
        if self._on_complete is not None:
            self._finishing()

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail(BrokenAnswerError("the worker switched protocols"))
        except httptools.HttpParserError as error:
            self._fail(BrokenAnswerError(f"not HTTP: {error}"))
        if self._between_chunks and not data.endswith(b"\r\n"):
            self._between_chunks = False  # the parser has a part of the next one's size

    def _sink_parts(self, sink: Callable[[bytes], bool]) -> None:
        parts = self._parts
        if parts:
            data = parts[0] if len(parts) == 1 else b"".join(parts)
            self._parts = []
            self._buffered = 0
            try:
                done = sink(data)
            except Exception as error:  # noqa: BLE001 - it is raised where `pump` is awaited
                self._sink_error, done = error, True
            if done:
                self._sink = self._raw_sink = None
                self._wake()
                return
        if self.complete or self.error is not None:
            self._wake()

    def eof_received(self) -> None:
        return None  # closes

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if self.head_done and not self._framed and exc is None:
            self.complete = True  # an answer that ends with its connection
        if self.busy and not self.complete and self.error is None:
            self.error = (
                CutOffError("the answer stopped in the middle")
                if self.received
                else ResetError("the worker closed the connection")
            )
        self._wake()
        self._end_linger()
        self._on_lost(self)

    def _pause(self) -> None:
        if self._transport is not None and not self.closed:
            self._paused = True
            self._transport.pause_reading()

    def _finishing(self) -> None:
        self._parts, self._buffered = [], 0
        if self.complete:
            callback = self._end_linger()
            assert callback is not None
            callback(self)

    def _end_linger(self) -> Callable[["Connection"], None] | None:
        callback, self._on_complete = self._on_complete, None
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        return callback

    def _fail(self, error: UpstreamError) -> None:
        self.keep_alive = False
        if not self.complete and self.error is None:
            self.error = error
        self.abort()

    # For the parser.

    def on_message_begin(self) -> None:
        if self.complete:
            raise BrokenAnswerError("a second answer to one request")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > HEAD_BYTES_MAX:
            raise BrokenAnswerError(f"the head is over {HEAD_BYTES_MAX} bytes")
        name = name.lower()
        if name == b"content-type":
            self.content_type = value
        elif name == b"content-encoding":
            self.encoding = value
        elif name == b"retry-after":
            self.retry_after = value
        elif name in (b"content-length", b"transfer-encoding"):
            self._framed = True

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        self._interim = status < _STATUS_OK
        if self._interim:
            self._head_bytes += HEAD_BYTES_MAX // _INTERIM_MAX
            return
        self.status = status
        self.head_done = True
        self._framed = self._framed or status in _STATUSES_WITHOUT_BODY

    def on_chunk_header(self) -> None:
        self._between_chunks = False

    def on_chunk_complete(self) -> None:
        self._between_chunks = True

    def on_body(self, body: bytes) -> None:
        self._parts.append(body)
        self._buffered += len(body)

    def on_message_complete(self) -> None:
        if self._interim:
            self._framed = False
            return
        self.complete = True
        self.keep_alive = self._parser.should_keep_alive()
