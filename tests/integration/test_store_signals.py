"""Traffic and demand in the registry: told again and again, read by asking, and pruned."""

import asyncio
import time
from collections.abc import Sequence

import msgspec
import pytest
from postgres_server import PostgresServer
from registry_world import ME, Clock, spec

from registry.store import Store, signals
from registry.traffic import SLOT_S, TRAFFIC_KEPT_S, Demand, Latencies, Traffic


def served(at: float, **changes: object) -> Traffic:
    facts = {
        "gateway": "gw/000",
        "model": "m",
        "variant": "default",
        "revision": 1,
        "requests": 3,
        "errors": 1,
        "paired": 2,
        "prompt_tokens": 2**40,
        "completion_tokens": 5,
        "ttft": Latencies.of((0.1, 0.2)),
        "tpot": Latencies.of((0.01,)),
        "e2e": Latencies.of((0.3, 0.4, 0.5)),
    }
    return Traffic(at=at, **(facts | changes))


def waits(at: float, **changes: object) -> Demand:
    facts = {
        "gateway": "gw/000",
        "model": "m",
        "queued": 2,
        "queued_prompt_tokens": 2**40,
        "oldest_at": at - 1,
        "in_flight": 4,
        "asked_at": at,
    }
    return Demand(at=at, **(facts | changes))


def as_told(rows: Sequence[Demand]) -> tuple[Demand, ...]:
    """To the second: the clock of the tests stands still, and PostgreSQL's does not."""
    times = ("at", "oldest_at", "asked_at")
    return tuple(
        msgspec.structs.replace(row, **{name: round(getattr(row, name)) for name in times})
        for row in rows
    )


async def test_traffic_comes_back_as_it_was_told_and_oldest_first(store: Store) -> None:
    rows = (
        served(995.0),
        served(995.0, revision=2),
        served(1000.0),
        served(1000.0, gateway="gw/001", model="other"),
    )
    await store.record_traffic(rows[::-1])
    assert await store.traffic(since=0.0) == rows
    assert await store.traffic(since=1000.0) == rows[2:]
    assert await store.traffic(since=0.0, model="other") == rows[3:]


async def test_a_batch_that_is_told_again_counts_once(store: Store) -> None:
    await store.record_traffic([served(995.0), served(1000.0)])
    await store.record_traffic([served(995.0), served(1000.0, requests=7)])
    assert [row.requests for row in await store.traffic(since=0.0)] == [3, 7]


async def test_demand_is_what_each_gateway_said_last(store: Store) -> None:
    await store.tell_demand([waits(1000.0), waits(1000.0, gateway="gw/001")])
    await store.tell_demand([waits(1001.0, queued=0, oldest_at=0.0)])
    told = (waits(1001.0, queued=0, oldest_at=0.0), waits(1000.0, gateway="gw/001"))
    assert as_told((await store.snapshot()).demand) == told


async def test_signals_move_no_version(store: Store) -> None:
    before = await store.version()
    await store.record_traffic([served(1000.0)])
    await store.tell_demand([waits(1000.0)])
    await store.forget_ended()
    assert await store.version() == before


async def test_old_signals_are_pruned_with_the_rest_of_history(store: Store, clock: Clock) -> None:
    clock.now = 1_000_000.0
    edge = clock.now - TRAFFIC_KEPT_S
    await store.record_traffic([served(edge - SLOT_S), served(edge)])
    day_ago = clock.now - signals.DEMAND_KEPT_S
    silent, heard = waits(day_ago - 60, gateway="gw/001"), waits(day_ago + 60)
    await store.tell_demand([silent, heard])
    await store.forget_ended()
    assert await store.traffic(since=0.0) == (served(edge),)
    assert [row.gateway for row in (await store.snapshot()).demand] == ["gw/000"]


async def test_nothing_is_told_at_no_cost_and_too_much_not_at_all(store: Store) -> None:
    await store.record_traffic([])
    await store.tell_demand([])
    flood = [served(1000.0, revision=number) for number in range(signals.ROWS_MAX + 1)]
    with pytest.raises(ValueError, match="501 rows at once, allowed are 500"):
        await store.record_traffic(flood)
    await store.record_traffic(flood[1:])
    assert len(await store.traffic(since=0.0)) == signals.ROWS_MAX
    assert flood[1] in await store.traffic(since=0.0)


async def test_demand_is_as_old_for_every_machine_whatever_its_clock_says(
    postgres: PostgresServer,
) -> None:
    url, now = await postgres.database(), time.time()
    gateway, controller = Clock(now - 3600.0), Clock(now + 3600.0)
    told_by = await Store.open(url, clock=gateway)
    read_by = await Store.open(url, clock=controller)
    try:
        never = waits(gateway.now, model="n", queued=0, oldest_at=0.0, asked_at=0.0)
        await told_by.tell_demand([waits(gateway.now), never])
        seen, unasked = (await read_by.snapshot()).demand
        assert seen.at == pytest.approx(controller.now, abs=5.0)
        assert seen.asked_at == seen.at
        assert seen.oldest_at == pytest.approx(seen.at - 1)
        assert (unasked.oldest_at, unasked.asked_at) == (0.0, 0.0), "which is no time"
    finally:
        await told_by.aclose()
        await read_by.aclose()


async def test_who_waits_for_the_write_lock_takes_the_time_once_it_has_it(
    store: Store, url: str, clock: Clock
) -> None:
    """So events are in the order of their times, and the time that a clock is off does not count
    the wait.
    """
    other = await Store.open(url, clock=clock)
    try:
        async with other._scopes.write():
            waiting = asyncio.create_task(store.apply_model(spec(), by=ME))
            await asyncio.sleep(0.05)
            clock.now += 7.0
        await waiting
    finally:
        await other.aclose()
    assert {event.at for event in await store.events()} == {clock.now}
