"""A client's connection to a listener, without a socket and without waiting."""

import asyncio
import re

from gateway.listener import ClientConnection, Listener

GET = b"GET /a HTTP/1.1\r\nhost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nhost: x\r\n"


class Pipe(asyncio.Transport):
    """A transport that notes what is done with it; while *stuck*, the client takes nothing."""

    def __init__(self, connection):
        super().__init__()
        self.connection = connection
        self.sent, self.unsent = b"", 0
        self.stuck = self.paused = self.ended = self.closed = False

    def set_write_buffer_limits(self, high=None, low=None):
        self.high = high

    def get_write_buffer_size(self):
        return self.unsent

    def write(self, data):
        assert not self.ended, "written behind the end"
        self.sent += data
        if self.stuck:
            before, self.unsent = self.unsent, self.unsent + len(data)
            if before <= self.high < self.unsent:
                self.connection.pause_writing()

    def take(self, size):
        """The client reads."""
        before, self.unsent = self.unsent, max(0, self.unsent - size)
        if before > self.high // 4 >= self.unsent and before > self.high:
            self.connection.resume_writing()

    def write_eof(self):
        self.ended = True

    def close(self):
        self.abort()

    def abort(self):
        if not self.closed:
            self.closed = True
            self.connection.connection_lost(None)

    def pause_reading(self):
        self.paused = True

    def resume_reading(self):
        self.paused = False


class Client:
    """A connection to a listener whose *handler* keeps the requests; times are the test's."""

    def __init__(self, handler=None):
        self.requests = []
        self.listener = Listener(self._keep)
        self.handler = handler
        self.listener.now = lambda: self.now
        self.now = 1000.0
        self.connection = ClientConnection(self.listener)
        self.pipe = Pipe(self.connection)
        self.connection.connection_made(self.pipe)

    async def _keep(self, request):
        self.requests.append(request)
        if self.handler is not None:
            await self.handler(request)
        else:
            self.done = asyncio.get_running_loop().create_future()
            await self.done

    async def send(self, *pieces):
        for piece in pieces:
            if not self.pipe.closed:
                self.connection.data_received(piece)
            await settle()

    async def sweep(self, after_s):
        self.now += after_s
        if self.connection.due_at <= self.now:
            self.connection.overdue()
        await settle()

    @property
    def statuses(self):
        return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) ", self.pipe.sent)]


async def settle():
    for _ in range(4):
        await asyncio.sleep(0)


async def body_of(request):
    parts = []
    while part := await request.read():
        parts.append(part)
    return b"".join(parts)


async def echo(request):
    body = await body_of(request)
    told = b"%b %b %b\n" % (request.method, request.path.encode(), request.authorization or b"-")
    if request.path == "/stream":
        request.begin(200, b"")
        request.write(told)
        request.end(body)
    else:
        request.respond(200, b"", told + body)


def undated(answer):
    return re.sub(rb"date: [^\r]*\r\n", b"", answer)
