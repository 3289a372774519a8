"""What controllers and gateways see and decide."""

from collections.abc import Collection, Mapping, Sequence

from registry.spec import Role
from registry.state import (
    Lease,
    Model,
    NodeReport,
    Phase,
    PlannedGang,
    Principal,
    Rollout,
    SleepMode,
    Worker,
    WorkerPlan,
)
from registry.store import (
    gangs,
    history,
    leases,
    models,
    nodes,
    rollout_traffic,
    rollouts,
    scales,
    sessions,
    signals,
    sleeping,
    usage,
    workers,
)
from registry.store.scope import Scoped
from registry.store.workers import ENDED_PER_SLOT_MAX
from registry.traffic import Demand, Traffic
from registry.usage import UsageRecord


class Observed(Scoped):
    """Writes of the parts of Modelyard itself."""

    async def acquire_lease(self, holder: str, *, ttl_s: float) -> Lease | None:
        """Begins a term of *holder*; None while another one leads."""
        async with self._scopes.write() as write:
            return await leases.acquire(write, holder, ttl_s)

    async def renew_lease(self, lease: Lease, *, ttl_s: float) -> Lease:
        """Raises LeadershipLostError."""
        async with self._scopes.write() as write:
            return await leases.renew(write, lease, ttl_s)

    async def release_lease(self, lease: Lease) -> None:
        """Ends its term, so that another one may lead at once. Raises LeadershipLostError."""
        async with self._scopes.write() as write:
            await leases.release(write, lease)

    async def lease(self) -> Lease | None:
        """The newest term, over or not; None before the first."""
        async with self._scopes.read() as session:
            return await leases.one(session, self._scopes.now())

    # --- what the controller observes and decides

    async def report_nodes(self, reports: tuple[NodeReport, ...]) -> None:
        """Each report is the whole truth of its node, except that a claimed device stays."""
        async with self._scopes.write() as write:
            await nodes.report(write, reports)

    async def mark_nodes_unknown(self, names: Collection[str], *, why: str) -> None:
        """They get nothing new until they are reported again."""
        async with self._scopes.write() as write:
            await nodes.mark_unknown(write, names, why)

    async def commit_gang(self, gang: PlannedGang) -> tuple[Worker, ...]:
        """Claims the devices of all its workers, or of none.

        Raises PlanConflictError when what the plan was made from is no longer so.
        """
        async with self._scopes.write() as write:
            return await gangs.commit(write, gang)

    async def admit_external(self, plan: WorkerPlan, *, token: str, failure: str = "") -> Worker:
        """Takes up an external worker, which holds no claim; *failure* is why it cannot be, and
        then it has ended. Raises PlanConflictError when its slot is filled, or wanted no more.
        """
        async with self._scopes.write() as write:
            return await gangs.admit(write, plan, token, failure)

    async def set_worker(
        self,
        worker_id: str,
        phase: Phase,
        *,
        reason: str = "",
        url: str | None = None,
        events_url: str | None = None,
        kv_port: int | None = None,
    ) -> Worker:
        """What was observed of a worker; None leaves an address as it is. An end releases its
        claims: report it only when all of its processes are gone. Raises NotFoundError.
        """
        async with self._scopes.write() as write:
            return await workers.set_phase(
                write,
                worker_id,
                phase,
                reason=reason,
                url=url,
                events_url=events_url,
                kv_port=kv_port,
            )

    async def depart_worker(self, worker_id: str, *, reason: str) -> Worker:
        """It goes on serving until another worker, which may now fill its slot beside it, is
        ready. Raises NotFoundError.
        """
        async with self._scopes.write() as write:
            return await workers.depart(write, worker_id, reason)

    async def keep_worker(self, worker_id: str) -> Worker:
        """Takes `depart_worker` back. Raises NotFoundError, and PlanConflictError when its slot
        was filled since.
        """
        async with self._scopes.write() as write:
            return await workers.stay(write, worker_id)

    async def sleep_worker(self, worker_id: str, mode: SleepMode, *, reason: str) -> Worker:
        """Takes a ready worker out of traffic, to sleep once it is idle; one that falls asleep does
        so in this way, and one that is asleep may have to do without its process; any other stays
        as it is. Raises NotFoundError.
        """
        async with self._scopes.write() as write:
            return await sleeping.fall_asleep(write, worker_id, mode, reason)

    async def worker_sleeps(
        self, worker_id: str, held_bytes: Mapping[str, int], *, mode: SleepMode | None = None
    ) -> Worker:
        """It has let go of its devices' memory but for *held_bytes*, by device id (what is not
        named is 0). One that is not falling asleep stays as it is, and so does one that is by now
        to sleep in another way than *mode*. Raises NotFoundError.
        """
        async with self._scopes.write() as write:
            return await sleeping.asleep(write, worker_id, held_bytes, mode)

    async def wake_worker(self, worker_id: str, *, reason: str) -> Worker:
        """Takes its claims back; it is to be started (ASSIGNED) or to be told (WAKING). One that
        is not asleep stays as it is. Raises NotFoundError, and PlanConflictError where there is no
        room for it now.
        """
        async with self._scopes.write() as write:
            return await sleeping.wake(write, worker_id, reason)

    async def set_condition(self, model: str, condition: str, *, degraded: bool = False) -> None:
        """Why the model is not fully served; "" when it is. *degraded*: its workers are all ready
        and yet serve badly. Raises NotFoundError.
        """
        async with self._scopes.write() as write:
            await models.set_condition(write, model, condition, degraded=degraded)

    async def scale_role(
        self, model: str, variant: str, role: Role, workers: int, *, reason: str
    ) -> None:
        """How many workers an autoscaled role is to have; *reason* is a sentence for people.
        Raises NotFoundError where there is no such role, or it is not autoscaled.
        """
        async with self._scopes.write() as write:
            await scales.put(write, model, (variant, role), workers, reason)

    async def enter_step(
        self, model: str, to_revision: int, *, step: int, percent: int, reason: str
    ) -> Rollout:
        """The new revision takes *percent* of the traffic. With `promote: manual` it then stands
        until somebody resumes it. Nothing happens where that step was entered already. Raises
        PlanConflictError when it is not the next one, or it does not go on.
        """
        async with self._scopes.write() as write:
            return await rollouts.enter_step(
                write, model, to_revision, step, percent=percent, reason=reason
            )

    async def shift_traffic(
        self, model: str, to_revision: int, *, percent: int, reason: str
    ) -> Rollout:
        """Between two steps: the new revision takes *percent*, since old workers must make way for
        the rest of the new ones. Raises PlanConflictError when it takes more, or does not go on.
        """
        async with self._scopes.write() as write:
            return await rollouts.shift_traffic(write, model, to_revision, percent, reason)

    async def say_rollout(self, model: str, to_revision: int, reason: str) -> None:
        """What it waits for. Raises PlanConflictError when it is not under way."""
        async with self._scopes.write() as write:
            await rollouts.say(write, model, to_revision, reason)

    async def stall_rollout(self, model: str, to_revision: int, *, reason: str) -> Rollout:
        """It failed, and stands until it is resumed or aborted. Raises PlanConflictError."""
        async with self._scopes.write() as write:
            return await rollouts.stall(write, model, to_revision, reason)

    async def finish_rollout(self, model: str, to_revision: int, *, reason: str) -> Rollout:
        """Raises PlanConflictError when it is not under way."""
        async with self._scopes.write() as write:
            return await rollouts.finish(write, model, to_revision, reason)

    async def roll_back(self, model: str, to_revision: int, *, reason: str) -> Model:
        """Ends the rollout and makes what was served before it the newest revision. Raises
        PlanConflictError when it is not under way.
        """
        async with self._scopes.write(Principal(actor="controller")) as write:
            return await models.roll_back(write, model, to_revision, reason)

    async def forget_ended(self, *, keep_per_slot: int = ENDED_PER_SLOT_MAX) -> None:
        """Prunes history: old ended workers, events beyond the newest `EVENTS_KEPT`, old
        signals of gateways, and sessions that are over.
        """
        async with self._scopes.write() as write:
            await workers.forget_ended(write, keep_per_slot)
            await history.prune_events(write)
            await signals.forget(write)
            await sessions.forget(write)

    async def saw_session(self, digest: bytes) -> None:
        """Somebody uses it: it has been idle no longer than since now."""
        async with self._scopes.write() as write:
            await sessions.seen(write, digest)

    async def record_usage(self, records: Sequence[UsageRecord]) -> None:
        """With what they cost added to what their keys have spent. Repeating a batch whose outcome
        is unknown does not count it twice.
        """
        async with self._scopes.write() as write:
            await usage.record(write, records)

    async def record_traffic(self, rows: Sequence[Traffic]) -> None:
        """What a gateway's closed slots had, at most `signals.ROWS_MAX` rows; said again, it counts
        once.
        """
        async with self._scopes.write() as write:
            await rollout_traffic.add(write, rows)
            await signals.record_traffic(write, rows)

    async def tell_demand(self, rows: Sequence[Demand]) -> None:
        """What a gateway has of some models now, at most `signals.ROWS_MAX`."""
        async with self._scopes.write() as write:
            await signals.tell_demand(write, rows)
