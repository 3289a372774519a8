"""An inference engine that costs next to nothing: what stands behind every proxy in a benchmark.

Answers as vLLM does in form and size. A stream is paced: its tokens come one by one at a set rate,
all streams off one timer, so that the mock is not what the benchmark measures.
"""

import asyncio

import click
import httptools
import msgspec
import uvloop

TICK_S = 0.001
_SLOTS = 1 << 14  # the slowest stream may wait this many ticks for its next token
_DEFAULT_TOKENS = 16
_MODEL = "bench"
_PACE = b"/pace/"  # POST /pace/100: from now on 100 tokens/s a stream; 0: as fast as it goes
_ID = "chatcmpl-5f0c7d1e9b3a4c6d8e2f1a0b9c8d7e6f"
_USAGE = {
    "prompt_tokens": 42,
    "total_tokens": 106,
    "completion_tokens": 64,
    "prompt_tokens_details": None,
}


class _StreamOptions(msgspec.Struct):
    include_usage: bool = False


class _Ask(msgspec.Struct):
    """What the mock reads of a request."""

    stream: bool = False
    max_tokens: int | None = None
    max_completion_tokens: int | None = None  # what sglang-router makes of max_tokens
    stream_options: _StreamOptions | None = None


_decode_ask = msgspec.json.Decoder(_Ask).decode


def _framed(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _event(data: dict) -> bytes:
    """One SSE event, as one HTTP chunk."""
    return _framed(b"data: " + msgspec.json.encode(data) + b"\n\n")


class Answers:
    """The bytes of one API's answers, made once."""

    def __init__(self, kind: str, first: dict, token: dict, whole: dict) -> None:
        about = {"id": _ID, "object": kind, "created": 1_764_120_000, "model": _MODEL}

        def event(**choice: object) -> bytes:
            choice = {"index": 0, "logprobs": None, "finish_reason": None} | choice
            return _event({**about, "choices": [choice]})

        self.first = event(**first) if first else b""
        self.token = event(**token, token_ids=None)
        self.last = event(**token | {"finish_reason": "length", "token_ids": None})
        self.usage = _event({**about, "choices": [], "usage": _USAGE})
        choice = {"index": 0, **whole, "logprobs": None, "finish_reason": "stop"}
        body = {
            **about,
            "object": kind.removesuffix(".chunk"),
            "choices": [choice],
            "usage": _USAGE,
            "system_fingerprint": None,
            "kv_transfer_params": None,
        }
        self.whole = _plain(msgspec.json.encode(body))


def _plain(body: bytes, status: bytes = b"200 OK") -> bytes:
    return (
        b"HTTP/1.1 %b\r\nserver: mock\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n%b" % (status, len(body), body)
    )


_TEXT = "The capital of France is Paris, a city on the Seine with about two million people."
_ANSWERS = {
    b"/v1/chat/completions": Answers(
        "chat.completion.chunk",
        {"delta": {"role": "assistant", "content": ""}},
        {"delta": {"content": " token"}},
        {"message": {"role": "assistant", "content": _TEXT, "tool_calls": []}},
    ),
    b"/v1/completions": Answers(
        "text_completion", {}, {"text": " token", "stop_reason": None}, {"text": _TEXT}
    ),
}
# What routers ask before they believe in a worker.
_PAGES = {
    b"/health": b"{}",
    b"/v1/models": msgspec.json.encode(
        {"object": "list", "data": [{"id": _MODEL, "object": "model", "owned_by": "mock"}]}
    ),
    b"/get_server_info": msgspec.json.encode({"model_path": _MODEL, "served_model_name": _MODEL}),
    b"/server_info": msgspec.json.encode({"model_path": _MODEL, "served_model_name": _MODEL}),
    b"/get_model_info": msgspec.json.encode({"model_path": _MODEL, "is_generation": True}),
    b"/model_info": msgspec.json.encode({"model_path": _MODEL, "is_generation": True}),
    b"/version": b'{"version":"0.32.0"}',
    b"/metrics": b"",
}
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nserver: mock\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
_END = _framed(b"data: [DONE]\n\n") + b"0\r\n\r\n"


class Wheel:
    """One timer for all streams: a ring of ticks, each with the streams whose token is due."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._slots: list[list[Connection]] = [[] for _ in range(_SLOTS)]
        self._began = loop.time()
        self._at = 0
        self._waiting = 0
        self.interval_ticks = 10

    def pace(self, tokens_per_s: float) -> None:
        ticks = round(1 / (tokens_per_s * TICK_S)) if tokens_per_s else 0
        self.interval_ticks = min(ticks, _SLOTS - 1)

    def add(self, stream: "Connection") -> None:
        if not self._waiting:  # the timer slept
            self._at = int((self._loop.time() - self._began) / TICK_S)
            self._loop.call_later(TICK_S, self._turn)
        self._put(self._at + stream.interval_ticks, stream)

    def _put(self, tick: int, stream: "Connection") -> None:
        self._slots[tick % _SLOTS].append(stream)
        self._waiting += 1

    def _turn(self) -> None:
        now = int((self._loop.time() - self._began) / TICK_S)
        while self._at < now:
            self._at += 1
            slot = self._at % _SLOTS
            due = self._slots[slot]
            if due:
                self._slots[slot] = []
                self._waiting -= len(due)
                for stream in due:
                    if stream.emit():
                        self._put(self._at + stream.interval_ticks, stream)
        if self._waiting:
            self._loop.call_later(TICK_S, self._turn)


class Connection(asyncio.Protocol):
    """One request after another."""

    def __init__(self, wheel: Wheel) -> None:
        self._wheel = wheel
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._path = b""
        self._body = b""
        self._left = 0
        self._answers = _ANSWERS[b"/v1/completions"]
        self._with_usage = False
        self.interval_ticks = 0

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._left = 0

    def on_message_begin(self) -> None:
        self._path = self._body = b""

    def on_url(self, url: bytes) -> None:
        self._path += url

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        answers = _ANSWERS.get(self._path)
        if answers is None:
            self._transport.write(self._page())
            return
        ask = _decode_ask(self._body)
        if not ask.stream:
            self._transport.write(answers.whole)
            return
        self._answers = answers
        self._with_usage = bool(ask.stream_options and ask.stream_options.include_usage)
        self._left = ask.max_completion_tokens or ask.max_tokens or _DEFAULT_TOKENS
        self.interval_ticks = self._wheel.interval_ticks
        self._transport.write(_STREAM_HEAD + answers.first)
        if self.interval_ticks:
            self._wheel.add(self)
            return
        while self.emit():
            pass

    def emit(self) -> bool:
        """Writes the next token; is there another one?"""
        if self._left <= 0:
            return False  # the client is gone
        self._left -= 1
        if self._left:
            self._transport.write(self._answers.token)
            return True
        usage = self._answers.usage if self._with_usage else b""
        self._transport.write(self._answers.last + usage + _END)
        return False

    def _page(self) -> bytes:
        if self._path.startswith(_PACE):
            self._wheel.pace(float(self._path.removeprefix(_PACE)))
            return _plain(b"{}")
        body = _PAGES.get(self._path)
        if body is None:
            click.echo(f"unknown route {self._path.decode()}", err=True)
            return _plain(b"{}", b"404 Not Found")
        return _plain(body)


async def serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    wheel = Wheel(loop)
    server = await loop.create_server(lambda: Connection(wheel), "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


@click.command()
@click.option("--port", type=int, required=True)
def main(port: int) -> None:
    """A mock engine on 127.0.0.1 at PORT."""
    uvloop.run(serve(port))


if __name__ == "__main__":
    main()
