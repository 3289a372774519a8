"""The stream of what goes on: one frame every two seconds, worked out once for all who follow.

Nothing is kept for a follower: who is slow misses frames, and is told of the models what changed
since the one it got.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from typing import Protocol

import msgspec

from gateway.admin.live.look import Look, changes
from gateway.admin.live.seen import EngineWatch, Seen
from gateway.admin.live.views import FlowView
from gateway.admin.views import View, event_view
from registry.errors import NotFoundError, UnavailableError
from registry.state import Event

EVERY_S = 2.0
EVENTS_MAX = 1000
_POLL_S = 0.25
_KEEPALIVE_S = 15.0
_ALLOWED_S = 10.0  # how long who was let in is not asked for again
_COMMENT = b": nothing new\n\n"


class Source(Protocol):
    """The part of `registry.store.Store` that tells of events."""

    async def version(self) -> int: ...

    async def events(self, *, after: int, limit: int) -> tuple[Event, ...]: ...


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What a follower is told: the *flow* of that model; events *after* that id, or from now."""

    overview: bool = False
    models: bool = False
    flow: str | None = None
    events: bool = False
    after: int | None = None


class Frame:
    """The *look* of a *tick*, and its events as they are sent."""

    def __init__(self, tick: int, look: Look, before: "Frame | None") -> None:
        self.tick = tick
        self._since = before.tick if before is not None else None
        self.look = look
        self.overview = sent("overview", look.overview)
        changed = changes(before.look.summaries, look.summaries) if before is not None else None
        self._changed = sent("models", changed) if changed is not None else b""
        self.flows: dict[str, asyncio.Task[bytes]] = {}

    def models(self, last: "Frame | None") -> bytes:
        """What changed since *last*, all of it for who has none; b"" where nothing did."""
        if last is not None and last.tick == self._since:
            return self._changed
        event = changes(last.look.summaries if last is not None else None, self.look.summaries)
        return sent("models", event) if event is not None else b""


class Feed:
    """What all followers share."""

    def __init__(self, seen: Seen, watch: EngineWatch, store: Source) -> None:
        self.news = News(store)
        self._seen = seen
        self._watch = watch
        self._lock = asyncio.Lock()
        self._frame: Frame | None = None

    async def frame(self) -> Frame:
        """That of the present tick."""
        tick = int(asyncio.get_running_loop().time() // EVERY_S)
        async with self._lock:
            frame = self._frame
            if frame is None or frame.tick < tick:
                # After a pause nobody has the one before, and it would only be held on to.
                before = frame if frame is not None and frame.tick == tick - 1 else None
                frame = self._frame = Frame(tick, await self._seen.look(), before)
        return frame

    async def flow(self, name: str) -> FlowView:
        """Raises NotFoundError."""
        return await self._flow(await self._seen.look(), name)

    async def flow_event(self, frame: Frame, name: str) -> bytes:
        """Raises NotFoundError."""
        task = frame.flows.get(name)
        if task is None:
            task = frame.flows[name] = asyncio.create_task(self._flow_event(frame.look, name))
        return await asyncio.shield(task)  # it is not one follower's: the others wait for it too

    async def _flow_event(self, look: Look, name: str) -> bytes:
        return sent("flow", await self._flow(look, name))

    async def _flow(self, look: Look, name: str) -> FlowView:
        paces = await self._watch.paces(name, look.standing.workers.get(name, ()))
        return look.flow(name, paces)


class News:
    """The newest events, read once for all followers."""

    def __init__(self, store: Source) -> None:
        self._store = store
        self._lock = asyncio.Lock()
        self._looked_at = float("-inf")
        self._last_id = -1
        self._floor = 0  # all above it are in `_newest`
        self._newest: deque[tuple[int, bytes]] = deque()

    async def newest(self) -> int:
        """The id of the newest event."""
        await self._read()
        return self._last_id

    async def after(self, last_id: int) -> list[tuple[int, bytes]]:
        """The first `EVENTS_MAX` events after that id, with theirs."""
        await self._read()
        if last_id >= self._floor:
            return [one for one in self._newest if one[0] > last_id]
        events = await self._store.events(after=last_id, limit=EVENTS_MAX)
        return [(event.id, _event(event)) for event in events]

    async def _read(self) -> None:
        async with self._lock:
            now = asyncio.get_running_loop().time()
            if now - self._looked_at < _POLL_S / 2:
                return
            version = await self._store.version()
            if self._last_id < 0:
                self._last_id = self._floor = version
            elif version != self._last_id:
                for event in await self._store.events(after=self._last_id, limit=EVENTS_MAX):
                    self._newest.append((event.id, _event(event)))
                    self._last_id = event.id
                while len(self._newest) > EVENTS_MAX:
                    self._floor = self._newest.popleft()[0]
            self._looked_at = now


async def follow(
    feed: Feed, wanted: Wanted, allowed: Callable[[], Awaitable[bool]]
) -> AsyncGenerator[bytes, None]:
    """Until whoever follows is *allowed* to no more."""
    clock = asyncio.get_running_loop().time
    frame: Frame | None = None
    last_id = wanted.after
    said_at = asked_at = clock()
    yield b"retry: 2000\n\n"
    while True:
        told: list[bytes] = []
        with suppress(UnavailableError):  # the next turn asks again
            if wanted.events:
                if last_id is None:
                    last_id = await feed.news.newest()
                for event_id, event in await feed.news.after(last_id):
                    told.append(event)
                    last_id = event_id
            frame = await _frame(feed, wanted, frame, told)
        if told or clock() - said_at >= _KEEPALIVE_S:
            yield b"".join(told) or _COMMENT
            said_at = clock()
        if clock() - asked_at >= _ALLOWED_S:
            if not await allowed():
                return
            asked_at = clock()
        await asyncio.sleep(_POLL_S)


async def _frame(feed: Feed, wanted: Wanted, last: Frame | None, told: list[bytes]) -> Frame | None:
    """The newest frame, of which *told* gets what is *wanted* and not there in *last*."""
    if not (wanted.overview or wanted.models or wanted.flow):
        return None
    frame = await feed.frame()
    if frame is last:
        return last
    if wanted.overview:
        told.append(frame.overview)
    if wanted.models:
        told.append(frame.models(last))
    if wanted.flow is not None:
        with suppress(NotFoundError):  # it was deleted: the models' event says so
            told.append(await feed.flow_event(frame, wanted.flow))
    return frame


def sent(name: str, view: View) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), msgspec.json.encode(view))


def _event(event: Event) -> bytes:
    return b"id: %d\n%b" % (event.id, sent("event", event_view(event)))
