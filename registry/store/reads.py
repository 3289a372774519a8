"""What is read of the registry."""

from collections.abc import Sequence

from registry.state import (
    Account,
    AuditEntry,
    Event,
    Key,
    Model,
    Proposal,
    Revision,
    Rollout,
    Session,
    Snapshot,
    StoredProfile,
    Worker,
)
from registry.store import (
    accounts,
    history,
    keys,
    models,
    nodes,
    pools,
    profiles,
    proposals,
    quotas,
    rollout_traffic,
    rollouts,
    sessions,
    signals,
    usage,
    workers,
)
from registry.store.scope import Scoped
from registry.traffic import Demand, StepTraffic, Traffic
from registry.usage import ALL_USAGE, UsageBy, UsageFilter, UsageLine, UsageTotal


class Reads(Scoped):
    """Each is one read transaction."""

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
                pools=await pools.every(session),
                demand=await signals.demand(session, self._scopes.now()),
            )

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

    async def newest_rollout(self, name: str) -> Rollout | None:
        """A model's newest, under way or ended; None before its first."""
        async with self._scopes.read() as session:
            return await rollouts.newest(session, name)

    async def rollouts(self, name: str) -> tuple[Rollout, ...]:
        """Those of a model, ended ones too, newest first."""
        async with self._scopes.read() as session:
            return await rollouts.of(session, name)

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

    async def accounts(self) -> tuple[Account, ...]:
        """By name."""
        async with self._scopes.read() as session:
            return await accounts.every(session)

    async def account(self, name: str) -> Account:
        """Raises NotFoundError."""
        async with self._scopes.read() as session:
            return await accounts.one(session, name)

    async def session(self, digest: bytes) -> Session | None:
        """The one whose secret has that *digest*, unless it has ended."""
        async with self._scopes.read() as session:
            return await sessions.live(session, digest, self._scopes.now())

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

    async def audit(
        self, *, after: int = 0, limit: int = 500, newest: bool = False
    ) -> tuple[AuditEntry, ...]:
        """As `events`."""
        async with self._scopes.read() as session:
            return await history.audit(session, after=after, limit=limit, newest=newest)

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

    async def proposals(self, model: str | None = None) -> tuple[Proposal, ...]:
        """Newest first, decided ones too."""
        async with self._scopes.read() as session:
            return await proposals.of(session, model)

    async def proposal(self, proposal_id: str) -> Proposal:
        """Raises NotFoundError."""
        async with self._scopes.read() as session:
            return await proposals.one(session, proposal_id)

    async def profiles(self) -> tuple[StoredProfile, ...]:
        """By source, device model, devices and engine."""
        async with self._scopes.read() as session:
            return await profiles.every(session)

    async def rollout_traffic(self, model: str, to_revision: int) -> tuple[StepTraffic, ...]:
        """What both revisions of a rollout did at its step; once the new one has all of the
        traffic, or it is over, at the last one at which it did not.
        """
        async with self._scopes.read() as session:
            return await rollout_traffic.of(session, model, to_revision)

    async def traffic(
        self, since: float, model: str | None = None, *, until: float | None = None
    ) -> tuple[Traffic, ...]:
        """What gateways told of slots that began at *since* or later and before *until*, oldest
        first; it is kept for `TRAFFIC_KEPT_S`.
        """
        async with self._scopes.read() as session:
            return await signals.traffic(session, since, until, model)

    async def demand(self) -> tuple[Demand, ...]:
        """What each gateway told last of each model."""
        async with self._scopes.read() as session:
            return await signals.demand(session, self._scopes.now())
