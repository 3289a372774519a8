"""Decides when a worker is ready, and when a ready one no longer is.

*Ready* means one real generation by the worker itself; for a worker of a P/D pair also one
generation over a pair whose KV transfer the decode engine counted. Nothing less is believed: a
front end answers its health route long before, and long after, its engine can generate.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable

import httpx
import structlog

from pipelines.probe import ProbeError, check_generation, check_health, check_transfer
from registry.spec import Role
from registry.state import Phase, Worker

log = structlog.get_logger()

HEALTH_EVERY_S = 10.0
# Long, because a busy CPU engine answers late; a dead one is seen by its exit, not by this.
UNHEALTHY_MAX_S = 90.0
_COUNTERPART = {Role.PREFILL: Role.DECODE, Role.DECODE: Role.PREFILL}

SetWorker = Callable[[str, Phase, str], Awaitable[None]]


class Readiness:
    """Runs the probes. One of each kind at a time per worker, as tasks of the caller's group."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        tasks: asyncio.TaskGroup,
        set_worker: SetWorker,
        clock: Callable[[], float],
    ) -> None:
        self._client = client
        self._tasks = tasks
        self._set_worker = set_worker
        self._clock = clock
        self._running: set[str] = set()  # keys of the probes under way
        self._generates: set[str] = set()  # starting workers of a pair that generate alone
        self._healthy_at: dict[str, float] = {}
        self._health_checked_at: dict[str, float] = {}

    def look(self, workers: tuple[Worker, ...]) -> None:
        """Starts every probe that is due; returns at once."""
        known = {worker.id for worker in workers}
        self._generates &= known
        for worker_id in set(self._healthy_at) - known:
            self._healthy_at.pop(worker_id, None)
            self._health_checked_at.pop(worker_id, None)
        for worker in workers:
            if worker.phase is Phase.STARTING and worker.url:
                self._look_at_starting(worker, workers)
            elif worker.phase is Phase.READY:
                self._look_at_ready(worker)

    def unhealthy(self, workers: Iterable[Worker]) -> list[Worker]:
        """Ready workers whose health route has not answered for UNHEALTHY_MAX_S."""
        now = self._clock()
        return [
            worker
            for worker in workers
            if worker.phase is Phase.READY
            and now - self._healthy_at.get(worker.id, now) > UNHEALTHY_MAX_S
        ]

    def _look_at_starting(self, worker: Worker, workers: tuple[Worker, ...]) -> None:
        if worker.plan.role is Role.UNIFIED or worker.id not in self._generates:
            self._spawn(worker.id, self._check_alone(worker))
        elif other := self._counterpart(worker, workers):
            pair = (worker, other) if worker.plan.role is Role.PREFILL else (other, worker)
            self._spawn(f"{pair[0].id}+{pair[1].id}", self._check_pair(*pair))

    def _counterpart(self, worker: Worker, workers: tuple[Worker, ...]) -> Worker | None:
        others = [
            other
            for other in workers
            if other.plan.role is _COUNTERPART[worker.plan.role]
            and other.plan.model == worker.plan.model
            and other.plan.variant == worker.plan.variant
            and (other.phase is Phase.READY or other.id in self._generates)
        ]
        others.sort(key=lambda other: (other.phase is not Phase.READY, other.id))
        return others[0] if others else None

    def _look_at_ready(self, worker: Worker) -> None:
        now = self._clock()
        self._healthy_at.setdefault(worker.id, now)
        if now - self._health_checked_at.get(worker.id, 0.0) >= HEALTH_EVERY_S:
            self._health_checked_at[worker.id] = now
            self._spawn(worker.id, self._check_health(worker))

    def _spawn(self, key: str, probe: Awaitable[None]) -> None:
        if key in self._running:
            probe.close()  # type: ignore[attr-defined]
            return
        self._running.add(key)
        self._tasks.create_task(self._run(key, probe))

    async def _run(self, key: str, probe: Awaitable[None]) -> None:
        try:
            await probe
        except ProbeError as error:
            log.debug("probe failed", probe=key, error=str(error))
        finally:
            self._running.discard(key)

    async def _check_alone(self, worker: Worker) -> None:
        await check_health(self._client, worker)
        await check_generation(self._client, worker)
        if worker.plan.role is Role.UNIFIED:
            await self._set_worker(worker.id, Phase.READY, "")
            return
        self._generates.add(worker.id)
        other = _COUNTERPART[worker.plan.role]
        await self._set_worker(
            worker.id, Phase.STARTING, f"generates alone, waits for a KV transfer with {other}"
        )

    async def _check_pair(self, prefill: Worker, decode: Worker) -> None:
        try:
            await check_transfer(self._client, prefill, decode)
        except ProbeError as error:
            for worker in (prefill, decode):
                if worker.phase is Phase.STARTING:
                    await self._set_worker(worker.id, Phase.STARTING, str(error))
            raise
        for worker in (prefill, decode):
            if worker.phase is Phase.STARTING:
                await self._set_worker(worker.id, Phase.READY, "")

    async def _check_health(self, worker: Worker) -> None:
        await check_health(self._client, worker)
        self._healthy_at[worker.id] = self._clock()
