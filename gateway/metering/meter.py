"""Requests as they are opened and closed, and the closed ones on their way to the registry.

A request never waits for the database. What is closed waits in memory, up to a bound, then on disk
alone, in the journal, up to another; beyond both it is dropped and counted.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from pathlib import Path

import structlog

from gateway.metering.counts import UsageCounts
from gateway.metering.entries import Closed, Opened
from gateway.metering.journal import Journal, Segment, read_segment, remove
from gateway.metering.lane import LANE_OF_NONE, Lane, Moments, NoLaneError
from gateway.metering.recorder import BATCH_MAX, Recorded, Recorder, Sink
from gateway.metering.sweeper import Sweeper
from registry.state import UsageRecord

WAITING_MAX = 20_000
JOURNAL_BYTES_MAX = 2**30
# How long the end of a request may be on its way to the journal: meanwhile its process's death
# makes it a swept one.
_FLUSH_JOURNAL_S = 0.02
_FLUSH_S = 1.0
_PAUSE_S_MAX = 10.0
_CLOSING_PAUSE_S = 0.02
_CLOSE_S_MAX = 5.0

_log = structlog.get_logger("gateway.metering")


class Metering:
    """*folder* is the home's, for the journals of all its gateway processes; None: in memory only.
    A journal takes at most *journal_bytes_max* of the disk.

    Every request that is opened must be closed, once. Let `sweep_dead` run beside it.
    """

    def __init__(
        self,
        sink: Sink,
        folder: Path | None = None,
        *,
        recorded: Recorded | None = None,
        journal_bytes_max: int = JOURNAL_BYTES_MAX,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._recorder = Recorder(sink, recorded)
        self._counts = UsageCounts()
        lane = _claim(folder) if folder is not None else None
        self._moments = Moments(lane.number if lane else LANE_OF_NONE, wall_clock)
        self._journal: Journal | None = None
        if lane is not None:
            self._journal = Journal(lane, bytes_max=journal_bytes_max, lost=self._drop)
        self._sweeper = Sweeper(folder, self._recorder, wall_clock) if folder is not None else None
        self._waiting: deque[tuple[UsageRecord, Segment | None]] = deque()
        self._writer: asyncio.Task[None] | None = None
        self._flush_timer: asyncio.TimerHandle | None = None
        self._closing = asyncio.Event()

    @property
    def counts(self) -> UsageCounts:
        """As they are now."""
        counts = self._counts
        counts.waiting = len(self._waiting)
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

    def close(self, opened: Opened, record: UsageRecord) -> None:
        """*record* says how *opened* ended; it has the same identity."""
        closed = self._counts.closed
        closed[record.status] = closed.get(record.status, 0) + 1
        journal, segment = self._journal, None
        if journal is not None:
            segment = journal.close(opened, record)
            if self._flush_timer is None:
                loop = asyncio.get_running_loop()
                self._flush_timer = loop.call_later(_FLUSH_JOURNAL_S, self._flush_journal)
        if len(self._waiting) < WAITING_MAX:
            self._waiting.append((record, segment))
            if segment is not None:
                segment.unrecorded += 1
        elif journal is not None and segment is not None:
            journal.spilled(segment)
        else:
            self._drop(1)
            return
        if self._writer is None or self._writer.done():
            self._writer = asyncio.get_running_loop().create_task(self._write())

    async def sweep_dead(self) -> None:
        """Records what dead processes of this home have left behind, until cancelled."""
        if self._sweeper is not None:
            await self._sweeper.run()

    async def settle(self) -> None:
        """Writes what waits, if that goes quickly."""
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
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.wait({self._writer})
            self._writer = None
        if self._flush_timer is not None:
            self._flush_timer.cancel()
            self._flush_timer = None
        left = len(self._waiting)
        lost = sum(segment is None for _, segment in self._waiting)
        self._waiting.clear()
        if lost:
            self._drop(lost)
        if self._journal is not None:
            left += self._journal.spilled_count
            self._journal.end()
            self._journal = None
        if left:
            _log.warning("usage-left", message="the next gateway records it", left=left, lost=lost)

    def _flush_journal(self) -> None:
        self._flush_timer = None
        if self._journal is not None:
            self._journal.flush()

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
        """What waits in memory; whether more than a batch did."""
        batch = list(islice(self._waiting, BATCH_MAX))
        if not batch:
            return False
        if self._journal is not None:
            self._journal.flush()  # a row that its journal does not know of would be swept, too
        await self._recorder([record for record, _ in batch])
        for _, segment in batch:
            self._waiting.popleft()
            if segment is not None:
                segment.unrecorded -= 1
        self._counts.recorded += len(batch)
        return len(batch) == BATCH_MAX

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
        records = [entry.record for entry in read.entries if isinstance(entry, Closed)]
        await self._recorder.in_batches(records)
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
