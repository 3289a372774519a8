"""The registry's snapshot, read once for all in this process who want it: on a large fleet it takes
most of a second.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

from registry.state import Snapshot

# Events are hints to look sooner; this is how long anything can stay unseen that leaves none, as
# what is in use of devices.
WHOLE_S = 10.0


class Source(Protocol):
    """The part of `registry.store.Store` that is read."""

    async def version(self) -> int: ...

    async def snapshot(self) -> Snapshot: ...


class Snapshots:
    def __init__(self, store: Source, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._lock = asyncio.Lock()
        self._newest: Snapshot | None = None
        self._read_at = float("-inf")

    async def newest(self) -> Snapshot:
        """As new as the registry's version; the very one that was read before, where nothing has
        changed since.
        """
        async with self._lock:
            version, now = await self._store.version(), self._clock()
            known = self._newest
            fresh = self._read_at <= now < self._read_at + WHOLE_S
            if known is not None and fresh and known.version == version:
                return known
            self._newest = await self._store.snapshot()
            self._read_at = now
            return self._newest
