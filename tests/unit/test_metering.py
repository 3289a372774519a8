"""Usage records reach the registry once, in batches, in bounded memory, or are counted as lost."""

import asyncio

import pytest
from usage_world import Process, Registry, segments

from gateway.metering import meter
from gateway.metering.recorder import BATCH_MAX
from registry.usage import UsageStatus


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(meter, "_FLUSH_S", 0.01)
    monkeypatch.setattr(meter, "_PAUSE_S_MAX", 0.02)


@pytest.fixture
def registry():
    return Registry()


@pytest.fixture(params=["disk", "memory"])
def folder(request, tmp_path):
    """Of the journals; without one all else is as with one."""
    return tmp_path if request.param == "disk" else None


async def until(holds):
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_every_record_is_written_once_and_in_batches(registry, folder):
    process = Process(registry.record_usage, folder)
    process.served(2 * BATCH_MAX + 1)
    await process.aclose()
    assert registry.batches == [BATCH_MAX, BATCH_MAX, 1]
    assert len(registry.rows) == process.counts.recorded == 2 * BATCH_MAX + 1
    assert process.counts.dropped == 0
    process.check()


async def test_many_records_do_not_wait_for_one_another(registry, folder, monkeypatch):
    """A gateway may answer more requests a second than one batch holds."""
    monkeypatch.setattr(meter, "_FLUSH_S", 0.2)
    process = Process(registry.record_usage, folder)
    process.served(9 * BATCH_MAX)
    async with asyncio.timeout(1.5):
        while len(registry.rows) < 9 * BATCH_MAX:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await process.aclose()


async def test_a_registry_that_is_away_for_a_while_costs_nothing(registry, folder):
    registry.away = True
    process = Process(registry.record_usage, folder)
    process.served(3)
    await asyncio.sleep(0.1)
    assert (process.counts.waiting, process.counts.recorded) == (3, 0)
    registry.away = False
    await until(lambda: process.counts.recorded == 3)
    process.check()
    await process.aclose()
    assert len(registry.rows) == 3


async def test_a_batch_of_unknown_outcome_is_written_again_and_counts_once(registry, folder):
    registry.mute = True
    process = Process(registry.record_usage, folder)
    process.served(3)
    await until(lambda: len(registry.batches) > 2)
    registry.mute = False
    await process.aclose()
    assert len(registry.rows) == process.counts.recorded == 3
    assert process.counts.dropped == 0


async def test_without_a_journal_what_cannot_be_written_at_the_end_is_lost_and_counted(
    registry, monkeypatch
):
    monkeypatch.setattr(meter, "_CLOSE_S_MAX", 0.05)
    registry.away = True
    process = Process(registry.record_usage)
    process.served(2)
    await process.aclose()
    assert process.counts.dropped == 2
    process.check()


async def test_with_one_it_is_left_for_the_next_process(registry, tmp_path, monkeypatch):
    monkeypatch.setattr(meter, "_CLOSE_S_MAX", 0.05)
    registry.away = True
    process = Process(registry.record_usage, tmp_path)
    process.served(2)
    await process.aclose()
    assert process.counts.dropped == 0
    registry.away = False
    heir = Process(registry.record_usage, tmp_path)
    assert await heir.sweep()
    assert registry.statuses() == ["ok", "ok"]
    assert (heir.counts.swept, segments(tmp_path)) == (0, [])
    await heir.aclose()


async def test_without_a_journal_memory_is_bounded_and_the_rest_is_lost(registry, monkeypatch):
    monkeypatch.setattr(meter, "WAITING_MAX", 10)
    process = Process(registry.record_usage)
    process.served(15)
    await process.aclose()
    assert (len(registry.rows), process.counts.dropped) == (10, 5)
    process.check()


async def test_with_one_the_rest_waits_on_disk_alone_and_none_is_lost(
    registry, tmp_path, monkeypatch
):
    monkeypatch.setattr(meter, "WAITING_MAX", 10)
    registry.away = True
    process = Process(registry.record_usage, tmp_path)
    process._journal._segment_bytes = 5_000
    for first in range(0, 400, 40):
        process.served(40, first=first)
        await asyncio.sleep(0.01)
        assert process._waiting_count == 10
    assert len(segments(tmp_path)) > 10
    assert process.counts.waiting == 400
    process.check()
    registry.away = False
    await until(lambda: process.counts.recorded == 400)
    assert len(registry.rows) == 400
    process.check()
    await until(lambda: len(segments(tmp_path)) <= 1)
    await process.aclose()
    assert segments(tmp_path) == []
    assert process.counts.dropped == 0


async def test_beyond_the_disks_bound_what_memory_does_not_hold_is_lost_and_counted(
    registry, tmp_path, monkeypatch
):
    monkeypatch.setattr(meter, "WAITING_MAX", 10)
    registry.away = True
    process = Process(registry.record_usage, tmp_path, journal_bytes_max=19_850)
    process._journal._segment_bytes = 200  # a chunk may lie on both sides of the bound
    process.served(300, at_once=7)
    counts = process.counts
    assert counts.journal_failing
    assert sum(path.stat().st_size for path in tmp_path.glob("000/0*")) < 26_000
    assert 200 < counts.dropped < 280, "the disk has held some that memory did not"
    assert counts.waiting == 300 - counts.dropped
    process.check()
    registry.away = False
    await until(lambda: process.counts.waiting == 0)
    assert len(registry.rows) == 300 - counts.dropped
    process.check()
    await process.aclose()


async def test_a_spilled_segment_that_cannot_be_read_is_lost_and_counted(
    registry, tmp_path, monkeypatch
):
    monkeypatch.setattr(meter, "WAITING_MAX", 1)
    registry.away = True
    process = Process(registry.record_usage, tmp_path)
    process.served(5, at_once=1)
    (tmp_path / segments(tmp_path)[0]).unlink()
    registry.away = False
    await until(lambda: process.counts.waiting == 0)
    assert (process.counts.dropped, len(registry.rows)) == (4, 1)
    process.check()
    await process.aclose()


async def test_without_a_folder_that_can_be_written_all_goes_on_in_memory(registry, tmp_path):
    (tmp_path / "usage").write_text("not a folder")
    process = Process(registry.record_usage, tmp_path / "usage")
    assert process.counts.journal_failing
    process.served(3)
    await process.aclose()
    assert len(registry.rows) == 3


async def test_requests_of_one_id_stay_apart(registry, tmp_path):
    """A client may choose the same id for many requests, of several processes, at one moment."""
    processes = [
        Process(registry.record_usage, tmp_path, wall_clock=lambda: 1.8e9) for _ in range(2)
    ]
    for process in processes:
        for _ in range(50):
            process.answer(process.ask("the same"))
    for process in processes:
        await process.aclose()
    assert len(registry.rows) == 100


async def test_the_numbers_add_up_while_requests_are_under_way(registry, folder):
    process = Process(registry.record_usage, folder)
    asked = [process.ask() for _ in range(4)]
    for opened, status in zip(asked, ("ok", "error", "cancelled"), strict=False):
        process.answer(opened, UsageStatus(status))
    assert (process.counts.opened, process.counts.open, process.counts.waiting) == (4, 1, 3)
    process.check()
    process.answer(asked[3])
    await process.aclose()
    assert process.counts.closed == {"ok": 2, "error": 1, "cancelled": 1}
    process.check()
    assert process.counts.recorded == 4
