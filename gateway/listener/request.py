"""One client request and the way back to its client: the body in, the answer out.

Writing never waits. Who writes much asks *paused* and leaves off, or is told through
*on_pressure*; what is written to a client that has gone is dropped.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol
from urllib.parse import unquote

import httptools

from gateway.listener.answer import CLOSE, KEEP_ALIVE, LAST_CHUNK, chunk, head

# The body is read no further than this ahead of whoever takes it.
BODY_AHEAD_BYTES_MAX = 256 * 1024


class ClientGoneError(Exception):
    """The client went away before its request was whole."""


class Carrier(Protocol):
    """What a request needs of its connection."""

    closed: bool  # what is written from now on goes nowhere

    def write(self, data: bytes) -> None: ...

    @property
    def raw_write(self) -> Callable[[bytes], None]:
        """The transport's own."""

    def answered(self) -> None:
        """The answer is complete; the next request may come."""

    def abort(self) -> None: ...

    def read_on(self) -> None: ...

    def expect_body(self) -> None: ...


class ClientRequest:
    """Headers that mean something here are attributes; all others are ignored, none is relayed."""

    __slots__ = (
        "_carrier",
        "_head",
        "_parts",
        "_size",
        "_waiter",
        "anthropic_version",
        "api_key",
        "authorization",
        "body_complete",
        "chunked",
        "content_length",
        "expects_continue",
        "finished",
        "gone",
        "keep_alive",
        "method",
        "on_gone",
        "on_pressure",
        "on_stop",
        "path",
        "paused",
        "priority",
        "request_id",
        "session",
        "started",
        "target",
        "task",
        "traceparent",
        "tracestate",
    )

    def __init__(self, carrier: Carrier) -> None:
        self._carrier = carrier
        self._head = b""
        self._parts: list[bytes] = []
        self._size = 0
        self._waiter: asyncio.Future[None] | None = None
        self.task: asyncio.Task[None] | None = None  # that answers it
        self.target = b""
        self.method = b""
        self.path = ""
        self.authorization: bytes | None = None
        self.api_key = b""  # where Anthropic's clients put it
        self.anthropic_version = b""
        self.content_length: bytes | None = None
        self.request_id = b""
        self.session = b""
        self.priority = b""
        self.traceparent = b""
        self.tracestate = b""
        self.expects_continue = False
        self.keep_alive = True
        self.chunked = True  # whether the client understands chunks
        self.body_complete = False
        self.started = False  # something of the answer was written
        self.finished = False
        self.gone = False
        self.paused = False  # the client takes more slowly than we write
        self.on_gone: Callable[[], None] | None = None
        # Told of each change of *paused*, while the answer is not finished.
        self.on_pressure: Callable[[bool], None] | None = None
        self.on_stop: Callable[[], None] | None = None  # the listener's time to drain is over

    # The body.

    async def read(self) -> bytes:
        """What has come of the body since the last call, b"" at its end. Raises ClientGoneError."""
        if self.expects_continue:
            self.expects_continue = False
            if not (self.body_complete or self._parts or self.gone):
                self._carrier.expect_body()
        while not self._parts:
            if self.body_complete:
                return b""
            if self.gone:
                raise ClientGoneError
            self._waiter = waiter = asyncio.get_running_loop().create_future()
            try:
                await waiter
            finally:
                self._waiter = None
        parts = self._parts
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        self._parts, self._size = [], 0
        self._carrier.read_on()
        return data

    @property
    def unread(self) -> bool:
        """Whether more of the body has come than was read."""
        return bool(self._parts)

    def feed(self, data: bytes) -> bool:
        """Takes a piece of the body; False when there is enough of it for now."""
        self._parts.append(data)
        self._size += len(data)
        self._wake()
        return self._size <= BODY_AHEAD_BYTES_MAX

    def body_ended(self) -> None:
        self.body_complete = True
        self._wake()

    def lost(self) -> None:
        """The client has gone."""
        self.gone = True
        self._wake()
        if self.on_gone is not None and not self.finished:
            self.on_gone()

    def press(self, high: bool) -> None:
        """The client takes more slowly than we write, or has caught up."""
        self.paused = high
        if self.on_pressure is not None and not self.finished:
            self.on_pressure(high)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # The answer.

    @property
    def open(self) -> bool:
        """Whether somebody still waits for (the rest of) an answer."""
        return not self.finished and not self._carrier.closed

    def respond(self, status: int, headers: bytes, body: bytes) -> None:
        """The whole answer. *headers* are complete lines, without length and framing."""
        assert not self.started, "one answer to one request"
        self.started = self.finished = True
        length = b"content-length: %d\r\n" % len(body)
        data = head(status, headers + length + self._connection())
        self._carrier.write(data if self.method == b"HEAD" else data + body)
        self._carrier.answered()

    def begin(self, status: int, headers: bytes) -> None:
        """The head of an answer of unknown length; it goes out with the first piece."""
        assert not self.started, "one answer to one request"
        assert self.method != b"HEAD", "its answer has no pieces"
        self.started = True
        if self.chunked:
            headers += b"transfer-encoding: chunked\r\n"
        else:
            self.keep_alive = False  # HTTP/1.0: the end of the connection is the end of the body
        self._head = head(status, headers + self._connection())

    def write(self, data: bytes) -> None:
        """A piece of the answer, not empty."""
        assert data, "an empty chunk would be the last one"
        assert self.started, "begin it"
        assert not self.finished, "it has ended"
        if self.chunked:
            data = chunk(data)
        if self._head:
            data, self._head = self._head + data, b""
        self._carrier.write(data)

    def raw_writer(self) -> Callable[[bytes], None] | None:
        """Takes pieces that are whole chunks already, after the first `write` and before `end`.
        None for a client that knows no chunks.
        """
        assert self.started, "begin it"
        assert not self._head, "write the first piece"
        return self._carrier.raw_write if self.chunked else None

    def end(self, data: bytes = b"") -> None:
        """The last piece."""
        if self.finished:
            return
        assert self.started, "begin it"
        self.finished = True
        out = self._head
        if data:
            out += chunk(data) if self.chunked else data
        if self.chunked:
            out += LAST_CHUNK
        self._head = b""
        if out:
            self._carrier.write(out)
        self._carrier.answered()

    def abort(self) -> None:
        """Cuts the connection: the answer cannot be completed, or nobody takes it."""
        self.on_gone = None
        self._carrier.abort()

    def _connection(self) -> bytes:
        if not self.body_complete:
            self.keep_alive = False  # what remains of the body would be taken for a request
        if not self.keep_alive:
            return CLOSE
        return b"" if self.chunked else KEEP_ALIVE


def path_of(target: bytes) -> str:
    """The path of a request's target, decoded; of an absolute one, too."""
    if not target.startswith(b"/"):
        try:
            target = httptools.parse_url(target).path or b"/"
        except httptools.HttpParserError:
            return ""
    path = target.partition(b"?")[0].decode("latin-1")
    return unquote(path) if "%" in path else path
