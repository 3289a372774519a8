"""Reads what there is to see, once for all who look at the same time. The shell.

The snapshot is the one of all in this process; demand is read every second, traffic every slot.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Protocol

from gateway.admin.live.engines import SPAN_S, Pace, pace
from gateway.admin.live.look import Look, Served
from gateway.admin.live.rates import Window
from gateway.admin.live.standing import Standing, standing
from gateway.snapshots import Snapshots
from pipelines.awake.wishes import Wish, wishes
from pipelines.engines.base import EngineMetrics, Sample
from registry.state import Lease, Proposal, Worker
from registry.traffic import Demand, Traffic

_DEMAND_S = 1.0
_COUNTS_S = 1.5
_SAMPLES_MAX = 16


class Source(Protocol):
    """The part of `registry.store.Store` that is looked at."""

    async def proposals(self) -> tuple[Proposal, ...]: ...

    async def demand(self) -> tuple[Demand, ...]: ...

    async def lease(self) -> Lease | None: ...

    async def traffic(self, since: float) -> tuple[Traffic, ...]: ...


class Seen:
    def __init__(
        self, store: Source, snapshots: Snapshots, clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._snapshots = snapshots
        self._clock = clock
        self._lock = asyncio.Lock()
        self._standing: Standing | None = None
        self._window = Window()
        self._served: Served | None = None
        self._wishes: Mapping[str, Wish] = {}
        self._lease: Lease | None = None
        self._told_at = float("-inf")
        self._look: Look | None = None

    async def look(self) -> Look:
        """Never older than what whoever asks has written before."""
        async with self._lock:
            now = self._clock()
            stands = await self._stand()
            served = await self._serve(stands, now)
            if not self._told_at <= now < self._told_at + _DEMAND_S:
                self._wishes = wishes(await self._store.demand(), now)
                self._lease = await self._store.lease()
                self._told_at = now
            elif self._look is not None and self._look.standing is stands:
                return self._look
            self._look = Look(
                at=now,
                standing=stands,
                served=served,
                wishes=self._wishes,
                lease=self._lease,
                before=self._look,
            )
            return self._look

    async def _stand(self) -> Standing:
        snapshot, stands = await self._snapshots.newest(), self._standing
        if stands is None or stands.snapshot is not snapshot:
            stands = standing(snapshot, await self._store.proposals(), stands)
            self._standing, self._served = stands, None
        return stands

    async def _serve(self, stands: Standing, now: float) -> Served:
        since = self._window.begin(now)
        if since is not None:
            self._window.take(since, now, await self._store.traffic(since))
        elif self._served is not None:
            return self._served
        self._served = Served(stands, self._window.by_model())
        return self._served


class EngineWatch:
    """What the engines of models count that somebody looks at: asked once, however many look."""

    def __init__(
        self,
        counts: Callable[[tuple[Worker, ...]], Awaitable[dict[str, EngineMetrics]]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._counts = counts
        self._clock = clock
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._asked_at: dict[str, float] = {}
        self._samples: dict[str, deque[Sample]] = {}

    async def paces(self, model: str, workers: Iterable[Worker]) -> dict[str, Pace]:
        """Of those *workers* of *model* that answer, by id."""
        workers = tuple(workers)
        asking = self._asking.get(model)
        if asking is None and not 0 <= self._clock() - self._asked_at.get(model, -1e9) < _COUNTS_S:
            asking = self._asking[model] = asyncio.create_task(self._ask(model, workers))
        if asking is not None:
            await asyncio.shield(asking)
        asked_at = self._asked_at.get(model)
        return {
            worker.id: pace(samples)
            for worker in workers
            if (samples := self._samples.get(worker.id)) and samples[-1].at == asked_at
        }

    async def _ask(self, model: str, workers: tuple[Worker, ...]) -> None:
        try:
            counts = await self._counts(workers)
            now = self._asked_at[model] = self._clock()
            for worker_id, metrics in counts.items():
                kept = self._samples.setdefault(worker_id, deque(maxlen=_SAMPLES_MAX))
                kept.append(Sample(at=now, metrics=metrics))
            self._forget(now)
        finally:
            del self._asking[model]

    def _forget(self, now: float) -> None:
        """Whom nobody has looked at for a while."""
        for name in [name for name, at in self._asked_at.items() if now - at > SPAN_S]:
            del self._asked_at[name]
        for worker_id, kept in list(self._samples.items()):
            if now - kept[-1].at > SPAN_S:
                del self._samples[worker_id]
