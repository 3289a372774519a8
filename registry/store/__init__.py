"""The only writer of what is true.

Each method is one transaction. A write leaves its event (and, asked for by a principal, its audit
row) in the same transaction; `scope.Write` does not commit a change without them.
"""

import time
from collections.abc import Callable, Collection, Sequence
from typing import Self

from registry import db
from registry.spec import ModelSpec
from registry.state import (
    NO_KEY_LIMITS,
    AuditEntry,
    Event,
    Key,
    KeyKind,
    KeyLimits,
    Lease,
    Model,
    Node,
    NodeReport,
    NodeState,
    Phase,
    PlannedGang,
    Principal,
    Priority,
    Quota,
    Revision,
    Snapshot,
    Worker,
    WorkerPlan,
)
from registry.store import gangs, history, keys, leases, models, nodes, quotas, usage, workers
from registry.store.keys import KeyChange, KeyWish
from registry.store.scope import Scopes
from registry.store.workers import ENDED_PER_SLOT_MAX
from registry.usage import ALL_USAGE, UsageBy, UsageFilter, UsageLine, UsageRecord, UsageTotal


class Store:
    """Safe to share between tasks of one event loop. Several may stand on one database, in one
    process or many. Every method can raise UnavailableError.
    """

    def __init__(self, scopes: Scopes) -> None:
        self._scopes = scopes

    @classmethod
    async def open(cls, url: str, *, clock: Callable[[], float] = time.time) -> Self:
        """Raises SchemaError unless the database is at the schema version of this code."""
        return cls(Scopes(await db.open_checked(url), clock))

    async def aclose(self) -> None:
        await self._scopes.aclose()

    def fenced(self, lease: Lease) -> Self:
        """The same store for a leader: every write begins by checking that *lease* still holds, or
        raises LeadershipLostError and writes nothing. It closes with this one.
        """
        return type(self)(self._scopes.guarded(lambda write: leases.check(write, lease)))

    async def version(self) -> int:
        """The newest event's id: it moves with everything that `snapshot` shows."""
        async with self._scopes.read() as session:
            return await history.version(session)

    async def snapshot(self) -> Snapshot:
        """Everything that scheduling and routing need, as it was at one moment."""
        async with self._scopes.read() as session:
            return Snapshot(
                version=await history.version(session),
                models=await models.standing_or_stopping(session),
                nodes=await nodes.every(session),
                devices=await nodes.devices(session),
                workers=await workers.select_workers(session, model=None, include_ended=False),
                ended=await workers.recently_ended(session),
                claims=await workers.claims(session),
                keys=await keys.every(session, self._scopes.now()),
                quotas=await quotas.every(session),
            )

    # --- what a principal asks for

    async def apply_model(
        self,
        spec: ModelSpec,
        *,
        by: Principal,
        if_match: int | None = None,
        create_only: bool = False,
    ) -> tuple[Model, bool]:
        """Makes *spec* the model's newest revision; (model, False) when it is that already.

        *if_match* is the generation the caller has seen. Raises ConflictError when the model is at
        another one or not there, or when *create_only* and it is.
        """
        async with self._scopes.write(by) as write:
            return await models.apply(write, spec, by, if_match, create_only=create_only)

    async def delete_model(self, name: str, *, by: Principal, if_match: int | None = None) -> Model:
        """Its workers stop; its revisions stay. Raises NotFoundError, ConflictError."""
        async with self._scopes.write(by) as write:
            return await models.delete(write, name, if_match)

    async def create_key(
        self,
        *,
        name: str,
        kind: KeyKind,
        models: tuple[str, ...] = (),
        priority: Priority = Priority.NORMAL,
        limits: KeyLimits = NO_KEY_LIMITS,
        expires_at: float | None = None,
        by: Principal,
        secret: str | None = None,
    ) -> tuple[Key, str]:
        """The key, and its secret for the only time.

        With *secret* that one is taken; the key that already has it, or had it until its last
        rotation, is returned as it is, revoked or not. Raises SpecError, and ConflictError when
        *secret* opens the other listener.
        """
        wish = KeyWish(
            name=name,
            kind=kind,
            models=models,
            priority=priority,
            limits=limits,
            expires_at=expires_at,
        )
        async with self._scopes.write(by) as write:
            return await keys.create(write, wish, secret)

    async def update_key(self, key_id: str, change: KeyChange, *, by: Principal) -> Key:
        """Raises NotFoundError, SpecError, and ConflictError for a revoked key."""
        async with self._scopes.write(by) as write:
            return await keys.update(write, key_id, change)

    async def rotate_key(self, key_id: str, *, overlap_s: float, by: Principal) -> tuple[Key, str]:
        """The key, and its new secret for the only time. The one before is good for *overlap_s*
        more seconds; one from an earlier rotation ends now. Raises NotFoundError, SpecError, and
        ConflictError for a key that has ended.
        """
        async with self._scopes.write(by) as write:
            return await keys.rotate(write, key_id, overlap_s)

    async def revoke_key(self, key_id: str, *, by: Principal) -> Key:
        """All secrets of it. Raises NotFoundError."""
        async with self._scopes.write(by) as write:
            return await keys.revoke(write, key_id)

    async def set_node_state(self, name: str, state: NodeState, *, by: Principal) -> Node:
        """Cordons (CORDONED), drains (DRAINING) or uncordons (READY). Raises NotFoundError,
        SpecError.
        """
        async with self._scopes.write(by) as write:
            return await nodes.set_state(write, name, state)

    async def forget_node(self, name: str, *, by: Principal) -> None:
        """For one that never comes back; one that does joins anew. Raises NotFoundError, and
        ConflictError unless it is UNKNOWN and holds no worker.
        """
        async with self._scopes.write(by) as write:
            await nodes.forget(write, name)

    async def put_quota(self, quota: Quota, *, by: Principal) -> Quota:
        """Workers above it stay; nothing new is placed. Raises SpecError."""
        async with self._scopes.write(by) as write:
            return await quotas.put(write, quota)

    async def delete_quota(self, owner: str, *, by: Principal) -> None:
        """Raises NotFoundError."""
        async with self._scopes.write(by) as write:
            await quotas.delete(write, owner)

    # --- which controller leads

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

    async def set_condition(self, model: str, condition: str) -> None:
        """Why the model is not fully served; "" when it is. Raises NotFoundError."""
        async with self._scopes.write() as write:
            await models.set_condition(write, model, condition)

    async def forget_ended(self, *, keep_per_slot: int = ENDED_PER_SLOT_MAX) -> None:
        """Prunes history: old ended workers, and events beyond the newest `EVENTS_KEPT`."""
        async with self._scopes.write() as write:
            await workers.forget_ended(write, keep_per_slot)
            await history.prune_events(write)

    async def record_usage(self, records: Sequence[UsageRecord]) -> None:
        """With what they cost added to what their keys have spent. Repeating a batch whose outcome
        is unknown does not count it twice.
        """
        async with self._scopes.write() as write:
            await usage.record(write, records)

    # --- reads

    async def model(self, name: str) -> Model:
        """Raises NotFoundError, for a deleted one too."""
        async with self._scopes.read() as session:
            return await models.one(session, name)

    async def models(self) -> tuple[Model, ...]:
        async with self._scopes.read() as session:
            return await models.standing(session)

    async def revisions(self, name: str) -> tuple[Revision, ...]:
        """Oldest first. Raises NotFoundError."""
        async with self._scopes.read() as session:
            return await models.revisions(session, name)

    async def workers(
        self, *, model: str | None = None, include_ended: bool = False
    ) -> tuple[Worker, ...]:
        """Oldest first."""
        async with self._scopes.read() as session:
            return await workers.select_workers(session, model=model, include_ended=include_ended)

    async def worker(self, worker_id: str) -> Worker:
        """Raises NotFoundError."""
        async with self._scopes.read() as session:
            return await workers.one(session, worker_id)

    async def keys(self) -> tuple[Key, ...]:
        """Revoked and expired ones too."""
        async with self._scopes.read() as session:
            return await keys.every(session, self._scopes.now())

    async def key(self, key_id: str) -> Key:
        """Raises NotFoundError."""
        async with self._scopes.read() as session:
            return await keys.one(session, key_id, self._scopes.now())

    async def key_names(self) -> dict[str, str]:
        """By id, of revoked and expired ones too."""
        async with self._scopes.read() as session:
            return await keys.names(session)

    async def events(
        self, *, after: int = 0, model: str | None = None, limit: int = 500, newest: bool = False
    ) -> tuple[Event, ...]:
        """In the order they happened: the first *limit* after *after*, or with *newest* the last
        *limit*.
        """
        async with self._scopes.read() as session:
            return await history.events(
                session, after=after, model=model, limit=limit, newest=newest
            )

    async def audit(self, *, after: int = 0, limit: int = 500) -> tuple[AuditEntry, ...]:
        async with self._scopes.read() as session:
            return await history.audit(session, after=after, limit=limit)

    async def usage(
        self,
        which: UsageFilter = ALL_USAGE,
        *,
        by: Sequence[UsageBy] = (UsageBy.KEY, UsageBy.MODEL),
    ) -> tuple[UsageTotal, ...]:
        """Sums over the requests of *which*, told apart by *by*, in its order. Raises SpecError
        where they would be too many.
        """
        async with self._scopes.read() as session:
            return await usage.totals(session, which, by)

    async def usage_page(
        self, which: UsageFilter, *, after: tuple[float, int] | None = None, limit: int
    ) -> tuple[UsageLine, ...]:
        """The single requests of *which*, in the order they ended: the first *limit* behind the
        place *after*. A read of its own for each page, so that a slow reader holds nothing up.
        """
        async with self._scopes.read() as session:
            return await usage.page(session, which, after, limit)
