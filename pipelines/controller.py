"""The controller: observes the workers, reconciles, places, starts, probes, drains and stops.

The shell around the pure parts. Level-based: each turn looks at everything anew, so a missed
event, a restart or a kill at any point costs time, never truth. `python -m pipelines.controller`.
"""

import asyncio
import signal
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import aclosing, suppress

import httpx
import structlog
from filelock import FileLock, Timeout

from pipelines.awake import arrange
from pipelines.awake.places import place_awake_or_asleep
from pipelines.cluster.base import Cluster, ClusterError, Sighting
from pipelines.cluster.open import open_cluster
from pipelines.commands import Commands
from pipelines.conditions import condition, why_refused
from pipelines.departures import Room, hurried, make_room
from pipelines.drains import Drains
from pipelines.engines import runtime_of
from pipelines.external import TokenError, read_token
from pipelines.leader import holder_of, lead
from pipelines.lost_nodes import NodeWatch, may_report, surplus
from pipelines.measured import Measured
from pipelines.parent import follow_parent
from pipelines.probe import probe_client
from pipelines.readiness import Readiness
from pipelines.reconciler import Decision, reconcile
from pipelines.rolling import Rolling
from pipelines.rollouts import give_way
from pipelines.scaling import Scaling
from pipelines.scheduler import Proposal
from pipelines.sightings import Recorder
from pipelines.silent_watch import SilentWatch
from pipelines.sleeping import Sleepers
from registry.errors import LeadershipLostError, NotFoundError, PlanConflictError
from registry.logs import configure_logs
from registry.settings import Settings, load
from registry.state import NodeReport, Phase, PlannedGang, Snapshot, Worker, WorkerPlan
from registry.store import Store

log = structlog.get_logger()

TURN_S = 0.5
INVENTORY_EVERY_S = 5.0
# A cluster that says nothing for this long says that it is away.
LOOK_S_MAX = 30.0


