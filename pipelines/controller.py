"""The controller: observes the workers, reconciles, places, starts, probes, drains and stops.

The shell around the pure parts. Level-based: each turn looks at everything anew, so a missed
event, a restart or a kill at any point costs time, never truth. `python -m pipelines.controller`.
"""

import asyncio
import signal
import time
from collections.abc import Callable
from contextlib import aclosing, suppress

import httpx
import structlog
from filelock import FileLock, Timeout

from pipelines.cluster.base import Cluster, ClusterError, Observation, Sighting
from pipelines.cluster.open import open_cluster
from pipelines.engines import ENGINES
from pipelines.external import TokenError, read_token
from pipelines.parent import follow_parent
from pipelines.probe import ProbeError, probe_client, scrape
from pipelines.readiness import Readiness
from pipelines.reconciler import condition, make_room, reconcile
from pipelines.scheduler import Refusal, place
from registry.errors import NotFoundError, PlanConflictError
from registry.logs import configure_logs
from registry.settings import Settings, load
from registry.state import (
    ENDED_PHASES,
    DeviceKind,
    Phase,
    PlannedGang,
    Snapshot,
    Worker,
    WorkerPlan,
)
from registry.store import Store

log = structlog.get_logger()

TURN_S = 0.5
INVENTORY_EVERY_S = 5.0
STARTUP_MAX_S = 1800.0
# A worker leaves traffic for at least this long before it may stop: every gateway has then
# swapped its routing table.
DRAIN_MIN_S = 2.0
# A drained worker that still generates is stopped all the same after this long.
DRAIN_MAX_S = 600.0
_COMING_UP = frozenset({Phase.ASSIGNED, Phase.PREPARING, Phase.STARTING})


def runtime_of(plan: WorkerPlan, kind: DeviceKind) -> str:
    """The runtime a plan gets on a kind of device: its own wish, or the engine's default."""
    return plan.runtime or ENGINES[plan.engine].default_runtime(kind)


