"""A client that hides nothing: what came, byte by byte, how it ended, and when.

Each call has a connection of its own, so that leaving is the close of a socket, and a body's end
is told by its framing and not by the connection's.
"""

import asyncio
import contextlib
import itertools
import json
import socket
import time
from urllib.parse import urlsplit

CHAT = "/v1/chat/completions"
PLAIN = "/v1/completions"
_numbers = itertools.count()


def chat(**fields):
    """A request whose answer no other one shares."""
    text = f"Tell me of the sea, number {next(_numbers)}."
    return CHAT, {"model": "m", "messages": [{"role": "user", "content": text}], **fields}


def plain(**fields):
    text = f"Once upon a time, and for the {next(_numbers)}th time,"
    return PLAIN, {"model": "m", "prompt": text, **fields}


class Answer:
    """*body* is without its framing; *whole* says whether the framing came to its end."""

    def __init__(self, data: bytes, seconds: float):
        head, _, body = data.partition(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        self.seconds = seconds
        self.status = int(status.split(" ")[1]) if data else 0
        self.headers = {
            name.lower(): value for name, _, value in (line.partition(": ") for line in lines)
        }
        if self.headers.get("transfer-encoding") == "chunked":
            self.body, self.whole = _unchunk(body)
        else:
            self.body = body
            self.whole = len(body) == int(self.headers.get("content-length", -1))

    def __repr__(self):
        whole = "whole" if self.whole else "cut"
        body = self.body if self.status != 200 else self.body[-300:]
        return f"<{self.status} {whole} {self.seconds:.2f} s {self.workers} …{body!r}>"

    @property
    def workers(self) -> str:
        return self.headers.get("x-modelyard-workers", "")

    @property
    def events(self) -> list[str]:
        parts = self.body.decode().split("\n\n")
        assert parts.pop() == "", f"an event without its end: {self!r}"
        return [part.removeprefix("data: ") for part in parts]

    @property
    def error(self):
        return json.loads(self.body)["error"]


def _unchunk(data: bytes) -> tuple[bytes, bool]:
    out = bytearray()
    while True:
        size, newline, rest = data.partition(b"\r\n")
        if not newline:
            return bytes(out), False
        length = int(size, 16)
        if length == 0:
            return bytes(out), rest == b"\r\n"
        out += rest[:length]
        if len(rest) < length + 2:
            return bytes(out), False
        data = rest[length + 2 :]


class Call:
    """One request under way; ``await call`` gives its Answer."""

    def __init__(self, url, request, *, key, headers=(), receive_bytes=0):
        self.path, self.body = request
        self._address = urlsplit(url).hostname, urlsplit(url).port
        self._head = [f"authorization: Bearer {key}", *headers]
        self._receive_bytes = receive_bytes  # the socket's buffer; 0: the system's choice
        self._data = bytearray()
        self._news = asyncio.Event()
        self._writer: asyncio.StreamWriter | None = None
        self._began = time.monotonic()
        self._task = asyncio.create_task(self._run())

    def __await__(self):
        return self._task.__await__()

    @property
    def done(self) -> bool:
        return self._task.done()

    @property
    def tokens(self) -> int:
        """How many events with content have come."""
        return self._data.count(b'"text":') + self._data.count(b'"content":') - self._opened

    @property
    def _opened(self) -> int:
        return self._data.count(b'"role":')

    @property
    def worker_line(self) -> str:
        return Answer(bytes(self._data), 0).workers

    async def got(self, tokens: int) -> None:
        """Waits for so many tokens, or the end."""
        async with asyncio.timeout(10):
            while self.tokens < tokens and not self.done:
                self._news.clear()
                await self._news.wait()

    async def leave(self) -> None:
        """Goes without a word, as a client does whose user closed the window."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _run(self) -> Answer:
        try:
            await self._exchange()
        except ConnectionError:
            pass  # what came before it is what the client has
        finally:
            self._news.set()
            if self._writer is not None:
                self._writer.transport.abort()
        return Answer(bytes(self._data), time.monotonic() - self._began)

    async def _exchange(self) -> None:
        body = json.dumps(self.body).encode()
        lines = [
            f"POST {self.path} HTTP/1.1",
            "host: gateway",
            "connection: close",
            f"content-length: {len(body)}",
            *self._head,
        ]
        reader, self._writer = await asyncio.open_connection(sock=await self._connect())
        self._writer.write("\r\n".join([*lines, "\r\n"]).encode() + body)
        while part := await self._read(reader):
            self._data += part
            self._news.set()

    async def _read(self, reader: asyncio.StreamReader) -> bytes:
        return await reader.read(65_536)

    async def _connect(self) -> socket.socket:
        sock = socket.socket()
        sock.setblocking(False)
        if self._receive_bytes:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_bytes)
        try:
            await asyncio.get_running_loop().sock_connect(sock, self._address)
        except BaseException:
            sock.close()
            raise
        return sock
