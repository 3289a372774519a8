"""What a gateway collects of its requests, and how it tells the registry."""

import asyncio
from pathlib import Path

import pytest

from gateway.signals import Collector, Outcome, Queued, Teller, gateway_id
from gateway.signals import teller as tellers
from registry.traffic import SLOT_S, TRAFFIC_KEPT_S, Latencies, Traffic

NOW = 10_000.0
GATEWAY = "n/1234/000"


class Sink:
    """What `Store` promises of signals. *away* takes nothing."""

    def __init__(self):
        self.traffic: list[Traffic] = []
        self.demand = []
        self.away = False

    async def record_traffic(self, rows):
        await asyncio.sleep(0)
        if self.away:
            raise ConnectionError
        self.traffic += rows

    async def tell_demand(self, rows):
        await asyncio.sleep(0)
        if self.away:
            raise ConnectionError
        self.demand += rows


class World:
    def __init__(self):
        self.now = NOW
        self.queued: dict[str, Queued] = {}
        self.sink = Sink()
        self.collector = Collector(lambda: self.queued)
        self.teller = self.another_teller()

    def another_teller(self, **options):
        return Teller(self.sink, self.collector, GATEWAY, wall_clock=lambda: self.now, **options)

    def ended(self, model="m", revision=1, **outcome):
        self.collector.ended(model, "default", revision, Outcome(**outcome), self.now)

    async def told_after(self, seconds):
        """The demand told *seconds* from now."""
        self.now += seconds
        self.sink.demand.clear()
        await self.teller.tell()
        return [(row.model, row.queued, row.in_flight) for row in self.sink.demand]


# --- traffic


async def test_what_requests_did_is_added_up_by_variant_and_revision():
    world = World()
    world.ended(
        ttft_s=0.2, tpot_s=0.01, e2e_s=0.3, prompt_tokens=5, completion_tokens=3, paired=True
    )
    world.ended(failed=True)
    world.ended(ttft_s=0.4)
    world.ended(revision=2)
    world.now += SLOT_S
    await world.teller.tell()
    first, second = world.sink.traffic
    assert first == Traffic(
        at=NOW,
        gateway=GATEWAY,
        model="m",
        variant="default",
        revision=1,
        requests=3,
        errors=1,
        paired=1,
        prompt_tokens=5,
        completion_tokens=3,
        ttft=Latencies.of((0.2, 0.4)),
        tpot=Latencies.of((0.01,)),
        e2e=Latencies.of((0.3,)),
    )
    assert (second.revision, second.requests) == (2, 1)


async def test_a_slot_is_told_once_and_only_when_it_has_ended():
    world = World()
    world.ended()
    world.now += SLOT_S - 0.1
    await world.teller.tell()
    assert world.sink.traffic == []
    world.now += 0.1
    await world.teller.tell()
    await world.teller.tell()
    assert [row.at for row in world.sink.traffic] == [NOW]


async def test_a_slot_without_requests_leaves_no_row():
    world = World()
    for _ in range(3):
        world.ended()
        world.now += 4 * SLOT_S
    await world.teller.tell()
    assert [row.at for row in world.sink.traffic] == [NOW, NOW + 20, NOW + 40]


async def test_what_the_registry_did_not_take_is_told_when_it_is_back():
    world = World()
    world.sink.away = True
    for _ in range(2):
        world.ended()
        world.now += SLOT_S
        with pytest.raises(ConnectionError):
            await world.teller.tell()
    world.sink.away = False
    await world.teller.tell()
    assert [row.at for row in world.sink.traffic] == [NOW, NOW + SLOT_S]


async def test_while_the_registry_is_away_traffic_waits_no_longer_than_it_would_keep_it():
    world = World()
    world.sink.away = True
    for _ in range(int(TRAFFIC_KEPT_S / SLOT_S) + 10):
        world.ended()
        world.now += SLOT_S
        with pytest.raises(ConnectionError):
            await world.teller.tell()
    world.sink.away = False
    await world.teller.tell()
    assert world.sink.traffic[0].at == world.now - TRAFFIC_KEPT_S
    assert len(world.sink.traffic) == TRAFFIC_KEPT_S / SLOT_S


async def test_rows_come_in_bounded_batches(monkeypatch):
    world = World()
    sizes = []

    async def record(rows):
        sizes.append(len(rows))

    monkeypatch.setattr(world.sink, "record_traffic", record)
    for revision in range(tellers.ROWS_MAX + 1):
        world.ended(revision=revision)
    world.now += SLOT_S
    await world.teller.tell()
    assert sizes == [tellers.ROWS_MAX, 1]


