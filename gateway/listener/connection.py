"""A client's connection: HTTP/1.1 on httptools, one request at a time, pipelined ones in turn.

Everything a client may drag out ends: heads by a deadline and a size, bodies and answers by the
request's own watch, idle connections and answers nobody takes by a deadline. The deadlines are
looked at by the listener's sweep, so a request costs no timer here.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import httptools

from gateway.listener.answer import CLOSE, CONTINUE, head
from gateway.listener.head import RefusedError, is_http_1_1
from gateway.listener.request import ClientRequest, path_of

if TYPE_CHECKING:
    from gateway.listener.server import Listener

# Of a head, and of what is between the pieces of a body and behind it.
HEAD_BYTES_MAX = 64 * 1024
# What a header counts above its bytes (as in HTTP/2): many small ones cost, too.
_HEADER_BYTES = 32
# Written but not yet taken by the client; above it whoever writes is told to leave off.
WRITE_AHEAD_BYTES = 256 * 1024
# Requests read ahead, but for those that come in one piece: reading is how we hear of an end
PIPELINED_MAX = 8
_FOREVER = float("inf")
_ATTRIBUTES = {
    b"authorization": "authorization",
    b"x-api-key": "api_key",
    b"anthropic-version": "anthropic_version",
    b"content-length": "content_length",
    b"x-request-id": "request_id",
    b"x-modelyard-session": "session",
    b"x-modelyard-priority": "priority",
    b"traceparent": "traceparent",
    b"tracestate": "tracestate",
    # Heard, but not as they are:
    b"host": "",
    b"expect": "",
    b"transfer-encoding": "",
}
# Given several times they are one list; of parents that is none, so it is ignored.
_JOINED = frozenset({"traceparent", "tracestate"})


class _RestOfBody:
    """Parses for a connection what is behind the head of a declined upgrade, and nothing more."""

    def __init__(self, connection: "ClientConnection") -> None:
        self.on_body = connection.on_body
        self.on_message_complete = connection.on_last_message_complete


class ClientConnection(asyncio.Protocol):
    __slots__ = (
        "_coding",
        "_deaf",
        "_fields_bytes",
        "_framing",
        "_head_bytes",
        "_hosts",
        "_incoming",
        "_listener",
        "_parser",
        "_paused",
        "_reading",
        "_refusal",
        "_transport",
        "_unsent_bytes",
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
        self._refusal = 0  # the status of the answer behind those, the last
        self._fields_bytes = self._hosts = 0  # in the head so far
        self._coding = self._framing = b""
        self._head_bytes = 0  # received since the parser last got anywhere
        self._unsent_bytes = 0  # when the sweep last looked
        self._reading = True
        self._paused = False  # the client takes more slowly than we write
        self._deaf = False  # what still comes is dropped
        self.closed = False  # nothing more can be written
        self.current: ClientRequest | None = None  # being answered
        self.due_at = _FOREVER  # when the listener's sweep looks at the connection

    # For the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not inherit from asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=WRITE_AHEAD_BYTES)
        self.due_at = self._listener.now() + self._listener.head_s
        self._listener.connected(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._gone()
        self._listener.disconnected(self)
        del self._parser  # the two hold each other

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._decline_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserCallbackError as error:
            if not isinstance(error.__context__, RefusedError):
                raise  # our own fault: the loop logs it and closes
            self._refuse(error.__context__.status)
        except httptools.HttpParserError:
            self._refuse(400)
        else:
            if self._head_bytes > HEAD_BYTES_MAX and self._incoming is not None:
                self._refuse(431)

    def eof_received(self) -> None:
        # Half a connection is taken for none: nobody can tell a client that has sent all it wants
        # to from one that has gone, and work for nobody is dear. Returning None closes.
        self._gone()
        self._flush_by()

    def pause_writing(self) -> None:
        self._paused = True
        if self.current is not None:
            self.current.press(True)

    def resume_writing(self) -> None:
        self._paused = False
        if self.current is not None:
            self.current.press(False)
        elif not self.closed:
            self._next()

    # For the parser.

    def on_message_begin(self) -> None:
        self._incoming = ClientRequest(self)
        self._fields_bytes = self._hosts = 0
        self._coding = b""
        if self.current is None:
            self.due_at = self._listener.now() + self._listener.head_s

    def on_url(self, url: bytes) -> None:
        assert self._incoming is not None
        self._incoming.target += url
        self._fields_bytes += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        request = self._incoming
        assert request is not None
        self._fields_bytes += len(name) + len(value) + _HEADER_BYTES
        if self._fields_bytes > HEAD_BYTES_MAX:
            raise RefusedError(431)
        if request.method:
            return  # behind the body: too late to mean anything
        name = name.lower()
        attribute = _ATTRIBUTES.get(name)
        if attribute is None:
            return
        if attribute:
            value = value.rstrip(b" \t")
            if attribute in _JOINED and (before := getattr(request, attribute)):
                value = before + b"," + value
            setattr(request, attribute, value)
        elif name == b"host":
            self._hosts += 1
        elif name == b"expect":
            request.expects_continue = value.rstrip(b" \t").lower() == b"100-continue"
        else:
            self._coding += value.rstrip(b" \t").lower()

    def on_headers_complete(self) -> None:
        request, parser = self._incoming, self._parser
        assert request is not None
        request.chunked = is_http_1_1(
            parser.get_http_version(), hosts=self._hosts, coding=self._coding
        )
        request.method = parser.get_method()
        request.path = path_of(request.target)
        request.keep_alive = parser.should_keep_alive() and not self._listener.draining
        request.expects_continue = request.expects_continue and request.chunked
        self._head_bytes = 0
        if parser.should_upgrade():
            self._stay(request)
        if self.current is None:
            self._begin(request)
        else:
            self._waiting.append(request)
            if len(self._waiting) >= PIPELINED_MAX:
                self._stop_reading()

    def on_body(self, body: bytes) -> None:
        self._head_bytes = 0
        if self._incoming is not None and not self._incoming.feed(body):
            self._stop_reading()

    def on_message_complete(self) -> None:
        if self._framing:
            return  # an upgrade's body is yet to come
        request, self._incoming = self._incoming, None
        if request is not None:
            request.body_ended()

    def on_last_message_complete(self) -> None:
        self.on_message_complete()
        self._deaf = True

    # For the request.

    def write(self, data: bytes) -> None:
        if not self.closed and self._transport is not None:
            self._transport.write(data)

    @property
    def raw_write(self) -> Callable[[bytes], None]:
        return self.write if self._transport is None else self._transport.write

    def answered(self) -> None:
        request, self.current = self.current, None
        if request is None or self.closed:
            return
        if request.body_complete and request.keep_alive:
            self._next()
        else:
            self._linger()
            if not request.body_complete:
                request.lost()

    def abort(self) -> None:
        self.closed = self._deaf = True
        if self._transport is not None:
            self._transport.abort()

    def read_on(self) -> None:
        if not self._reading and not self._waiting:
            self._resume_reading()

    def expect_body(self) -> None:
        self.write(CONTINUE)

    # For the listener.

    @property
    def idle(self) -> bool:
        """Between two requests, or behind the last one: there is nothing to lose."""
        return self.current is None and self._incoming is None and not self._waiting

    @property
    def flushed(self) -> bool:
        """What was written has left this process."""
        return self._transport is None or not self._transport.get_write_buffer_size()

    def drain(self) -> None:
        """Takes no request after the current one, or after the one that is being received."""
        for request in (self.current, *self._waiting):
            if request is not None:
                request.keep_alive = False
        if self.idle and not self.closed:
            self.closed = self._deaf = True
            self._flush_by()
            if self._transport is not None:
                self._transport.close()

    def overdue(self) -> None:
        """Its deadline has passed: a head that never ends, an answer nobody takes, or nothing to
        do for too long.
        """
        assert self._transport is not None
        unsent_bytes = self._transport.get_write_buffer_size()
        if 0 < unsent_bytes < self._unsent_bytes:
            self._flush_by()  # slow, but it takes it
        elif self._incoming is not None and not unsent_bytes:
            self._refuse(408)
        else:
            self.abort()

    def refuse_all(self) -> None:
        """The listener has as many connections as it takes."""
        self._refuse(503)

    def _begin(self, request: ClientRequest) -> None:
        self.current = request
        self.due_at = _FOREVER
        self._listener.begin(request)

    def _next(self) -> None:
        """What comes after an answer, once the client has taken enough of it."""
        if self._paused:
            self._stop_reading()
            self._flush_by()
            return
        if self._waiting:
            self._begin(self._waiting.popleft())
        elif self._refusal:
            self._write_refusal(self._refusal)
            return
        else:
            wait_s = self._listener.idle_s if self._incoming is None else self._listener.head_s
            self.due_at = self._listener.now() + wait_s
        if not self._reading and len(self._waiting) < PIPELINED_MAX:
            self._resume_reading()

    def _gone(self) -> None:
        """There is nobody left to answer."""
        self.closed = self._deaf = True
        current, self.current = self.current, None
        self._incoming = None
        self._waiting.clear()
        if current is not None:
            current.lost()

    def _refuse(self, status: int) -> None:
        """Answers what is no request, behind the answers to what came before it."""
        self._deaf = True
        current, incoming = self.current, self._incoming
        self._incoming = None
        if self._waiting and self._waiting[-1] is incoming:
            self._waiting.pop()  # its body is what is wrong
        if current is not incoming and (current is not None or self._waiting):
            self._refusal = status
        elif current is not None and current.started:
            self.abort()
        else:
            self._write_refusal(status)

    def _write_refusal(self, status: int) -> None:
        current, self.current = self.current, None
        self.write(head(status, b"content-length: 0\r\n" + CLOSE))
        self._linger()
        if current is not None:
            current.lost()

    def _linger(self) -> None:
        """Ends our side, and waits a while for the client to end its own."""
        self.closed = self._deaf = True
        self._incoming = None
        self._waiting.clear()
        self._flush_by()
        try:
            if self._transport is not None:
                self._transport.write_eof()
        except OSError:  # it has been reset meanwhile
            self.abort()
        else:
            self._resume_reading()

    def _flush_by(self) -> None:
        """Sets the deadline for what is written: it holds for each step of the client's."""
        assert self._transport is not None
        self._unsent_bytes = self._transport.get_write_buffer_size()
        wait_s = self._listener.send_s if self._unsent_bytes else self._listener.linger_s
        self.due_at = self._listener.now() + wait_s

    def _stay(self, request: ClientRequest) -> None:
        """An upgrade is declined by answering in HTTP/1.1, and not again on this connection."""
        request.keep_alive = False
        if request.method == b"CONNECT":
            return  # what it sends is for somebody else
        if request.content_length is not None:
            self._framing = b"content-length: " + request.content_length
        elif self._coding:
            self._framing = b"transfer-encoding: chunked"

    def _decline_upgrade(self, rest: bytes) -> None:
        """The parser takes *rest* for another protocol, but it begins with the request's body."""
        framing, self._framing = self._framing, b""
        if not framing:
            self._deaf = True
            return
        self._parser = httptools.HttpRequestParser(_RestOfBody(self))
        self.data_received(b"POST / HTTP/1.1\r\n" + framing + b"\r\n\r\n" + rest)

    def _stop_reading(self) -> None:
        if self._reading and self._transport is not None and not self.closed:
            self._reading = False
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if not self._reading and self._transport is not None:
            self._reading = True
            self._transport.resume_reading()
