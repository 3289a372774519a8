"""Usage records reach the registry once, in batches, or are counted as lost."""

import asyncio

import pytest

from gateway import metering
from gateway.metering import BATCH_MAX, Metering
from registry.state import UsageRecord, UsageStatus


def a_record(number):
    return UsageRecord(
        request_id=str(number),
        key_id="k",
        model="m",
        variant="default",
        revision=1,
        mode="aggregated",
        status=UsageStatus.OK,
        prompt_tokens=1,
        completion_tokens=1,
        opened_at=0.0,
        closed_at=1.0,
    )


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(metering, "_FLUSH_S", 0.01)


class Sink:
    def __init__(self, failures=0):
        self.failures, self.batches = failures, []

    async def __call__(self, records):
        if self.failures:
            self.failures -= 1
            raise OSError("database is away")
        self.batches.append(list(records))

    @property
    def ids(self):
        return [record.request_id for batch in self.batches for record in batch]


async def test_every_record_is_written_once_and_in_batches():
    sink, lost = Sink(), []
    meter = Metering(sink, lost.append)
    for number in range(2 * BATCH_MAX + 1):
        meter.add(a_record(number))
    await meter.aclose()
    assert sink.ids == [str(number) for number in range(2 * BATCH_MAX + 1)]
    assert [len(batch) for batch in sink.batches] == [BATCH_MAX, BATCH_MAX, 1]
    assert lost == []


async def test_many_records_do_not_wait_for_one_another(monkeypatch):
    """A gateway may answer more requests a second than one batch holds."""
    monkeypatch.setattr(metering, "_FLUSH_S", 0.2)
    sink, lost = Sink(), []
    meter = Metering(sink, lost.append)
    for number in range(10 * BATCH_MAX):
        meter.add(a_record(number))
    async with asyncio.timeout(0.8):
        while len(sink.ids) < 10 * BATCH_MAX:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await meter.aclose()
    assert lost == []


async def test_a_registry_that_is_away_for_a_while_costs_nothing():
    sink, lost = Sink(failures=3), []
    meter = Metering(sink, lost.append)
    meter.add(a_record(1))
    await meter.aclose()
    assert (sink.ids, lost) == (["1"], [])


async def test_what_cannot_be_written_when_closing_is_counted(monkeypatch):
    monkeypatch.setattr(metering, "_CLOSE_S_MAX", 0.05)
    lost = []
    meter = Metering(Sink(failures=10**6), lost.append)
    meter.add(a_record(1))
    meter.add(a_record(2))
    await meter.aclose()
    assert lost == [2]


async def test_the_queue_is_bounded(monkeypatch):
    monkeypatch.setattr(metering, "WAITING_MAX", 10)
    sink, lost = Sink(), []
    meter = Metering(sink, lost.append)
    for number in range(15):
        meter.add(a_record(number))
    await meter.aclose()
    assert (len(sink.ids), sum(lost)) == (10, 5)
