"""What every route of the admin API may use, handed in as one dependency."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from typing import Any, TypeVar

import httpx
from litestar import Request
from litestar.background_tasks import BackgroundTask
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.response import Stream

from gateway.admin.auth import Guard
from gateway.admin.errors import TooManyError
from gateway.admin.live.follow import Feed
from gateway.admin.live.past import Past
from gateway.admin.live.seen import EngineWatch, Seen
from gateway.admin.playground import Playground
from gateway.admin.sign_in import Door, Passwords
from gateway.exposition import Exposition
from gateway.snapshots import Snapshots
from pipelines.cluster.base import Cluster
from pipelines.engines.base import EngineMetrics
from pipelines.probe import ProbeError, scrape
from registry.state import Phase, Principal, Session, Snapshot, Worker
from registry.store import Store

FOLLOWERS_MAX = 64
SCRAPE_DEADLINE_S = 1.0
THINKERS_MAX = 8

_T = TypeVar("_T")

AdminRequest = Request[Session | None, Principal, State]


class Bound:
    """Bounds what goes on at once, so that what is forgotten cannot use the process up."""

    def __init__(self, limit: int, refusal: str) -> None:
        self._limit = limit
        self._refusal = refusal
        self.count = 0

    def check(self) -> None:
        """Raises TooManyError."""
        if self.count >= self._limit:
            raise TooManyError(self._refusal)

    @contextmanager
    def one(self) -> Iterator[None]:
        self.count += 1
        try:
            yield
        finally:
            self.count -= 1

    async def through(self, chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        """*chunks*, counted as one for as long as they come."""
        with self.one():
            async with aclosing(chunks):
                async for chunk in chunks:
                    yield chunk


class AdminContext:
    # A plain class: Litestar would take a dataclass apart to validate it.
    def __init__(
        self,
        *,
        store: Store,
        snapshots: Snapshots,
        cluster: Cluster,
        probe: httpx.AsyncClient,
        exposition: Exposition,
        guard: Guard,
        door: Door,
        passwords: Passwords,
        playground: Playground,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.store = store
        self.snapshots = snapshots
        self.cluster = cluster
        self.probe = probe
        self.exposition = exposition
        self.guard = guard
        self.door = door
        self.passwords = passwords
        self.playground = playground
        self.clock = clock
        self.seen = Seen(store, snapshots, clock)
        self.feed = Feed(self.seen, EngineWatch(self.engine_counts, clock), store)
        self.past = Past(store)
        self.followers = Bound(
            FOLLOWERS_MAX, f"{FOLLOWERS_MAX} streams are being followed already: end one first"
        )
        self.planners = Bound(1, "a plan is being made already: wait until it is")
        self.tuners = Bound(1, "something is being measured already: wait until it has ended")
        self._thinkers = Bound(
            THINKERS_MAX, f"{THINKERS_MAX} plans are being made already: ask again in a moment"
        )
        self._thinking = asyncio.Lock()
        self._thought_of: Snapshot | None = None
        self._thoughts: dict[str, asyncio.Task[Any]] = {}

    async def think(self, work: Callable[[], _T]) -> _T:
        """*work* in a thread, beside the event loop that passes tokens on: the scheduler's answer
        for a large fleet takes seconds. One at a time. Raises TooManyError.
        """
        self._thinkers.check()
        with self._thinkers.one():
            async with self._thinking:
                return await asyncio.to_thread(work)

    async def thought(self, about: str, snapshot: Snapshot, work: Callable[[], _T]) -> _T:
        """As `think`, but once for all who ask *about* the same *snapshot*: a page that stays open
        asks every few seconds, and what it asks for changes only with the registry.
        """
        if self._thought_of is not snapshot:
            self._thought_of, self._thoughts = snapshot, {}
        thoughts = self._thoughts
        task = thoughts.get(about)
        if task is None:
            task = thoughts[about] = asyncio.create_task(self.think(work))
            task.add_done_callback(lambda done: _keep(done) or thoughts.pop(about))
        answer: _T = await asyncio.shield(task)  # it is not one asker's: others wait for it too
        return answer

    async def engine_counts(self, workers: tuple[Worker, ...]) -> dict[str, EngineMetrics]:
        """The live counts of the ready ones, by worker id, asked for at the same time; who does
        not answer within the deadline is left out.
        """
        ready = [worker for worker in workers if worker.phase is Phase.READY]
        async with asyncio.TaskGroup() as group:
            asked = {worker.id: group.create_task(self._counts(worker)) for worker in ready}
        answers = {worker_id: task.result() for worker_id, task in asked.items()}
        return {worker_id: counts for worker_id, counts in answers.items() if counts is not None}

    async def _counts(self, worker: Worker) -> EngineMetrics | None:
        try:
            return await scrape(self.probe, worker, timeout_s=SCRAPE_DEADLINE_S)
        except ProbeError:
            return None


def _keep(done: asyncio.Task[Any]) -> bool:
    return not done.cancelled() and done.exception() is None


Context = NamedDependency[AdminContext]


def stream(
    chunks: AsyncGenerator[bytes, None],
    media_type: str,
    headers: Mapping[str, str] | None = None,
    status_code: int | None = None,
    *,
    slow_s: float | None = None,
) -> Stream:
    """A streamed answer whose generator is closed when the client goes, wherever it then is, or
    when it takes nothing for *slow_s*.
    """
    if slow_s is not None:
        chunks = _dropping(chunks, slow_s)
    return Stream(
        chunks,
        media_type=media_type,
        headers=headers,
        status_code=status_code,
        background=BackgroundTask(_close, chunks),
    )


async def _close(chunks: AsyncGenerator[bytes, None]) -> None:
    # Not `chunks.aclose` itself: Litestar would call that in a thread, and await nothing.
    await chunks.aclose()


async def _dropping(
    chunks: AsyncGenerator[bytes, None], slow_s: float
) -> AsyncGenerator[bytes, None]:
    """What sends a chunk waits until the client has taken most of what was sent before: it is
    cancelled where that takes too long, and with it the answer.
    """
    sending = asyncio.current_task()
    assert sending is not None
    loop = asyncio.get_running_loop()
    async with aclosing(chunks):
        async for chunk in chunks:
            timer = loop.call_later(slow_s, sending.cancel)
            try:
                yield chunk
            finally:
                timer.cancel()
