"""Usage records on their way to the registry: a bounded queue, written in batches.

A request never waits for the database. If the registry takes nothing for a while the records
wait here, up to a bound; beyond it they are dropped and counted.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from itertools import islice

import structlog

from registry.state import UsageRecord

Sink = Callable[[Sequence[UsageRecord]], Awaitable[None]]

WAITING_MAX = 50_000
BATCH_MAX = 2_000
_FLUSH_S = 1.0
_PAUSE_S_MAX = 30.0
_CLOSING_PAUSE_S = 0.02
_CLOSE_S_MAX = 5.0

_log = structlog.get_logger("gateway.metering")


class Metering:
    """*dropped* is called with how many records were lost."""

    def __init__(self, sink: Sink, dropped: Callable[[int], None]) -> None:
        self._sink = sink
        self._dropped = dropped
        self._waiting: deque[UsageRecord] = deque()
        self._writer: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    def add(self, record: UsageRecord) -> None:
        if len(self._waiting) >= WAITING_MAX:
            self._dropped(1)
            return
        self._waiting.append(record)
        if self._writer is None or self._writer.done():
            self._writer = asyncio.get_running_loop().create_task(self._write())

    async def aclose(self) -> None:
        """Writes what waits, if that goes quickly; what is left is counted as dropped."""
        self._closing.set()
        if self._writer is not None:
            await asyncio.wait({self._writer}, timeout=_CLOSE_S_MAX)
            self._writer.cancel()
            await asyncio.wait({self._writer})
        if self._waiting:
            _log.error("usage-lost", records=len(self._waiting))
            self._dropped(len(self._waiting))
            self._waiting.clear()

    async def _write(self) -> None:
        """Until nothing waits. It ends then, so a gateway at rest has no task for this."""
        pause_s = _FLUSH_S
        while self._waiting:
            await self._pause(pause_s)
            batch = list(islice(self._waiting, BATCH_MAX))
            try:
                await self._sink(batch)
            except Exception as error:  # noqa: BLE001 - the sink is the registry; retry anything
                _log.warning("usage-delayed", waiting=len(self._waiting), error=str(error)[:200])
                pause_s = min(max(pause_s, _FLUSH_S) * 2, _PAUSE_S_MAX)
                continue
            for _ in batch:
                self._waiting.popleft()
            # No pause while there is a batch to write: more may come than one a pause.
            pause_s = _FLUSH_S if len(self._waiting) < BATCH_MAX else 0.0

    async def _pause(self, pause_s: float) -> None:
        if not pause_s:
            return
        if self._closing.is_set():
            await asyncio.sleep(_CLOSING_PAUSE_S)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._closing.wait()
