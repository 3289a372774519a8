"""A client's connection: HTTP/1.1 on httptools, one request at a time, pipelined ones in turn.

Everything a client may drag out ends: heads by a deadline and a size, bodies and answers by the
request's own watch, idle connections by a deadline. The deadlines are looked at by the listener's
sweep, so a request costs no timer here.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, cast
from urllib.parse import unquote

import httptools

from gateway.listener.answer import CONTINUE, head
from gateway.listener.request import ClientRequest

if TYPE_CHECKING:
    from gateway.listener.server import Listener

HEAD_BYTES_MAX = 64 * 1024
HEADERS_MAX = 128
# Written but not yet taken by the client; above it whoever writes is told to leave off.
WRITE_AHEAD_BYTES = 256 * 1024
# After an answer that came before the request was whole: how long what is still sent is read and
# dropped, so that a reset does not overtake the answer.
LINGER_S = 2.0
_FOREVER = float("inf")

Handler = Callable[[ClientRequest], Awaitable[None]]


class ClientConnection(asyncio.Protocol):
    __slots__ = (
        "_head_bytes",
        "_headers",
        "_incoming",
        "_lingering",
        "_listener",
        "_parser",
        "_reading",
        "_transport",
        "_upgrade",
        "_waiting",
        "closed",
        "current",
        "due_at",
    )

    def __init__(self, listener: "Listener") -> None:
        self._listener = listener
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._incoming: ClientRequest | None = None  # being received
        self._waiting: deque[ClientRequest] = deque()  # received behind the current one
        self._head_bytes = self._headers = 0
        self._reading = True
        self._lingering = False
        self._upgrade = False
        self.current: ClientRequest | None = None  # being answered
        self.closed = False
        self.due_at = _FOREVER  # when the listener's sweep closes the connection

    # For the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not inherit from asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=WRITE_AHEAD_BYTES)
        self.due_at = self._listener.now() + self._listener.head_s
        self._listener.connected(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self.closed = True
        self._listener.disconnected(self)
        current, self.current = self.current, None
        incoming, self._incoming = self._incoming, None
        for request in (current, incoming):
            if request is not None:
                request.lost()
        self._waiting.clear()

    def data_received(self, data: bytes) -> None:
        if self._lingering:
            return
        if self._incoming is None:
            self._head_bytes = len(data)
        elif not self._incoming.method:  # its head is not whole
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._upgrade = True  # not done here; what follows would be another protocol
        except httptools.HttpParserError:
            self._refuse(400)
            return
        incoming = self._incoming
        if incoming is not None and not incoming.method and self._head_bytes > HEAD_BYTES_MAX:
            self._refuse(431)

    def eof_received(self) -> None:
        return None  # closes

    def pause_writing(self) -> None:
        if self.current is not None:
            self.current.paused = True
            if self.current.on_pressure is not None:
                self.current.on_pressure(True)

    def resume_writing(self) -> None:
        if self.current is not None:
            self.current.paused = False
            if self.current.on_pressure is not None:
                self.current.on_pressure(False)

    # For the parser.

    def on_message_begin(self) -> None:
        self._incoming = ClientRequest(self)
        self._headers = 0
        if self.current is None:
            self.due_at = self._listener.now() + self._listener.head_s

    def on_url(self, url: bytes) -> None:
        assert self._incoming is not None
        self._incoming.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        request = self._incoming
        assert request is not None
        self._headers += 1
        if self._headers > HEADERS_MAX:
            raise httptools.HttpParserError("too many headers")
        name = name.lower()
        if name == b"authorization":
            request.authorization = value
        elif name == b"content-length":
            request.content_length = value
        elif name == b"x-request-id":
            request.request_id = value
        elif name == b"x-modelyard-session":
            request.session = value
        elif name == b"x-modelyard-priority":
            request.priority = value
        elif name == b"expect":
            request.expects_continue = value.lower() == b"100-continue"

    def on_headers_complete(self) -> None:
        request, parser = self._incoming, self._parser
        assert request is not None
        request.method = parser.get_method()
        request.path = _path(request.target)
        request.keep_alive = parser.should_keep_alive()
        request.chunked = parser.get_http_version() == "1.1"
        if self.current is None:
            self._begin(request)
        else:
            self._waiting.append(request)
            self._stop_reading()

    def on_body(self, body: bytes) -> None:
        if self._incoming is not None and not self._incoming.feed(body):
            self._stop_reading()

    def on_message_complete(self) -> None:
        request, self._incoming = self._incoming, None
        if request is not None:
            request.body_ended()

    # For the request.

    def write(self, data: bytes) -> None:
        if not self.closed and self._transport is not None:
            self._transport.write(data)

    def answered(self) -> None:
        request, self.current = self.current, None
        if request is None or self.closed or self._transport is None:
            return
        if not request.body_complete:
            self._linger()
        elif not request.keep_alive or self._upgrade or self._listener.draining:
            self._close()
        elif self._waiting:
            self._begin(self._waiting.popleft())
            self._resume_reading()
        else:
            listener = self._listener
            wait_s = listener.idle_s if self._incoming is None else listener.head_s
            self.due_at = listener.now() + wait_s
            self._resume_reading()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()
        self.closed = True

    def read_on(self) -> None:
        if not self._waiting:
            self._resume_reading()

    def expect_body(self) -> None:
        self.write(CONTINUE)

    # For the listener.

    def close_if_idle(self) -> None:
        """Used while draining: a connection between two requests has nothing to lose."""
        if self.current is None:
            self._close()

    def overdue(self) -> None:
        """Its deadline has passed: a head that never ends, or nothing to do for too long."""
        if self._incoming is not None and not self._incoming.method and not self._lingering:
            self._refuse(408)
        else:
            self._close()

    def refuse_all(self) -> None:
        """The listener has as many connections as it takes."""
        self._refuse(503)

    def _begin(self, request: ClientRequest) -> None:
        self.current = request
        self.due_at = _FOREVER
        self._listener.begin(request)

    def _close(self) -> None:
        self.due_at = self._listener.now() + LINGER_S
        if self._transport is None or self.closed:
            return
        if self._transport.is_closing():  # since a sweep ago: what is left in it nobody takes
            self.abort()
        else:
            self._transport.close()

    def _linger(self) -> None:
        if self._transport is None or self.closed:
            return
        self._lingering = True
        self.due_at = self._listener.now() + LINGER_S
        self._incoming = None
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._resume_reading()

    def _refuse(self, status: int) -> None:
        """Answers what is no request. If one is being answered, it loses its connection."""
        if self.closed or self._lingering:
            return
        if self.current is not None:
            self.abort()
            return
        self.write(head(status, b"content-length: 0\r\n", keep_alive=False))
        self._linger()

    def _stop_reading(self) -> None:
        if self._reading and self._transport is not None and not self.closed:
            self._reading = False
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if not self._reading and self._transport is not None and not self.closed:
            self._reading = True
            self._transport.resume_reading()


def _path(target: bytes) -> str:
    """The path of a request's target, decoded; of an absolute one, too."""
    if not target.startswith(b"/"):
        try:
            target = httptools.parse_url(target).path or b""
        except httptools.HttpParserError:
            return ""
    path = target.partition(b"?")[0].decode("latin-1")
    return unquote(path) if "%" in path else path
