"""Requests as they are opened and closed, and the closed ones on their way to the registry.

A request never waits for the database. What was closed is noted together, many times a second: in
the journal, and in memory up to a bound, beyond it on disk alone up to another; then it is dropped
and counted.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec
import structlog

from gateway.metering.counts import UsageCounts
from gateway.metering.entries import CLOSED_MAX, Opened
from gateway.metering.journal import Journal, Segment, read_segment, remove
from gateway.metering.lane import LANE_OF_NONE, Lane, Moments, NoLaneError
from gateway.metering.recorder import BATCH_MAX, Sink, record_all
from gateway.metering.sweeper import Sweeper
from registry.usage import UsageRecord

WAITING_MAX = 20_000
JOURNAL_BYTES_MAX = 2**30
# How long the end of a request may go without being noted: its process's death makes it a swept
# one meanwhile.
_NOTE_S = 0.02
_FLUSH_S = 1.0
_PAUSE_S_MAX = 10.0
_CLOSING_PAUSE_S = 0.02
_CLOSE_S_MAX = 5.0

_log = structlog.get_logger("gateway.metering")


class _Batch(msgspec.Struct, frozen=True):
    """Requests noted together, and where on disk; with None, they are in memory only."""

    records: list[UsageRecord]
    segment: Segment | None


class Metering:
    """*folder* is the home's, for the journals of all its gateway processes; None: in memory only.
    A journal takes at most *journal_bytes_max* of the disk.

    Every request that is opened must be closed, once. Let `sweep_dead` run beside it. *lane* is
    the number of its folder among them; None without one.
    """

    def __init__(
        self,
        sink: Sink,
        folder: Path | None = None,
        *,
        journal_bytes_max: int = JOURNAL_BYTES_MAX,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._sink = sink
        self._counts = UsageCounts()
        lane = _claim(folder) if folder is not None else None
        self.lane = lane.number if lane else None
        self._moments = Moments(lane.number if lane else LANE_OF_NONE, wall_clock)
        self._journal: Journal | None = None
        if lane is not None:
            self._journal = Journal(lane, bytes_max=journal_bytes_max)
        self._sweeper = Sweeper(folder, sink, wall_clock) if folder is not None else None
        self._closed: list[UsageRecord] = []  # not noted yet
        self._waiting: deque[_Batch] = deque()
        self._waiting_count = 0
        self._writer: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._closing = asyncio.Event()

    @property
    def counts(self) -> UsageCounts:
        """As they are now."""
        self._note()
        counts = self._counts
        counts.waiting = self._waiting_count
        counts.journal_failing = self._journal is None or self._journal.failing
        if self._journal is not None:
            counts.waiting += self._journal.spilled_count
        if self._sweeper is not None:
            counts.swept = self._sweeper.swept
        return counts

    def open(self, *, request_id: str, key_id: str, model: str, operation: str) -> Opened:
        """A request has been let in, and no worker knows of it yet."""
        opened = Opened(
            request_id=request_id,
            key_id=key_id,
            model=model,
            operation=operation,
            opened_at=self._moments.now(),
        )
        self._counts.opened += 1
        if self._journal is not None:
            self._journal.open(opened)
        return opened

    def close(self, record: UsageRecord) -> None:
        """How a request ended that was opened with this identity."""
        self._closed.append(record)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_NOTE_S, self._note)

    async def sweep_dead(self) -> None:
        """Records what dead processes of this home have left behind, until cancelled."""
        if self._sweeper is not None:
            await self._sweeper.run()

    async def settle(self) -> None:
        """Writes what waits, if that goes quickly."""
        self._note()
        if self._writer is None or self._writer.done():
            return
        self._closing.set()
        await asyncio.wait({self._writer}, timeout=_CLOSE_S_MAX)
        self._closing.clear()

    async def aclose(self) -> None:
        """Writes what waits, if that goes quickly; the journal keeps the rest for the next process
        of this home. What is not in it is dropped.
        """
        await self.settle()
        left = self.counts.waiting
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.wait({self._writer})
            self._writer = None
        lost = sum(len(batch.records) for batch in self._waiting if batch.segment is None)
        self._waiting.clear()
        self._waiting_count = 0
        self._drop(lost)
        if self._journal is not None:
            self._journal.end()
            self._journal = None
        if left:
            _log.warning("usage-left", message="the next gateway records it", left=left, lost=lost)

    def _note(self) -> None:
        """Takes what was closed to the journal, and into the queue to the registry."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        closed, self._closed = self._closed, []
        if not closed:
            return
        by_status = self._counts.closed
        for record in closed:
            by_status[record.status] = by_status.get(record.status, 0) + 1
        for start in range(0, len(closed), CLOSED_MAX):
            self._keep(closed[start : start + CLOSED_MAX])
        if self._writer is None or self._writer.done():
            self._writer = asyncio.get_running_loop().create_task(self._write())

    def _keep(self, records: list[UsageRecord]) -> None:
        """In memory, or on disk alone, or not."""
        segment, left = None, records
        if self._journal is not None:
            segment, left = self._journal.close(records)
        if self._waiting_count + len(records) <= WAITING_MAX:
            self._waiting.append(_Batch(records, segment))
            self._waiting_count += len(records)
            if segment is not None:
                segment.unrecorded += len(records)
            return
        if segment is not None:
            segment.spilled += len(records) - len(left)
        self._drop(len(left))

    def _drop(self, count: int) -> None:
        if count and not self._counts.dropped:
            _log.error("usage-lost", message="modelyard_usage_records_dropped_total counts them")
        self._counts.dropped += count

    async def _write(self) -> None:
        """Until nothing waits. It ends then, so a gateway at rest has no task for this."""
        pause_s = _FLUSH_S
        while self._waiting or (self._journal and self._journal.oldest_spilled()):
            await self._pause(pause_s)
            try:
                full = await self._write_batch()
                await self._write_spilled()
            except Exception as error:  # noqa: BLE001 - the sink is the registry; retry anything
                _log.warning("usage-delayed", waiting=self.counts.waiting, error=str(error)[:200])
                pause_s = min(max(pause_s, _FLUSH_S) * 2, _PAUSE_S_MAX)
                continue
            if self._journal is not None:
                await asyncio.to_thread(remove, self._journal.disposable())
            # No pause while there is a batch to write: more may come than one a pause.
            pause_s = 0.0 if full else _FLUSH_S

    async def _write_batch(self) -> bool:
        """What waits in memory; whether it was as much as one batch takes."""
        batches: list[_Batch] = []
        records: list[UsageRecord] = []
        for batch in self._waiting:
            if records and len(records) + len(batch.records) > BATCH_MAX:
                break
            batches.append(batch)
            records += batch.records
        if not records:
            return False
        full = len(batches) < len(self._waiting)
        await self._sink(records)
        for batch in batches:
            self._waiting.popleft()
            if batch.segment is not None:
                batch.segment.unrecorded -= len(batch.records)
        self._waiting_count -= len(records)
        self._counts.recorded += len(records)
        return full

    async def _write_spilled(self) -> None:
        """The oldest segment with what had no room in memory. What was in memory, too, is written
        again, which counts nothing twice.
        """
        segment = self._journal.oldest_spilled() if self._journal is not None else None
        if self._journal is None or segment is None:
            return
        self._journal.seal(segment)
        count = segment.spilled
        try:
            read = await asyncio.to_thread(read_segment, segment.path)
        except OSError as error:
            _log.error("usage-unreadable", path=str(segment.path), error=str(error))
            segment.spilled -= count
            self._drop(count)
            return
        await record_all(self._sink, read.closed)
        segment.spilled -= count
        self._counts.recorded += count

    async def _pause(self, pause_s: float) -> None:
        if not pause_s:
            return
        if self._closing.is_set():
            await asyncio.sleep(_CLOSING_PAUSE_S)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._closing.wait()


def _claim(folder: Path) -> Lane | None:
    try:
        return Lane.claim(folder)
    except (NoLaneError, OSError) as error:
        _log.error(
            "usage-journal-fails",
            message="usage does not survive a crash of this process; inference goes on",
            folder=str(folder),
            error=str(error),
        )
        return None
