"""What ready workers count, read from them every few seconds and kept for a while.

Memory of this process alone: after a restart it fills again within seconds.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping

import httpx
import structlog

from pipelines.engines.base import EngineMetrics, Sample
from pipelines.probe import ProbeError, scrape
from registry.state import Phase, Worker

__all__ = ["Measured", "Sample"]

log = structlog.get_logger()

SCRAPE_EVERY_S = 5.0
SCRAPE_S_MAX = 2.0
SAMPLES_KEPT_S = 120.0
SCRAPES_MAX = 16  # at once
# Says that there is nothing to read, so that it is asked less often.
_NO_METRICS = frozenset({401, 403, 404, 405, 501})
NO_METRICS_EVERY_S = 60.0


class Measured:
    """One scrape at a time per worker, as tasks of the caller's group."""

    def __init__(
        self, client: httpx.AsyncClient, tasks: asyncio.TaskGroup, clock: Callable[[], float]
    ) -> None:
        self._client = client
        self._tasks = tasks
        self._clock = clock
        self._samples: dict[str, deque[Sample]] = {}  # of ready workers, oldest first
        # When ready workers were last seen at work, as far as they were.
        self.worked_at: dict[str, float] = {}
        self._due_at: dict[str, float] = {}
        self._running: set[str] = set()
        self._room = asyncio.Semaphore(SCRAPES_MAX)

    def look(self, workers: Iterable[Worker]) -> None:
        """Starts every scrape that is due, and forgets who is not ready; returns at once."""
        now = self._clock()
        ready = {worker.id: worker for worker in workers if worker.phase is Phase.READY}
        for worker_id in self._due_at.keys() - ready.keys():
            del self._due_at[worker_id]
            self._samples.pop(worker_id, None)
            self.worked_at.pop(worker_id, None)
        for worker in ready.values():
            wait_s = self._due_at.get(worker.id, now) - now
            # Never longer than it may be, though the clock was set back.
            is_due = wait_s <= 0 or wait_s > NO_METRICS_EVERY_S
            if is_due and worker.id not in self._running:
                self._due_at[worker.id] = now + SCRAPE_EVERY_S
                self._running.add(worker.id)
                self._tasks.create_task(self._scrape(worker))

    def samples(self, worker_id: str) -> tuple[Sample, ...]:
        """Those of the last `SAMPLES_KEPT_S`, oldest first; none of a worker that is not ready, or
        shows no metrics.
        """
        since = self._clock() - SAMPLES_KEPT_S
        return tuple(one for one in self._samples.get(worker_id, ()) if one.at >= since)

    def every(self) -> Mapping[str, tuple[Sample, ...]]:
        """`samples` by worker."""
        return {worker_id: self.samples(worker_id) for worker_id in self._samples}

    async def _scrape(self, worker: Worker) -> None:
        try:
            async with self._room:
                metrics = await scrape(self._client, worker, SCRAPE_S_MAX)
        except ProbeError as error:
            log.debug("no metrics", worker=worker.id, error=str(error))
            if error.status in _NO_METRICS and worker.id in self._due_at:
                self._due_at[worker.id] = self._clock() + NO_METRICS_EVERY_S
            return
        finally:
            self._running.discard(worker.id)
        if worker.id in self._due_at:  # else it went meanwhile
            now = self._clock()
            kept = self._samples.setdefault(worker.id, deque())
            if metrics.requests_running + metrics.requests_waiting:
                self.worked_at[worker.id] = now
            elif kept and _counts_more(metrics, kept[-1].metrics):
                self.worked_at[worker.id] = kept[-1].at  # since then, and it is over
            kept.append(Sample(at=now, metrics=metrics))
            while kept[0].at < now - SAMPLES_KEPT_S:
                kept.popleft()


def _counts_more(after: EngineMetrics, before: EngineMetrics) -> bool:
    return (after.prompt_tokens, after.generation_tokens) > (
        before.prompt_tokens,
        before.generation_tokens,
    )
