"""The stream of what goes on: worked out once for all who follow, with nothing kept for any."""

import asyncio
import json
from collections import Counter

import msgspec
import pytest
from fleets import a_snapshot, unified, workers_of

from gateway.admin.live import follow as module
from gateway.admin.live.follow import Feed, News, Wanted, follow
from gateway.admin.live.look import Look, Served
from gateway.admin.live.seen import EngineWatch
from gateway.admin.live.standing import standing
from registry.errors import UnavailableError
from registry.state import Event, EventKind


def look(*names, before=None, **changes) -> Look:
    models = [msgspec.structs.replace(unified(name), **changes) for name in names]
    workers = [worker for model in models for worker in workers_of(model)]
    stands = standing(a_snapshot(models=models, workers=workers), ())
    return Look(
        at=1.0, standing=stands, served=Served(stands, {}), wishes={}, lease=None, before=before
    )


class World:
    """A feed whose looks and events are what the test says."""

    def __init__(self):
        self.now = look("m", "n")
        self.looks = 0
        self.reads = Counter()
        self.events_until = 3
        self.away = False

        async def counts(workers):
            return {}

        self.feed = Feed(self, EngineWatch(counts, lambda: 0.0), self)

    async def look(self):
        self.looks += 1
        if self.away:
            raise UnavailableError("the database did not answer")
        return self.now

    async def version(self):
        self.reads["version"] += 1
        return self.events_until

    async def events(self, *, after, limit):
        self.reads["events"] += 1
        last = min(self.events_until, after + limit)
        return tuple(
            Event(
                id=n, at=0.0, kind=EventKind.POOL_CHANGED, model="", worker="", node="", message=""
            )
            for n in range(after + 1, last + 1)
        )

    def follow(self, wanted, allowed=True):
        async def is_allowed():
            return allowed

        return follow(self.feed, wanted, is_allowed)


@pytest.fixture
def world(monkeypatch):
    monkeypatch.setattr(module, "EVERY_S", 0.05)
    monkeypatch.setattr(module, "_POLL_S", 0.01)
    return World()


def told(chunk):
    """The events in a chunk: (name, data)."""
    parts = [part.split(b"\n") for part in chunk.split(b"\n\n") if part]
    fields = [dict(line.split(b": ", 1) for line in lines) for lines in parts]
    return [(one[b"event"].decode(), json.loads(one[b"data"])) for one in fields if b"data" in one]


async def chunks_of(stream, count):
    found = [await anext(stream) for _ in range(count + 1)][1:]
    await stream.aclose()
    return found


async def test_a_tick_is_worked_out_once_for_all(world):
    wanted = Wanted(overview=True, models=True, flow="m")
    streams = [world.follow(wanted) for _ in range(20)]
    first = await asyncio.gather(*(chunks_of(stream, 1) for stream in streams))
    assert len({chunk for (chunk,) in first}) <= 2, "of two ticks at most"
    assert world.looks <= 2
    names = [name for name, _ in told(first[0][0])]
    assert names == ["overview", "models", "flow"]


async def test_who_missed_frames_is_told_what_changed_since_its_own(world):
    first = await world.feed.frame()
    frames = []
    for change in ({"condition": "a"}, {"condition": "a", "generation": 2}):
        world.now = look("m", before=world.now, **change)
        await asyncio.sleep(0.06)
        frames.append(await world.feed.frame())
    for frame, last in ((frames[1], first), (frames[0], first), (frames[1], frames[0])):
        ((_, event),) = told(frame.models(last))
        (item,) = event["items"]
        assert (item["generation"], event["whole"]) == (2 if frame is frames[1] else 1, False)
        assert event["removed"] == ([] if last is frames[0] else ["n"])
    assert frames[1].models(frames[1]) == b""
    ((_, whole),) = told(frames[1].models(None))
    assert whole["whole"]


async def test_a_stream_goes_on_when_the_registry_is_back(world):
    stream = world.follow(Wanted(overview=True))
    world.away = True
    assert (await anext(stream)).startswith(b"retry")
    waiting = asyncio.create_task(anext(stream))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    world.away = False
    assert told(await waiting)[0][0] == "overview"
    await stream.aclose()


async def test_a_silent_stream_is_kept_open_and_ends_when_it_may_go_on_no_more(world, monkeypatch):
    monkeypatch.setattr(module, "_KEEPALIVE_S", 0.03)
    monkeypatch.setattr(module, "_ALLOWED_S", 0.1)
    chunks = [chunk async for chunk in world.follow(Wanted(events=True), allowed=False)]
    assert chunks[1].startswith(b":")


async def test_events_are_read_once_for_all_who_follow(world):
    news = News(world)
    assert await news.newest() == 3
    world.events_until = 5
    await asyncio.sleep(0.02)
    for _ in range(20):
        assert [event_id for event_id, _ in await news.after(3)] == [4, 5]
    assert (await news.after(4))[0][1].startswith(b"id: 5\nevent: event\ndata: {")
    assert world.reads["events"] == 1
    assert [event_id for event_id, _ in await news.after(1)] == [2, 3, 4, 5], "from the registry"


async def test_a_follower_far_behind_gets_all_events_in_their_order(world, monkeypatch):
    monkeypatch.setattr(module, "EVENTS_MAX", 10)
    world.events_until = 3
    news = News(world)
    await news.newest()
    world.events_until = 64
    seen, last_id = [], 0
    while last_id < 64:
        await asyncio.sleep(0.01)
        ids = [event_id for event_id, _ in await news.after(last_id)]
        seen, last_id = seen + ids, ids[-1]
    assert seen == list(range(1, 65))
