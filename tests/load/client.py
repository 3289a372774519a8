"""The load: a set number of streams or requests at once, each renewed when it ends, and the clock.

Runs as a process of its own and prints one JSON document, a `Tally`. A stream counts as good only
if it had the right number of events and its `[DONE]`.
"""

import asyncio
import sys
import time
from collections import Counter
from urllib.parse import urlsplit

import click
import httptools
import msgspec
import uvloop

DONE = b"data: [DONE]\n\n"
_RECONNECT_S = 0.05
_GRACE_S = 30.0  # after the end, for the streams under way
GAP_STEP_S = 0.0005
_PROMPT = (
    "You are given a short question about geography. Answer it in one sentence and mention the "
    "river on which the city lies. The question is: what is the capital of France?"
)


class Tally(msgspec.Struct, kw_only=True):
    """What one client process saw. *gaps* counts the times between a stream's reads that held
    tokens, by steps of half a millisecond.
    """

    good: int = 0
    tokens: int = 0
    wall_s: float = 0.0
    cpu_s: float = 0.0
    errors: dict[str, int] = msgspec.field(default_factory=dict)
    first_s: list[float] = msgspec.field(default_factory=list)
    whole_s: list[float] = msgspec.field(default_factory=list)
    gaps: dict[int, int] = msgspec.field(default_factory=dict)


class Check:
    """Counts a stream's events, however its bytes were cut, and knows whether it ended well."""

    __slots__ = ("_tail", "events")

    def __init__(self) -> None:
        self.events = 0
        self._tail = b""

    def feed(self, data: bytes) -> int:
        """How many events *data* completed."""
        completed = data.count(b"\n\n")
        if data[:1] == b"\n" and self._tail[-1:] == b"\n":
            completed += 1
        self.events += completed
        self._tail = (
            data[-len(DONE) :] if len(data) >= len(DONE) else (self._tail + data)[-len(DONE) :]
        )
        return completed

    def fault(self, expected_events: int) -> str:
        """What is wrong with the stream, now that it has ended; empty if nothing."""
        if self._tail != DONE:
            return "no [DONE]"
        if self.events != expected_events:
            return f"{self.events} events instead of {expected_events}"
        return ""


class Load:
    """What all connections of the process share."""

    def __init__(self, url: str, key: str, *, stream: bool, tokens: int) -> None:
        parts = urlsplit(url)
        self.host, self.port = parts.hostname, parts.port
        self.stream = stream
        self.tokens = tokens
        self.events_expected = 1 + tokens + 1  # the role, the tokens, [DONE]
        body = {
            "model": "bench",
            "messages": [{"role": "user", "content": _PROMPT}],
            "max_tokens": tokens,
            "temperature": 0.7,
            "stream": stream,
        }
        data = msgspec.json.encode(body)
        self.request = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: {parts.netloc}\r\n"
            f"authorization: Bearer {key}\r\ncontent-type: application/json\r\n"
            f"user-agent: bench\r\naccept: */*\r\ncontent-length: {len(data)}\r\n\r\n"
        ).encode() + data
        self.running = True
        self.tally = Tally()
        self.errors: Counter[str] = Counter()
        self.gaps: Counter[int] = Counter()
        self.active = 0
        self.idle = asyncio.Event()

    def failed(self, why: str) -> None:
        self.errors[why] += 1

    def begin(self) -> None:
        self.active += 1
        self.idle.clear()

    def end(self) -> None:
        self.active -= 1
        if not self.active:
            self.idle.set()


class Slot(asyncio.Protocol):
    """One of the streams at once: a connection that asks again whenever it has been answered."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._busy = False
        self._check = Check()
        self._began = self._read_at = 0.0
        self._first = False

    async def connect(self) -> None:
        load = self._load
        loop = asyncio.get_running_loop()
        while load.running:
            try:
                await loop.create_connection(lambda: self, load.host, load.port)
            except OSError:
                load.failed("no connection")
                await asyncio.sleep(_RECONNECT_S)
            else:
                return

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._parser = httptools.HttpResponseParser(self)
        self._ask()

    def _ask(self) -> None:
        if not self._load.running:
            self._transport.close()
            return
        self._busy = True
        self._first = True
        self._check = Check()
        self._load.begin()
        self._began = self._read_at = time.perf_counter()
        self._transport.write(self._load.request)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._over(f"not HTTP: {error}")
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._busy:
            self._over("cut off")
        if self._load.running:
            self._again = asyncio.get_running_loop().create_task(self._reconnect())

    async def _reconnect(self) -> None:
        await asyncio.sleep(_RECONNECT_S)
        await self.connect()

    # For the parser.

    def on_body(self, body: bytes) -> None:
        if not self._load.stream:
            return
        events = self._check.feed(body)
        if not events:
            return
        now = time.perf_counter()
        if self._first:
            self._first = False
            self._load.tally.first_s.append(now - self._began)
        else:
            self._load.gaps[int((now - self._read_at) / GAP_STEP_S)] += 1
        self._read_at = now

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status != 200:
            self._over(f"status {status}")
        elif self._load.stream:
            self._over(self._check.fault(self._load.events_expected))
        else:
            self._over("")
        if self._parser.should_keep_alive() and not self._transport.is_closing():
            self._ask()
        else:
            self._transport.close()

    def _over(self, fault: str) -> None:
        if not self._busy:
            return
        self._busy = False
        load = self._load
        load.tally.tokens += max(self._check.events - 2, 0) if load.stream else 0
        if fault:
            load.failed(fault)
        else:
            load.tally.good += 1
            load.tally.whole_s.append(time.perf_counter() - self._began)
        load.end()


async def drive(load: Load, *, at_once: int, seconds: float, ramp_s: float) -> Tally:
    """Keeps *at_once* slots busy for *seconds*; they begin spread over *ramp_s*."""
    began, cpu_began = time.perf_counter(), time.process_time()
    slots = [Slot(load) for _ in range(at_once)]
    async with asyncio.TaskGroup() as tasks:
        for slot in slots:
            tasks.create_task(slot.connect())
            if ramp_s:
                await asyncio.sleep(ramp_s / at_once)
    await asyncio.sleep(max(seconds - (time.perf_counter() - began), 0))
    load.running = False
    if load.active:
        try:
            async with asyncio.timeout(_GRACE_S):
                await load.idle.wait()
        except TimeoutError:
            load.errors["never ended"] += load.active
    tally = load.tally
    tally.wall_s = time.perf_counter() - began
    tally.cpu_s = time.process_time() - cpu_began
    tally.errors, tally.gaps = dict(load.errors), dict(load.gaps)
    return tally


@click.command()
@click.option("--url", required=True)
@click.option("--key", envvar="BENCH_KEY", default="none", help="The bearer token to send.")
@click.option("--at-once", type=int, required=True)
@click.option("--seconds", type=float, required=True)
@click.option("--tokens", type=int, default=0, help="Tokens of a stream; 0: plain requests.")
@click.option("--ramp-s", type=float, default=0.0)
def main(*, url: str, key: str, at_once: int, seconds: float, tokens: int, ramp_s: float) -> None:
    """Load URL and print what came of it as JSON."""

    async def run() -> Tally:
        load = Load(url, key, stream=tokens > 0, tokens=tokens or 16)
        return await drive(load, at_once=at_once, seconds=seconds, ramp_s=ramp_s)

    tally = uvloop.run(run())
    # Where Python's stdout is unbuffered, one write takes only as much as the pipe has room for.
    with open(sys.stdout.fileno(), "wb", closefd=False) as out:
        out.write(msgspec.json.encode(tally))


if __name__ == "__main__":
    main()