# --- demand


async def test_demand_tells_those_that_wait_from_those_at_workers():
    world = World()
    for _ in range(3):
        world.collector.began("m", NOW - 2)
    world.queued["m"] = Queued(2, 700, NOW - 1)
    await world.teller.tell()
    (row,) = world.sink.demand
    assert (row.queued, row.queued_prompt_tokens, row.oldest_at) == (2, 700, NOW - 1)
    assert (row.in_flight, row.asked_at, row.at) == (1, NOW - 2, NOW)


async def test_demand_is_told_when_it_changes_and_while_there_is_some_every_few_seconds():
    world = World()
    world.collector.began("m", NOW)
    assert await world.told_after(0) == [("m", 0, 1)]
    assert await world.told_after(4.9) == []
    assert await world.told_after(0.1) == [("m", 0, 1)]
    world.collector.left("m")
    assert await world.told_after(1) == [("m", 0, 0)]
    assert await world.told_after(60) == []


async def test_when_a_model_was_last_asked_for_is_not_forgotten_by_the_registry():
    world = World()
    world.collector.began("m", NOW)
    world.collector.left("m")
    assert await world.told_after(0) == [("m", 0, 0)]
    assert await world.told_after(3600) == [("m", 0, 0)]
    assert world.sink.demand[0].asked_at == NOW


async def test_a_request_between_two_looks_shows_in_when_it_was_asked_for():
    world = World()
    world.collector.began("m", NOW)
    world.collector.left("m")
    await world.teller.tell()
    world.collector.began("m", NOW + 1)
    world.collector.left("m")
    await world.told_after(1)
    assert [row.asked_at for row in world.sink.demand] == [NOW + 1]


async def test_models_that_are_gone_are_forgotten_once_nobody_is_served():
    world = World()
    for model in ("m", "gone", "serving"):
        world.collector.began(model, NOW)
    world.collector.left("m")
    world.collector.left("gone")
    world.collector.keep({"m": None})
    assert sorted(world.collector.demand(GATEWAY, NOW)) == ["m", "serving"]


# --- the task


async def test_whoever_hurries_is_told_of_at_once_and_others_within_the_second():
    world = World()
    world.teller = world.another_teller(every_s=30.0)
    task = asyncio.create_task(world.teller.run())
    try:
        await asyncio.sleep(0)
        world.collector.began("m", NOW)
        world.collector.hurry()
        async with asyncio.timeout(5):
            while not world.sink.demand:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
    finally:
        task.cancel()
    assert world.sink.demand[0].in_flight == 1


async def test_the_task_outlives_a_registry_that_is_away():
    world = World()
    world.sink.away = True
    world.teller = world.another_teller(every_s=0.001)
    task = asyncio.create_task(world.teller.run())
    try:
        world.collector.began("m", NOW)
        await asyncio.sleep(0.2)
        world.sink.away = False
        world.collector.hurry()
        async with asyncio.timeout(5):
            while not world.sink.demand:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
    finally:
        task.cancel()


async def test_the_end_tells_the_slot_under_way_and_that_nothing_waits():
    world = World()
    world.collector.began("m", NOW)
    await world.teller.tell()
    world.ended()
    world.collector.left("m")
    await world.teller.aclose()
    assert [row.requests for row in world.sink.traffic] == [1]
    assert [row.in_flight for row in world.sink.demand] == [1, 0]


async def test_the_end_waits_for_no_registry_that_does_not_answer(monkeypatch):
    world = World()
    monkeypatch.setattr(tellers, "_CLOSE_S_MAX", 0.01)
    monkeypatch.setattr(world.sink, "tell_demand", lambda _rows: asyncio.Event().wait())
    world.collector.began("m", NOW)
    async with asyncio.timeout(2):
        await world.teller.aclose()


def test_a_gateway_is_the_same_for_a_lane_of_a_home_and_no_other(tmp_path: Path):
    mine = gateway_id("n", tmp_path, 7)
    assert mine == gateway_id("n", tmp_path, 7)
    others = {
        gateway_id("n", tmp_path, 8),
        gateway_id("n", tmp_path / "other", 7),
        gateway_id("n", tmp_path, None),
    }
    assert mine not in others
    assert len(gateway_id("n" * 128, tmp_path, None)) <= 64