class Controller:
    """One per fleet. Its memory holds nothing that a restart would miss for long."""

    def __init__(
        self,
        store: Store,
        cluster: Cluster,
        client: httpx.AsyncClient,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._cluster = cluster
        self._client = client
        self._clock = clock
        self._inventory_at = 0.0
        self._draining_since: dict[str, float] = {}
        self._refused: dict[str, str] = {}  # model → why its missing workers have no place

    async def run(self) -> None:
        """Turns until cancelled. Workers are left as they are."""
        async with asyncio.TaskGroup() as tasks:
            readiness = Readiness(self._client, tasks, self._set_worker, self._clock)
            while True:
                try:
                    await self.turn(readiness)
                except ClusterError as error:
                    log.warning("the cluster refused", error=str(error))
                except Exception:
                    # The next turn looks at everything anew; ending here would end care for all.
                    log.exception("turn failed")
                await asyncio.sleep(TURN_S)

    async def turn(self, readiness: Readiness) -> None:
        await self._take_inventory()
        await self._record(await self._cluster.observe(), await self._store.snapshot())
        snapshot = await self._store.snapshot()
        decision = reconcile(snapshot, self._clock())
        for worker_id in decision.drain:
            await self._store.set_worker(worker_id, Phase.DRAINING, reason="no longer wanted")
        for plan in decision.reach:
            await self._reach(plan)
        proposal = place(snapshot, decision.start, runtime_of)
        for gang in proposal.placed:
            await self._commit(gang, snapshot)
        await self._answer_refusals(snapshot, proposal.refused)
        snapshot = await self._store.snapshot()
        await self._stop_drained(snapshot.workers)
        await self._stop_hopeless(snapshot.workers, readiness)
        readiness.look(snapshot.workers)
        await self._tell_conditions(snapshot, decision.waiting)

    async def _take_inventory(self) -> None:
        now = self._clock()
        if now - self._inventory_at < INVENTORY_EVERY_S:
            return
        await self._store.report_nodes(await self._cluster.inventory())
        await self._store.forget_ended()
        self._inventory_at = now

    async def _record(self, sighting: Sighting, snapshot: Snapshot) -> None:
        """What the machines say becomes what the registry says; of external workers they say
        nothing.
        """
        live = {worker.id: worker for worker in snapshot.workers if not worker.plan.external}
        seen = set()
        for observation in sighting.workers:
            seen.add(observation.worker_id)
            worker = live.get(observation.worker_id)
            if worker is not None:
                await self._record_one(worker, observation)
            elif observation.phase in ENDED_PHASES:
                await self._cluster.forget(observation.node, observation.worker_id)
            else:
                log.warning(
                    "stops a worker the registry does not know", worker=observation.worker_id
                )
                await self._cluster.stop(observation.node, observation.worker_id)
        for worker in live.values():
            if worker.id not in seen and worker.node in sighting.nodes:
                await self._record_unseen(worker, snapshot)

    async def _record_one(self, worker: Worker, observation: Observation) -> None:
        phase, reason = observation.phase, observation.reason
        if phase in ENDED_PHASES:
            await self._store.set_worker(worker.id, phase, reason=reason)
            await self._cluster.forget(worker.node, worker.id)
            self._draining_since.pop(worker.id, None)
        elif phase is Phase.STOPPING:
            await self._store.set_worker(worker.id, phase, reason=reason)
        elif worker.phase in _COMING_UP and (
            worker.phase is not phase or worker.url != observation.url or phase is Phase.PREPARING
        ):
            await self._store.set_worker(
                worker.id,
                phase,
                reason=reason,
                url=observation.url,
                events_url=observation.events_url,
                kv_port=observation.kv_port,
            )

    async def _record_unseen(self, worker: Worker, snapshot: Snapshot) -> None:
        if worker.phase is Phase.ASSIGNED:
            # Claimed, but never started, or only just: starting is idempotent.
            await self._start(worker, snapshot)
        else:
            await self._store.set_worker(
                worker.id, Phase.FAILED, reason=f"node {worker.node} knows nothing of it"
            )

    async def _start(self, worker: Worker, snapshot: Snapshot) -> None:
        held = {claim.device_id for claim in snapshot.claims if claim.worker_id == worker.id}
        devices = tuple(device for device in snapshot.devices if device.id in held)
        if devices:  # else the snapshot is older than the claim: next turn
            await self._cluster.start(worker, devices)

    async def _commit(self, gang: PlannedGang, snapshot: Snapshot) -> None:
        try:
            workers = await self._store.commit_gang(gang)
        except PlanConflictError as error:
            log.info("plan overtaken, tries again", error=str(error))
            return
        devices = {device.id: device for device in snapshot.devices}
        for worker, planned in zip(workers, gang.workers, strict=True):
            assert worker.plan == planned.plan, worker.id
            held = tuple(devices[claim.device_id] for claim in planned.claims)
            await self._cluster.start(worker, held)

    async def _reach(self, plan: WorkerPlan) -> None:
        """Takes up an external worker; from here on the probes decide. One whose key cannot be
        read ends at once, so that the back-off of failed workers is its too.
        """
        assert plan.external is not None, plan.slot
        token, failure = "", ""
        try:
            token = await asyncio.to_thread(read_token, plan.external.token_file)
        except TokenError as error:
            failure = str(error)
        try:
            await self._store.admit_external(plan, token=token, failure=failure)
        except PlanConflictError as error:
            log.info("plan overtaken, tries again", error=str(error))

    async def _answer_refusals(self, snapshot: Snapshot, refusals: tuple[Refusal, ...]) -> None:
        self._refused = {refusal.plan.model: refusal.sentence for refusal in refusals}
        for refusal in refusals:
            for worker_id in make_room(snapshot, refusal.gang):
                await self._store.set_worker(
                    worker_id, Phase.DRAINING, reason="makes room for its new revision"
                )

    async def _stop_drained(self, workers: tuple[Worker, ...]) -> None:
        now = self._clock()
        for worker in workers:
            if worker.phase is not Phase.DRAINING:
                continue
            since = self._draining_since.setdefault(worker.id, now)
            if now - since >= DRAIN_MIN_S and await self._is_idle(worker, now - since):
                await self._stop(worker, "drained")

    async def _is_idle(self, worker: Worker, drained_s: float) -> bool:
        if not worker.url or worker.plan.external or drained_s > DRAIN_MAX_S:
            return True  # of an external one, others may use it too: its counts say nothing of us
        try:
            metrics = await scrape(self._client, worker, timeout_s=1.0)
        except ProbeError:
            return True  # it serves nobody
        return metrics.requests_running + metrics.requests_waiting == 0

    async def _stop_hopeless(self, workers: tuple[Worker, ...], readiness: Readiness) -> None:
        now = self._clock()
        for worker in workers:
            if worker.phase is Phase.STARTING and now - worker.created_at > STARTUP_MAX_S:
                await self._give_up(worker, f"not ready after {STARTUP_MAX_S:.0f} s")
        for worker in readiness.unhealthy(workers):
            await self._give_up(worker, f"does not answer: {readiness.complaint(worker)}")

    async def _give_up(self, worker: Worker, reason: str) -> None:
        if worker.plan.external:
            await self._store.set_worker(worker.id, Phase.FAILED, reason=reason)
        else:
            await self._stop(worker, reason)

    async def _stop(self, worker: Worker, reason: str) -> None:
        if worker.plan.external:  # we do not stop what we have not started
            await self._store.set_worker(worker.id, Phase.STOPPED, reason=reason)
            self._draining_since.pop(worker.id, None)
            return
        await self._store.set_worker(worker.id, Phase.STOPPING, reason=reason)
        await self._cluster.stop(worker.node, worker.id)

    async def _set_worker(self, worker_id: str, phase: Phase, reason: str) -> None:
        await self._store.set_worker(worker_id, phase, reason=reason)

    async def _tell_conditions(self, snapshot: Snapshot, waiting: dict[str, str]) -> None:
        for model in snapshot.models:
            if model.deleted:
                continue
            mine = [worker for worker in snapshot.workers if worker.plan.model == model.name]
            why = waiting.get(model.name) or self._refused.get(model.name, "")
            text = condition(model, mine, why)
            if text != model.condition:
                with suppress(NotFoundError):  # deleted since
                    await self._store.set_condition(model.name, text)


async def serve(settings: Settings) -> None:
    """Runs the controller until SIGTERM. Raises Timeout when another one leads."""
    lock = FileLock(settings.home / "controller.lock", timeout=0)
    with lock:
        store = await Store.open(settings.database)
        try:
            async with aclosing(open_cluster(settings)) as cluster, probe_client() as client:
                await Controller(store, cluster, client).run()
        finally:
            await asyncio.shield(store.aclose())


async def _main(settings: Settings) -> None:
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    try:
        await serve(settings)
    except asyncio.CancelledError:
        log.info("controller stopped, workers go on")


def main() -> None:
    settings = load()
    configure_logs(settings.log_level)
    follow_parent()
    try:
        asyncio.run(_main(settings))
    except Timeout:
        raise SystemExit(f"another controller leads {settings.home}") from None
    except ClusterError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
