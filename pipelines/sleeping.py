"""Workers fall asleep and wake up: the shell around `pipelines.awake`, which decides who and when.

Ready → falling asleep: out of traffic, as long as gateways need to see that, until it is idle. Then
its engine is told to sleep, or it is stopped, and it is asleep. Woken, it is started as if it had
just been placed, or its engine is told; from there on the probes of its readiness decide.

Nothing is remembered that a restart would miss: every step is asked for again until what it leads
to is recorded, and engines may be told twice.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from functools import partial

import httpx

from pipelines.awake import Arrangement
from pipelines.cluster.base import Cluster, ClusterError
from pipelines.commands import Commands
from pipelines.drains import DRAIN_MAX_S, DRAIN_MIN_S, EVICTION_MAX_S, idle_among
from pipelines.engines import sleeping_of
from pipelines.engines.base import Sleeping
from pipelines.probe import ProbeError, tell
from pipelines.sightings import Recorder, devices_held
from registry.errors import PlanConflictError
from registry.spec import IdleAction
from registry.state import DeviceKind, Phase, SleepMode, Snapshot, Worker
from registry.store import Store

# An engine copies its weights into the host's memory, or back.
TOLD_S_MAX = 120.0
# Each keeps one of the probes' connections for that long; nobody waits for one to fall asleep.
FALLING_AT_ONCE = 16
# An engine that has not fallen asleep by then is stopped instead,
FALL_S_MAX = 60.0
# and one that has not woken by then has failed: its slot is placed anew, after a while.
WAKE_S_MAX = 180.0
_DID_NOT_WAKE = "did not wake"


def how_it_sleeps(worker: Worker, kind: DeviceKind, then: IdleAction) -> SleepMode:
    """As lightly as its engine can, on a node of that *kind*; STOPPED where it cannot, or must."""
    way = sleeping_of(worker.plan, kind) if then is IdleAction.SLEEP else None
    return way.mode if way else SleepMode.STOPPED


class Sleepers:
    """Carries out an `Arrangement`, and what earlier ones have begun."""

    def __init__(
        self,
        store: Store,
        cluster: Cluster,
        client: httpx.AsyncClient,
        recorder: Recorder,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._cluster = cluster
        self._client = client
        self._recorder = recorder
        self._clock = clock
        self._falling_at_once = asyncio.Semaphore(FALLING_AT_ONCE)
        self._since: dict[str, float] = {}  # when a worker was first seen to fall asleep
        self._due_at: dict[str, float] = {}  # since when it is idle, and to be told

    async def turn(
        self,
        snapshot: Snapshot,
        arrangement: Arrangement,
        hurried: Collection[str],
        commands: Commands,
    ) -> dict[str, str]:
        """By model, why a worker of it that is to wake cannot. *hurried* are workers whose place is
        waited for at a higher priority.
        """
        refused = await self._begin(snapshot, arrangement, commands)
        kinds = {node.name: node.device_kind for node in snapshot.nodes}
        await self._put_to_sleep(snapshot, kinds, hurried, commands)
        for worker in snapshot.workers:
            if worker.phase is Phase.WAKING:
                await self._wake_up(worker, kinds, commands)
        return refused

    async def _begin(
        self, snapshot: Snapshot, arrangement: Arrangement, commands: Commands
    ) -> dict[str, str]:
        workers = {worker.id: worker for worker in snapshot.workers}
        kinds = {node.name: node.device_kind for node in snapshot.nodes}
        then = {model.name: model.spec.idle.then for model in snapshot.models}
        for worker_id, reason in arrangement.leave.items():
            await self._store.set_worker(worker_id, Phase.DRAINING, reason=reason)
        for worker_id, reason in arrangement.sleep.items():
            worker = workers[worker_id]
            mode = how_it_sleeps(worker, kinds[worker.node], then[worker.plan.model])
            await self._store.sleep_worker(worker_id, mode, reason=reason)
        held = devices_held(snapshot)
        refused: dict[str, str] = {}
        for worker_id, reason in arrangement.wake.items():
            try:
                woken = await self._store.wake_worker(worker_id, reason=reason)
            except PlanConflictError as error:
                refused[workers[worker_id].plan.model] = f"cannot wake now: {error}"
                continue
            if woken.phase is Phase.ASSIGNED:
                self._recorder.start(woken, held.get(worker_id, ()), commands)
        return refused

    # Falling asleep.

    async def _put_to_sleep(
        self,
        snapshot: Snapshot,
        kinds: Mapping[str, DeviceKind],
        hurried: Collection[str],
        commands: Commands,
    ) -> None:
        now = self._clock()
        falling = [w for w in snapshot.workers if w.phase is Phase.FALLING_ASLEEP]
        self._since = {worker.id: self._since.get(worker.id, now) for worker in falling}
        self._due_at = {w.id: self._due_at[w.id] for w in falling if w.id in self._due_at}
        waiting = [
            worker
            for worker in falling
            if worker.id not in self._due_at and now - self._since[worker.id] >= DRAIN_MIN_S
        ]
        idle = await idle_among(self._client, waiting)
        for worker in waiting:
            patience_s = EVICTION_MAX_S if worker.id in hurried else DRAIN_MAX_S
            if worker.id in idle or now - self._since[worker.id] > patience_s:
                self._due_at[worker.id] = now
        claims: dict[str, dict[str, int]] = defaultdict(dict)
        for claim in snapshot.claims:
            claims[claim.worker_id][claim.device_id] = claim.memory_bytes
        for worker in falling:
            if worker.id in self._due_at:
                way = sleeping_of(worker.plan, kinds[worker.node], worker.sleep_mode)
                await self._stop_or_tell(worker, way, claims[worker.id], commands)

    async def _stop_or_tell(
        self, worker: Worker, way: Sleeping | None, claims: Mapping[str, int], commands: Commands
    ) -> None:
        if worker.sleep_mode is SleepMode.STOPPED:
            # Once its node knows nothing of it any more, the recorder says that it is asleep.
            call = partial(self._cluster.stop, worker.node, worker.id)
            commands.ask(worker.node, worker.id, "stop", call)
        elif way is None or self._clock() - self._due_at[worker.id] > FALL_S_MAX:
            why = commands.failures.get(worker.id, "")
            await self._store.sleep_worker(
                worker.id,
                SleepMode.STOPPED,
                reason=f"{worker.reason}; stopped, as its engine does not fall asleep: {why}",
            )
        else:
            held = {device: min(size, way.held_bytes) for device, size in claims.items()}
            call = partial(self._tell_to_sleep, worker, way, held)
            commands.ask(worker.node, worker.id, "sleep", call, timeout_s=TOLD_S_MAX)

    async def _tell_to_sleep(self, worker: Worker, way: Sleeping, held: Mapping[str, int]) -> None:
        async with self._falling_at_once:
            await self._post(worker, way.sleep_path, way.body)
        # Told late, when it is to be stopped by now, it is not asleep: its process is there.
        await self._store.worker_sleeps(worker.id, held, mode=worker.sleep_mode)

    # Waking up.

    async def _wake_up(
        self, worker: Worker, kinds: Mapping[str, DeviceKind], commands: Commands
    ) -> None:
        """Until it says that it is awake nobody may ask it for anything, not even a probe."""
        way = sleeping_of(worker.plan, kinds[worker.node], worker.sleep_mode)
        if way is None or self._clock() - worker.begun_at > WAKE_S_MAX:
            if not worker.reason.startswith(_DID_NOT_WAKE):
                why = commands.failures.get(worker.id, "no answer")
                reason = f"{_DID_NOT_WAKE} within {WAKE_S_MAX:.0f} s: {why}"
                await self._store.set_worker(worker.id, Phase.WAKING, reason=reason)
            # Once it is gone, the recorder says that it has failed.
            stop = partial(self._cluster.stop, worker.node, worker.id)
            commands.ask(worker.node, worker.id, "stop", stop)
            return
        call = partial(self._tell_to_wake, worker, way)
        commands.ask(worker.node, worker.id, "wake", call, timeout_s=TOLD_S_MAX)

    async def _tell_to_wake(self, worker: Worker, way: Sleeping) -> None:
        await self._post(worker, way.wake_path, way.body)
        await self._store.set_worker(worker.id, Phase.STARTING, reason="its engine is awake")

    async def _post(self, worker: Worker, path: str, body: bytes) -> None:
        try:
            await tell(self._client, worker, path, body, timeout_s=TOLD_S_MAX)
        except ProbeError as error:
            raise ClusterError(str(error)) from None
