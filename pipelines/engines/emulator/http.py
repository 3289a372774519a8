"""A small HTTP/1.1 server: one Protocol per connection, no task per request.

It is its own server because faults need what frameworks hide: an answer that never comes, a socket
reset in mid-stream, a body that breaks off. And because it has to cost less than what it tests.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from http import HTTPStatus
from typing import cast

import httptools

BODY_BYTES_MAX = 64 * 2**20
HEADER_BYTES_MAX = 64 * 2**10
_PIPELINED_MAX = 16
_LAST_CHUNK = b"0\r\n\r\n"


class Request:
    """A whole request; header names are in lower case."""

    __slots__ = ("body", "headers", "keep_alive", "method", "path")

    def __init__(self) -> None:
        self.method = ""
        self.path = ""
        self.headers: dict[str, str] = {}
        self.body = b""
        self.keep_alive = True


class Reply:
    """The answer to one request. Writes after the client has gone are dropped."""

    def __init__(self, connection: "Connection", request: Request) -> None:
        self._connection = connection
        self._keep_alive = request.keep_alive
        self.started = False
        self.done = False
        # Called once if the client goes before the answer is whole.
        self.on_disconnect: Callable[[], None] | None = None

    def send(self, status: int, body: bytes, content_type: str = "application/json") -> None:
        """The whole answer at once."""
        head = _head(
            status, content_type, f"content-length: {len(body)}", keep_alive=self._keep_alive
        )
        self._write(head + body)
        self._finish()

    def start(self, content_type: str) -> None:
        """Begins an answer in chunks."""
        self._write(
            _head(200, content_type, "transfer-encoding: chunked", keep_alive=self._keep_alive)
        )

    def write(self, data: bytes) -> None:
        self._write(b"%x\r\n%b\r\n" % (len(data), data))

    def end(self) -> None:
        self._write(_LAST_CHUNK)
        self._finish()

    def break_off(self, status: int, body: bytes) -> None:
        """Promises more than it sends, then closes."""
        length = f"content-length: {len(body) * 2}"
        self._write(_head(status, "application/json", length, keep_alive=False) + body)
        self._connection.close()

    def cut_off(self) -> None:
        """Closes in the middle of an answer in chunks."""
        self._connection.close()

    def reset(self) -> None:
        """Drops the connection without a word."""
        self._connection.reset()

    def _write(self, data: bytes) -> None:
        self.started = True
        if not self.done:
            self._connection.write(data)

    def _finish(self) -> None:
        if not self.done:
            self.done = True
            self._connection.finished(keep_alive=self._keep_alive)

    def lost(self) -> None:
        if self.done:
            return
        self.done = True
        if self.on_disconnect is not None:
            self.on_disconnect()


Handler = Callable[[Request, Reply], None]


class Connection(asyncio.Protocol):
    def __init__(self, handler: Handler, open_connections: "set[Connection]") -> None:
        self._handler = handler
        self._open = open_connections
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._request = Request()
        self._target = b""
        self._header_bytes = 0
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._waiting: deque[Request] = deque()
        self._reply: Reply | None = None

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own is one by its shape
        self._open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._transport = None
        self._open.discard(self)
        self._waiting.clear()
        reply, self._reply = self._reply, None
        if reply is not None:
            reply.lost()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.write(_head(400, "text/plain", "content-length: 0", keep_alive=False))
            self.close()

    # httptools

    def on_message_begin(self) -> None:
        self._request = Request()
        self._target = b""
        self._header_bytes = self._body_bytes = 0
        self._body = []

    def on_url(self, url: bytes) -> None:
        self._target += url
        self._count_header(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count_header(len(name) + len(value))
        self._request.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        request = self._request
        request.method = self._parser.get_method().decode("latin-1")
        request.path = self._target.decode("latin-1").partition("?")[0]
        request.keep_alive = self._parser.should_keep_alive()
        if request.headers.get("expect", "").lower() == "100-continue":
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, data: bytes) -> None:
        self._body_bytes += len(data)
        if self._body_bytes > BODY_BYTES_MAX:
            self.close()
            return
        self._body.append(data)

    def on_message_complete(self) -> None:
        self._request.body = b"".join(self._body)
        self._body = []
        self._waiting.append(self._request)
        if len(self._waiting) > _PIPELINED_MAX:
            self.close()
        elif self._reply is None:
            self._next()

    # Reply

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def finished(self, *, keep_alive: bool) -> None:
        self._reply = None
        if not keep_alive:
            self.close()
        elif self._waiting:
            self._next()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def reset(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _count_header(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > HEADER_BYTES_MAX:
            self.close()

    def _next(self) -> None:
        request = self._waiting.popleft()
        self._reply = reply = Reply(self, request)
        self._handler(request, reply)


def _head(status: int, content_type: str, length: str, *, keep_alive: bool) -> bytes:
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
    if content_type:
        lines.append(f"content-type: {content_type}")
    lines.append(length)
    if not keep_alive:
        lines.append("connection: close")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
