"""Decides when a worker is ready, and when a ready one no longer is.

*Ready* means one real generation by the worker itself; for a worker of a P/D pair also one
generation over a pair whose KV transfer the engine counted (`probe.check_transfer` says
what stands in for that where an external worker counts nothing). Nothing less is believed: a front
end answers its health route long before, and long after, its engine can generate.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable

import httpx
import msgspec
import structlog

from pipelines.probe import ProbeError, check_generation, check_health, check_transfer
from registry.errors import RegistryError
from registry.spec import Locality, Role
from registry.state import Phase, Worker

log = structlog.get_logger()

HEALTH_EVERY_S = 10.0
# Long, because a busy CPU engine answers late; a dead one is seen by its exit, not by this.
UNHEALTHY_MAX_S = 90.0
# Between two probes of an external worker that is not ready: its owner may pay for each of them.
EXTERNAL_PROBE_EVERY_S = 5.0
# An external worker that answers this ends at once: the next one reads its key anew.
_KEY_REFUSED = frozenset({401, 403})
_COUNTERPART = {Role.PREFILL: Role.DECODE, Role.DECODE: Role.PREFILL}

SetWorker = Callable[[str, Phase, str], Awaitable[None]]


class _Health(msgspec.Struct):
    """What is remembered of a ready worker's health route."""

    well_at: float
    checked_at: float = 0.0
    complaint: str = ""  # why the last check failed


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
        self._health: dict[str, _Health] = {}  # of ready workers
        self._asked_at: dict[str, float] = {}  # of external workers, by the probe's key

    def look(self, workers: tuple[Worker, ...]) -> None:
        """Starts every probe that is due; returns at once."""
        known = {worker.id for worker in workers}
        self._generates &= known
        for worker_id in self._health.keys() - known:
            del self._health[worker_id]
        for key in [key for key in self._asked_at if not known.issuperset(key.split("+"))]:
            del self._asked_at[key]
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
            and worker.id in self._health
            and now - self._health[worker.id].well_at > UNHEALTHY_MAX_S
        ]

    def complaint(self, worker: Worker) -> str:
        """Why the last health check of a ready worker failed; "" if it did not."""
        return self._health[worker.id].complaint if worker.id in self._health else ""

    def _look_at_starting(self, worker: Worker, workers: tuple[Worker, ...]) -> None:
        if worker.plan.role is Role.UNIFIED or worker.id not in self._generates:
            if self._is_due(worker, worker.id):
                self._spawn(worker.id, self._check_alone(worker))
        elif other := self._counterpart(worker, workers):
            pair = (worker, other) if worker.plan.role is Role.PREFILL else (other, worker)
            key = f"{pair[0].id}+{pair[1].id}"
            if self._is_due(worker, key):
                self._spawn(key, self._check_pair(*pair))

    def _counterpart(self, worker: Worker, workers: tuple[Worker, ...]) -> Worker | None:
        others = [
            other
            for other in workers
            if other.plan.role is _COUNTERPART[worker.plan.role]
            and other.plan.model == worker.plan.model
            and other.plan.variant == worker.plan.variant
            and other.plan.engine is worker.plan.engine
            and (other.phase is Phase.READY or other.id in self._generates)
            # A pair that must be near moves as one: its new half has no use for the old one.
            and (other.departing == worker.departing or worker.plan.locality is Locality.PREFER)
        ]
        # While the model changes, a pair is one of equal revision; a role that was scaled joins
        # workers of an older one.
        others.sort(
            key=lambda other: (
                other.plan.revision != worker.plan.revision,
                other.phase is not Phase.READY,
                other.id,
            )
        )
        return others[0] if others else None

    def _is_due(self, worker: Worker, key: str) -> bool:
        """Ours are probed as soon as the last probe is over, external ones less eagerly."""
        if not worker.plan.external:
            return True
        now = self._clock()
        if key in self._asked_at and now - self._asked_at[key] < EXTERNAL_PROBE_EVERY_S:
            return False
        self._asked_at[key] = now
        return True

    def _look_at_ready(self, worker: Worker) -> None:
        now = self._clock()
        health = self._health.setdefault(worker.id, _Health(well_at=now))
        if now - health.checked_at >= HEALTH_EVERY_S:
            health.checked_at = now
            self._spawn(worker.id, self._check_health(worker, health))

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
        except RegistryError as error:
            # The next look probes again; an error here would end the caller's whole group.
            log.warning("what a probe saw is not recorded", probe=key, error=str(error))
        finally:
            self._running.discard(key)

    async def _check_alone(self, worker: Worker) -> None:
        try:
            await check_health(self._client, worker)
            await check_generation(self._client, worker)
        except ProbeError as error:
            if worker.plan.external:  # of one of ours, its start tells more
                phase = Phase.FAILED if error.status in _KEY_REFUSED else Phase.STARTING
                await self._set_worker(worker.id, phase, str(error))
            raise
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
            note = await check_transfer(self._client, prefill, decode)
        except ProbeError as error:
            for worker in (prefill, decode):
                if worker.phase is Phase.STARTING:
                    await self._set_worker(worker.id, Phase.STARTING, str(error))
            raise
        for worker in (prefill, decode):
            if worker.phase is Phase.STARTING:
                await self._set_worker(worker.id, Phase.READY, note)

    async def _check_health(self, worker: Worker, health: _Health) -> None:
        try:
            await check_health(self._client, worker)
        except ProbeError as error:
            health.complaint = str(error)
            if worker.plan.external and error.status in _KEY_REFUSED:
                await self._set_worker(worker.id, Phase.FAILED, str(error))
            raise
        health.well_at, health.complaint = self._clock(), ""
