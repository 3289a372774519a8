"""What the nodes say of workers becomes what the registry says of them.

The registry says who may be where: what runs elsewhere, or unknown to it, is stopped. Of external
workers, and of nodes that did not answer, nothing is said.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import partial

import structlog

from pipelines.cluster.base import Cluster, Observation, Sighting
from pipelines.commands import Commands
from registry.state import (
    ENDED_PHASES,
    LEAVING_PHASES,
    SLEEPING_PHASES,
    Device,
    NodeState,
    Phase,
    SleepMode,
    Snapshot,
    Worker,
)
from registry.store import Store

log = structlog.get_logger()

# A worker that its node does not know by then cannot be started there.
START_MAX_S = 60.0
# How long after a start was last asked for a node may still come to do it.
START_SETTLES_S = 30.0
_COMING_UP = frozenset({Phase.ASSIGNED, Phase.PREPARING, Phase.STARTING})


class Recorder:
    """Writes one sighting after the other into the registry."""

    def __init__(self, store: Store, cluster: Cluster, clock: Callable[[], float]) -> None:
        self._store = store
        self._cluster = cluster
        self._clock = clock
        self._began_at = clock()
        self._asked_at: dict[str, float] = {}  # when a worker's start was asked for last

    async def record(self, sighting: Sighting, snapshot: Snapshot, commands: Commands) -> None:
        live = {worker.id: worker for worker in snapshot.workers if not worker.plan.external}
        for gone in self._asked_at.keys() - live.keys():
            del self._asked_at[gone]
        commands.keep_only(set(live))
        seen = set()
        for observation in sighting.workers:
            worker = live.get(observation.worker_id)
            if worker is not None and worker.node == observation.node:
                seen.add(worker.id)
                await self._record_one(worker, observation, commands)
            elif observation.phase in ENDED_PHASES:
                self._forget(observation, commands)
            else:
                self._stop_stray(worker, observation, commands)
        states = {node.name: node.state for node in snapshot.nodes}
        held = devices_held(snapshot)
        for worker in live.values():
            if worker.id in seen or worker.node not in sighting.nodes:
                continue
            if _is_stopped_to_sleep(worker):
                await self._store.worker_sleeps(worker.id, {})
            elif worker.phase is not Phase.ASSIGNED:
                await self._end_unseen(worker)
            elif states.get(worker.node) is not NodeState.UNKNOWN:
                # Claimed, but never started, or only just: starting is idempotent.
                await self._start_unseen(worker, held, commands)

    async def _record_one(
        self, worker: Worker, observation: Observation, commands: Commands
    ) -> None:
        phase, reason = observation.phase, observation.reason
        if _is_stopped_to_sleep(worker):
            self._clear_away(worker, observation, commands)
        elif phase in ENDED_PHASES:
            if phase is Phase.STOPPED and worker.phase in LEAVING_PHASES:
                reason = worker.reason or reason  # why it was asked to says more
            elif phase is Phase.STOPPED and worker.phase is Phase.WAKING:
                phase, reason = Phase.FAILED, worker.reason  # it was told to end, and not to wake
            await self._store.set_worker(worker.id, phase, reason=reason)
            self._forget(observation, commands)
        elif phase is Phase.STOPPING:
            if worker.phase not in LEAVING_PHASES | {Phase.WAKING}:
                await self._store.set_worker(worker.id, phase, reason=reason)
        elif worker.phase is Phase.STOPPING:
            self._stop(observation, commands)  # it was asked once, in vain
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

    def _clear_away(self, worker: Worker, observation: Observation, commands: Commands) -> None:
        """What is left of a worker that sleeps without a process. It is asleep only when its node
        knows nothing of it: what is seen of it from then on is of its next start.
        """
        if observation.phase in ENDED_PHASES:
            self._forget(observation, commands)
        elif worker.phase is Phase.ASLEEP:
            self._stop(observation, commands)

    def _stop_stray(
        self, worker: Worker | None, observation: Observation, commands: Commands
    ) -> None:
        if worker is None:
            log.warning(
                "stops a worker the registry does not know",
                worker=observation.worker_id,
                node=observation.node,
            )
        else:
            log.error(
                "stops a worker that is on another node, too",
                worker=worker.id,
                node=observation.node,
                registered_on=worker.node,
            )
        self._stop(observation, commands)

    def _stop(self, observation: Observation, commands: Commands) -> None:
        if observation.phase is not Phase.STOPPING:
            node, worker_id = observation.node, observation.worker_id
            commands.ask(node, worker_id, "stop", partial(self._cluster.stop, node, worker_id))

    def _forget(self, observation: Observation, commands: Commands) -> None:
        node, worker_id = observation.node, observation.worker_id
        commands.ask(node, worker_id, "forget", partial(self._cluster.forget, node, worker_id))

    async def _start_unseen(
        self, worker: Worker, held: Mapping[str, tuple[Device, ...]], commands: Commands
    ) -> None:
        age_s = self._clock() - worker.begun_at
        failure = commands.failures.get(worker.id, "")
        if age_s > START_MAX_S + START_SETTLES_S and not commands.busy(worker.id):
            why = failure or f"node {worker.node} knows nothing of it"
            await self._store.set_worker(
                worker.id, Phase.FAILED, reason=f"could not be started: {why}"
            )
        elif age_s <= START_MAX_S:
            if failure and failure != worker.reason:
                await self._store.set_worker(worker.id, Phase.ASSIGNED, reason=failure)
            self.start(worker, held.get(worker.id, ()), commands)

    def start(self, worker: Worker, devices: tuple[Device, ...], commands: Commands) -> None:
        """Asks the worker's node to start it on *devices*."""
        if not devices:
            return  # what is known of them is older than the claim: next turn
        self._asked_at[worker.id] = self._clock()
        call = partial(self._cluster.start, worker, devices)
        commands.ask(worker.node, worker.id, "start", call)

    async def _end_unseen(self, worker: Worker) -> None:
        if worker.phase not in LEAVING_PHASES:
            reason = f"node {worker.node} knows nothing of it"
            await self._store.set_worker(worker.id, Phase.FAILED, reason=reason)
            return
        asked_at = max(self._asked_at.get(worker.id, 0.0), self._began_at)
        if worker.url or self._clock() - asked_at > START_SETTLES_S:
            await self._store.set_worker(worker.id, Phase.STOPPED, reason=worker.reason)


def _is_stopped_to_sleep(worker: Worker) -> bool:
    return worker.phase in SLEEPING_PHASES and worker.sleep_mode is SleepMode.STOPPED


def devices_held(snapshot: Snapshot) -> dict[str, tuple[Device, ...]]:
    """By worker, the devices that it has claims on, if only of nothing."""
    devices = {device.id: device for device in snapshot.devices}
    held: dict[str, list[Device]] = defaultdict(list)
    for claim in snapshot.claims:
        held[claim.worker_id].append(devices[claim.device_id])
    return {worker_id: tuple(of_it) for worker_id, of_it in held.items()}
