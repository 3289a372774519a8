"""The end of workers: out of traffic, idle, stopped; and of those that never get ready."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import httpx

from pipelines.cluster.base import Cluster
from pipelines.commands import Commands
from pipelines.probe import ProbeError, scrape
from pipelines.readiness import Readiness
from registry.state import Phase, Worker
from registry.store import Store

STARTUP_MAX_S = 1800.0
# A worker leaves traffic for at least this long before it may stop: every gateway has then
# swapped its routing table.
DRAIN_MIN_S = 2.0
# A drained worker that still generates is stopped all the same after this long,
DRAIN_MAX_S = 600.0
# or after this long when a model of a higher priority waits for its place.
EVICTION_MAX_S = 120.0
_ASKED_AT_ONCE = 32


async def is_idle(client: httpx.AsyncClient, worker: Worker) -> bool:
    """Whether the worker has nothing to do, by its own word; so, too, where it says nothing."""
    if not worker.url or worker.plan.external:
        return True  # of an external one, others may use it too: its counts say nothing of us
    try:
        metrics = await scrape(client, worker, timeout_s=1.0)
    except ProbeError:
        return True  # it serves nobody
    return metrics.requests_running + metrics.requests_waiting == 0


async def idle_among(client: httpx.AsyncClient, workers: Sequence[Worker]) -> set[str]:
    """The ids of those that are idle. A few at once: who had to wait for a connection would not
    have answered in time, and would be taken for idle.
    """
    found: set[str] = set()
    for first in range(0, len(workers), _ASKED_AT_ONCE):
        few = workers[first : first + _ASKED_AT_ONCE]
        idle = await asyncio.gather(*(is_idle(client, worker) for worker in few))
        found.update(
            worker.id for worker, has_nothing in zip(few, idle, strict=True) if has_nothing
        )
    return found


class Drains:
    """Stops what is drained, and gives up what never gets ready or no longer answers."""

    def __init__(
        self,
        store: Store,
        cluster: Cluster,
        client: httpx.AsyncClient,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._cluster = cluster
        self._client = client
        self._clock = clock
        self._since: dict[str, float] = {}  # when a draining worker was first seen so

    async def stop_drained(
        self, workers: Iterable[Worker], hurried: Mapping[str, str], commands: Commands
    ) -> None:
        """*hurried*: by worker, the model that waits for its place at a higher priority."""
        now = self._clock()
        draining = [worker for worker in workers if worker.phase is Phase.DRAINING]
        self._since = {worker.id: self._since.get(worker.id, now) for worker in draining}
        due = [worker for worker in draining if now - self._since[worker.id] >= DRAIN_MIN_S]
        idle = await idle_among(self._client, due)
        for worker in due:
            drained_s = now - self._since[worker.id]
            if worker.id in idle:
                await self.stop(worker, worker.reason or "drained", commands)
            elif drained_s > DRAIN_MAX_S:
                await self._cut(worker, DRAIN_MAX_S, commands)
            elif worker.id in hurried and drained_s > EVICTION_MAX_S:
                await self._cut(worker, EVICTION_MAX_S, commands)

    async def _cut(self, worker: Worker, after_s: float, commands: Commands) -> None:
        reason = f"{worker.reason or 'drained'}; still busy after {after_s:.0f} s"
        await self.stop(worker, reason, commands)

    async def stop_hopeless(
        self, workers: tuple[Worker, ...], readiness: Readiness, commands: Commands
    ) -> None:
        now = self._clock()
        for worker in workers:
            if worker.phase is Phase.STARTING and now - worker.begun_at > STARTUP_MAX_S:
                await self._give_up(worker, f"not ready after {STARTUP_MAX_S:.0f} s", commands)
        for worker in readiness.unhealthy(workers):
            reason = f"does not answer: {readiness.complaint(worker)}"
            await self._give_up(worker, reason, commands)

    async def _give_up(self, worker: Worker, reason: str, commands: Commands) -> None:
        if worker.plan.external:
            await self._store.set_worker(worker.id, Phase.FAILED, reason=reason)
        else:
            await self.stop(worker, reason, commands)

    async def stop(self, worker: Worker, reason: str, commands: Commands) -> None:
        if worker.plan.external:  # we do not stop what we have not started
            await self._store.set_worker(worker.id, Phase.STOPPED, reason=reason)
            return
        await self._store.set_worker(worker.id, Phase.STOPPING, reason=reason)
        call = partial(self._cluster.stop, worker.node, worker.id)
        commands.ask(worker.node, worker.id, "stop", call)
