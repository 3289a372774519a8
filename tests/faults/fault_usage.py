"""Usage under fault: clients that number their requests, a witness before the workers, the sums."""

import asyncio
import contextlib
import itertools
import random
import re
import sqlite3
import time
from collections import Counter
from urllib.parse import urlsplit

from fault_client import Answer, Call
from fault_history import End, check, expected
from fault_processes import GatewayProcess
from fault_world import Ground, mixed

# An answer that was over for longer than this before a kill must be known as such.
_KNOWN_AFTER_S = 0.3
_NAME = re.compile(rb"x-request-id: (w-\d+)\r\n", re.IGNORECASE)


class Witness:
    """Stands between the gateways and the workers and notes whose requests come by."""

    def __init__(self):
        self.seen: Counter[str] = Counter()
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task] = set()

    async def __aenter__(self):
        return self

    async def before(self, url: str) -> str:
        """The address of one who passes everything on to *url*."""
        there = urlsplit(url)

        async def passing(reader, writer):
            self._tasks.add(asyncio.current_task())
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await self._pass(reader, writer, there.hostname, there.port)
            writer.close()

        server = await asyncio.start_server(passing, "127.0.0.1", 0)
        self._servers.append(server)
        return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def __aexit__(self, *_):
        for server in self._servers:
            server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _pass(self, reader, writer, host, port):
        there_reader, there_writer = await asyncio.open_connection(host, port)
        back = asyncio.create_task(_copy(there_reader, writer))
        try:
            tail = b""
            while data := await reader.read(65_536):
                for name in _NAME.findall(tail + data):
                    self.seen[name.decode()] += 1
                tail = (tail + data)[-40:] if not _NAME.search(data[-80:]) else b""
                there_writer.write(data)
        finally:
            there_writer.transport.abort()
            back.cancel()
            await asyncio.gather(back, return_exceptions=True)


async def _copy(reader, writer):
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(data)
    writer.close()


class Sent:
    """A request of the traffic: what it was, what came back, when that was over."""

    def __init__(self, call: Call, answer: Answer):
        self.call, self.answer = call, answer
        self.over_at = time.monotonic()

    @property
    def ok(self) -> bool:
        return self.answer.status == 200 and self.answer.whole and self._checked() is End.OK

    def _checked(self) -> End:
        return check(self.call, self.answer)


class Traffic:
    """Clients that ask again and again, of any of *gateways*, each request by its own number."""

    def __init__(self, key: str, gateways: list[GatewayProcess]):
        self.gateways = gateways  # may be changed meanwhile
        self.sent: dict[str, Sent] = {}
        self.kills: list[float] = []
        self._key = key
        self._names = itertools.count()
        self._dice = random.Random(7)

    @contextlib.asynccontextmanager
    async def flows(self, clients=12):
        going = True

        async def ask_on():
            while going:
                number = next(self._names)
                gateway = self._dice.choice(self.gateways)
                headers = [f"x-request-id: w-{number}"]
                call = Call(gateway.url, mixed(number), key=self._key, headers=headers)
                sent = self.sent[f"w-{number}"] = Sent(call, await call)
                if not sent.answer.status:
                    await asyncio.sleep(0.02)

        tasks = [asyncio.create_task(ask_on()) for _ in range(clients)]
        try:
            yield
        finally:
            going = False
            await asyncio.gather(*tasks)

    def kill(self, process) -> None:
        """*process* has `kill`; of each kill the time is kept."""
        self.kills.append(time.monotonic())
        process.kill()

    def must_be_known(self, sent: Sent) -> bool:
        """Whether no kill came while it was under way, or before its end could be noted."""
        began_at = sent.over_at - sent.answer.seconds
        return not any(began_at < at < sent.over_at + _KNOWN_AFTER_S for at in self.kills)


class Books:
    """The usage table of a home, read with SQL alone."""

    def __init__(self, ground: Ground, key_id: str):
        self._file = ground.home / "modelyard.db"
        self._key_id = key_id

    def rows(self):
        with contextlib.closing(sqlite3.connect(self._file)) as database:
            return database.execute(
                "SELECT request_id, status, prompt_tokens, completion_tokens FROM usage"
                " WHERE key_id = ?",
                (self._key_id,),
            ).fetchall()

    async def until_whole(self, names: set[str], within_s: float) -> None:
        """Until all of *names* are in it, and nothing more comes."""
        until = time.monotonic() + within_s
        before = -1
        while True:
            rows = await asyncio.to_thread(self.rows)
            missing = names - {row[0] for row in rows}
            if not missing and len(rows) == before:
                return
            assert time.monotonic() < until, f"{len(missing)} are missing: {sorted(missing)[:5]}"
            before = len(rows)
            await asyncio.sleep(0.5)


async def assert_adds_up(traffic: Traffic, witness: Witness, books: Books, within_s=15) -> Counter:
    """One row for each request that was let in, by those who have seen it; the rows by status."""
    answered = {
        name for name, sent in traffic.sent.items() if sent.answer.headers.get("x-request-id")
    }
    let_in = answered | witness.seen.keys()
    await books.until_whole(let_in, within_s)
    rows = books.rows()
    statuses = {name: status for name, status, *_ in rows}
    assert len(statuses) == len(rows), "no request has two rows"
    # Opened, and its gateway killed before a worker was told.
    between = {name for name in statuses.keys() - let_in if statuses[name] == "swept"}
    assert statuses.keys() == let_in | between
    assert len(between) <= 2 * len(traffic.kills), between
    for name, status, *tokens in rows:
        sent = traffic.sent[name]
        usage = expected(sent.call.path, sent.call.body).usage
        whole = [usage["prompt_tokens"], usage["completion_tokens"]]
        if status == "ok":
            assert tokens == whole
        else:
            assert tokens in ([0, 0], whole)
        if sent.ok and traffic.must_be_known(sent):
            assert status == "ok", (name, status, sent.answer)
    return Counter(statuses.values())
