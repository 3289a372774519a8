"""Takes over the journals of dead processes: what they had closed is recorded as it was, what they
had open as swept. Then the journal goes. Done twice, it counts nothing twice.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path

import structlog

from gateway.metering.entries import Identity, Opened, identity
from gateway.metering.journal import read_segment, remove
from gateway.metering.lane import Lane, used
from gateway.metering.recorder import Sink, record_all
from registry.usage import UsageRecord, UsageStatus

SWEEP_S = 3.0
_PAUSE_S_MAX = 30.0

_log = structlog.get_logger("gateway.metering")


class Sweeper:
    """*root* holds the journals, *wall_clock* gives seconds of the epoch. *swept* are requests."""

    def __init__(self, root: Path, sink: Sink, wall_clock: Callable[[], float]) -> None:
        self._root = root
        self._sink = sink
        self._wall_clock = wall_clock
        self.swept = 0

    async def run(self) -> None:
        """Every few seconds, until cancelled."""
        pause_s = SWEEP_S
        while True:
            done = await self.sweep()
            pause_s = SWEEP_S if done else min(2 * pause_s, _PAUSE_S_MAX)
            await asyncio.sleep(pause_s)

    async def sweep(self) -> bool:
        """Once; whether nothing is left for the next time but what living processes have."""
        done = True
        for folder in await asyncio.to_thread(used, self._root):
            try:
                await self._try(folder)
            except Exception as error:  # noqa: BLE001 - the registry, or the disk
                _log.warning("usage-sweep-delayed", folder=str(folder), error=str(error)[:200])
                done = False
        return done

    async def _try(self, folder: Path) -> None:
        lane = Lane.take(folder)
        if lane is None:
            return
        try:
            await self._take_over(lane)
        finally:
            lane.release()

    async def _take_over(self, lane: Lane) -> None:
        paths = await asyncio.to_thread(lane.segments)
        open_: dict[Identity, Opened] = {}
        closed = 0
        for path in paths:
            read = await asyncio.to_thread(read_segment, path)
            for entry in read.entries:
                if isinstance(entry, Opened):
                    open_[entry.identity] = entry
                else:
                    for record in entry.records:
                        open_.pop(identity(record), None)
            await record_all(self._sink, read.closed)
            closed += len(read.closed)
        now = self._wall_clock()
        await record_all(self._sink, [_swept(opened, now) for opened in open_.values()])
        # Not before: until now, what is open was known to no one else.
        await asyncio.to_thread(remove, paths)
        self.swept += len(open_)
        _log.warning("usage-swept", lane=lane.number, closed=closed, swept=len(open_))


def _swept(opened: Opened, now: float) -> UsageRecord:
    return UsageRecord(
        request_id=opened.request_id,
        key_id=opened.key_id,
        model=opened.model,
        variant="",
        revision=0,
        mode="",
        status=UsageStatus.SWEPT,
        prompt_tokens=0,
        completion_tokens=0,
        opened_at=opened.opened_at,
        closed_at=max(now, opened.opened_at),
        operation=opened.operation,
    )