class Controller:
    """One per fleet. Its memory holds nothing that a restart would miss for long.

    A node that has been silent for *node_lost_s* is given up, with its workers.
    """

    def __init__(
        self,
        store: Store,
        cluster: Cluster,
        client: httpx.AsyncClient,
        *,
        node_lost_s: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._cluster = cluster
        self._client = client
        self._clock = clock
        self._watch = NodeWatch(node_lost_s)
        self._recorder = Recorder(store, cluster, clock)
        self._drains = Drains(store, cluster, client, clock)
        self._rolling = Rolling(store, clock)
        self._silent = SilentWatch(store, clock)
        self._sleepers = Sleepers(store, cluster, client, self._recorder, clock)
        self._scaling = Scaling(store, clock)
        self._inventory_at = 0.0

    async def run(self) -> None:
        """Turns until cancelled. Workers are left as they are."""
        async with asyncio.TaskGroup() as tasks:
            readiness = Readiness(self._client, tasks, self._set_worker, self._clock)
            measured = Measured(self._client, tasks, self._clock)
            commands = Commands(tasks)
            while True:
                began_at = time.monotonic()
                try:
                    await self.turn(readiness, commands, measured)
                except LeadershipLostError:
                    raise  # another controller has the care now
                except ClusterError as error:
                    log.warning("the cluster refused", error=str(error))
                except Exception:
                    # The next turn looks at everything anew; ending here would end care for all.
                    log.exception("turn failed")
                # A large fleet's turns take long: at most half of the time is spent in them.
                await asyncio.sleep(max(TURN_S, time.monotonic() - began_at))

    async def turn(self, readiness: Readiness, commands: Commands, measured: Measured) -> None:
        """Raises ClusterError."""
        sighting, reports = await self._look()
        snapshot = await self._store.snapshot()
        await self._give_up_nodes(sighting, snapshot)
        await self._recorder.record(sighting, snapshot, commands)
        await self._take_reports(reports, sighting, snapshot)
        snapshot = await self._newest(snapshot)
        decision = reconcile(snapshot, self._clock())
        await self._carry_out(decision)
        snapshot = await self._newest(snapshot)
        # In a thread: for a large fleet it takes seconds, and the lease is renewed meanwhile.
        proposal = await asyncio.to_thread(
            place_awake_or_asleep,
            snapshot,
            decision.start,
            runtime_of,
            self._clock(),
            held=decision.held,
        )
        for gang in proposal.placed:
            await self._commit(gang, snapshot, commands)
        for eviction in proposal.evicted:
            await self._drain({eviction.worker_id: eviction.sentence})
        room = await self._room(snapshot, decision, proposal)
        await self._drain(room.go)
        snapshot = await self._newest(snapshot)
        await self._rolling.turn(snapshot, proposal.refused)
        snapshot = await self._newest(snapshot)
        waited_for = hurried(snapshot, proposal.refused)
        await self._drains.stop_drained(snapshot.workers, waited_for, commands)
        await self._drains.stop_hopeless(snapshot.workers, readiness, commands)
        arrangement = await asyncio.to_thread(
            arrange, snapshot, self._clock(), dict(measured.worked_at)
        )
        asleep = await self._sleepers.turn(snapshot, arrangement, waited_for, commands)
        readiness.look(snapshot.workers)
        measured.look(snapshot.workers)
        await self._scaling.look(snapshot, measured)
        silent = await self._silent.look(snapshot, measured)
        stay = {**asleep, **room.stay}
        await self._tell_conditions(snapshot, decision, proposal, stay, silent)

    async def _newest(self, snapshot: Snapshot) -> Snapshot:
        if await self._store.version() == snapshot.version:
            return snapshot
        return await self._store.snapshot()

    async def _room(self, snapshot: Snapshot, decision: Decision, proposal: Proposal) -> Room:
        refused, evicted, rollouts = proposal.refused, proposal.evicted, decision.rollouts
        room = make_room(snapshot, refused, evicted, changing=rollouts)
        # In a thread as above: it asks for places again.
        return room | await asyncio.to_thread(
            give_way, snapshot, refused, rollouts, runtime_of, evicted
        )

    async def _look(self) -> tuple[Sighting, tuple[NodeReport, ...]]:
        """What runs where and, now and then, what the nodes offer. Raises ClusterError."""
        now = self._clock()
        reports: tuple[NodeReport, ...] = ()
        try:
            async with asyncio.timeout(LOOK_S_MAX):
                sighting = await self._cluster.observe()
                if now - self._inventory_at >= INVENTORY_EVERY_S:
                    reports = await self._cluster.inventory()
                    self._inventory_at = now
        except TimeoutError:
            self._watch.nobody_answers()
            raise ClusterError(f"the cluster says nothing for {LOOK_S_MAX:.0f} s") from None
        except ClusterError:
            self._watch.nobody_answers()
            raise
        return sighting, reports

    async def _give_up_nodes(self, sighting: Sighting, snapshot: Snapshot) -> None:
        """The workers of a lost node are lost with it: it gets nothing new before it was seen
        without them.
        """
        known = [node.name for node in snapshot.nodes]
        self._watch.look(known, sighting.nodes, self._clock())
        unknown = self._watch.unknown()
        if unknown:
            why = f"no answer for {min(unknown.values()):.0f} s"
            await self._store.mark_nodes_unknown(tuple(unknown), why=why)
        lost = self._watch.lost()
        for worker in snapshot.workers:
            if worker.node in lost:
                reason = f"node {worker.node} has not answered for {lost[worker.node]:.0f} s"
                await self._store.set_worker(worker.id, Phase.LOST, reason=reason)

    async def _take_reports(
        self, reports: tuple[NodeReport, ...], sighting: Sighting, snapshot: Snapshot
    ) -> None:
        if not reports:
            return
        strays = surplus(sighting, snapshot.workers)
        good = tuple(told for told in reports if may_report(told.name, snapshot, sighting, strays))
        await self._store.report_nodes(good)
        await self._store.forget_ended()

    async def _carry_out(self, decision: Decision) -> None:
        await self._drain(decision.drain)
        for worker_id, reason in decision.depart.items():
            await self._store.depart_worker(worker_id, reason=reason)
        for worker_id in decision.keep:
            try:
                await self._store.keep_worker(worker_id)
            except PlanConflictError as error:
                log.info("goes after all", worker=worker_id, error=str(error))
        for plan in decision.reach:
            await self._reach(plan)

    async def _drain(self, reasons: Mapping[str, str]) -> None:
        for worker_id, reason in reasons.items():
            await self._store.set_worker(worker_id, Phase.DRAINING, reason=reason)

    async def _commit(self, gang: PlannedGang, snapshot: Snapshot, commands: Commands) -> None:
        try:
            workers = await self._store.commit_gang(gang)
        except PlanConflictError as error:
            log.info("plan overtaken, tries again", error=str(error))
            return
        if gang.asleep:
            return
        devices = {device.id: device for device in snapshot.devices}
        for worker, planned in zip(workers, gang.workers, strict=True):
            assert worker.plan == planned.plan, worker.id
            held = tuple(devices[claim.device_id] for claim in planned.claims)
            self._recorder.start(worker, held, commands)

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

    async def _set_worker(self, worker_id: str, phase: Phase, reason: str) -> None:
        await self._store.set_worker(worker_id, phase, reason=reason)

    async def _tell_conditions(
        self,
        snapshot: Snapshot,
        decision: Decision,
        proposal: Proposal,
        stay: Mapping[str, str],
        silent: Mapping[str, str],
    ) -> None:
        refused = why_refused(snapshot, proposal.refused)
        mine: dict[str, list[Worker]] = defaultdict(list)
        for worker in snapshot.workers:
            mine[worker.plan.model].append(worker)
        for model in snapshot.models:
            if model.deleted:
                continue
            name = model.name
            why = decision.waiting.get(name) or refused.get(name, "")
            notes = (stay.get(name, ""), silent.get(name, ""))
            text = condition(model, mine.get(name, ()), why, *notes)
            if (text, name in silent) != (model.condition, model.degraded):
                with suppress(NotFoundError):  # deleted since
                    await self._store.set_condition(name, text, degraded=name in silent)


async def serve(settings: Settings) -> None:
    """Runs the controller until SIGTERM, whenever it leads. Raises Timeout when another one of
    this home runs.
    """
    lock = FileLock(settings.home / "controller.lock", timeout=0)
    with lock:
        store = await Store.open(settings.database)
        try:
            async with aclosing(open_cluster(settings)) as cluster, probe_client() as client:

                async def control(fenced: Store) -> None:
                    await Controller(
                        fenced, cluster, client, node_lost_s=settings.node_lost_s
                    ).run()

                await lead(store, holder_of(settings.home), control)
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
        raise SystemExit(f"another controller runs with {settings.home}") from None
    except ClusterError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
