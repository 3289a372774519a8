"""What principals ask for."""

from collections.abc import Mapping

from registry.export import Export
from registry.spec import ModelSpec, Role, RolloutPolicy
from registry.state import (
    NO_KEY_LIMITS,
    AccessRole,
    Account,
    Key,
    KeyKind,
    KeyLimits,
    Model,
    Node,
    NodeState,
    Pool,
    Principal,
    Priority,
    Profile,
    Proposal,
    Quota,
    Rollout,
    Session,
    SleepMode,
    StoredProfile,
    Worker,
)
from registry.store import (
    accounts,
    keys,
    models,
    nodes,
    pools,
    profiles,
    proposals,
    quotas,
    restoring,
    rollouts,
    scales,
    sessions,
    sleeping,
)
from registry.store.keys import KeyChange, KeyWish
from registry.store.restoring import Restored
from registry.store.scope import Scoped


class _OnlyTriedError(Exception):
    pass


class Asked(Scoped):
    """Writes in the name of a principal: each leaves an audit row."""

    async def apply_model(
        self,
        spec: ModelSpec,
        *,
        by: Principal,
        if_match: int | None = None,
        create_only: bool = False,
        policy: RolloutPolicy | None = None,
        action: str = models.APPLY,
    ) -> tuple[Model, bool]:
        """Makes *spec* the model's newest revision; (model, False) when it is that already. A model
        that stands gets there by a rollout: by *policy* this once, else as *spec* says. *action* is
        what is audited.

        *if_match* is the generation the caller has seen. Raises ConflictError when the model is at
        another one or not there, or when *create_only* and it is.
        """
        async with self._scopes.write(by) as write:
            return await models.apply(
                write, spec, if_match, create_only=create_only, policy=policy, action=action
            )

    async def delete_model(self, name: str, *, by: Principal, if_match: int | None = None) -> Model:
        """Its workers stop; its revisions stay. Raises NotFoundError, ConflictError."""
        async with self._scopes.write(by) as write:
            return await models.delete(write, name, if_match)

    async def unscale_role(self, model: str, variant: str, role: Role, *, by: Principal) -> None:
        """Forgets how many workers the role's load asked for: it has those of its spec, and its
        load leads on from there. Raises NotFoundError.
        """
        async with self._scopes.write(by) as write:
            await scales.drop(write, model, variant, role)

    async def pause_rollout(self, model: str, *, by: Principal) -> Rollout:
        """It stays as far as it is. Raises NotFoundError when none is under way, ConflictError."""
        async with self._scopes.write(by) as write:
            return await rollouts.pause(write, model)

    async def resume_rollout(self, model: str, *, by: Principal) -> Rollout:
        """It goes on, paused or stalled. Raises NotFoundError when none is under way."""
        async with self._scopes.write(by) as write:
            return await rollouts.resume(write, model)

    async def abort_rollout(self, model: str, *, by: Principal) -> Model:
        """Makes what was served before it the newest revision. Raises NotFoundError when none is
        under way.
        """
        async with self._scopes.write(by) as write:
            return await models.abort(write, model)

    async def sleep_model(
        self, name: str, modes: Mapping[str, SleepMode], *, reason: str, by: Principal
    ) -> tuple[Worker, ...]:
        """Puts the ready workers of *modes* (by id) to sleep, each in its way; they sleep until
        somebody asks for the model or wakes it. Returns them. Raises NotFoundError.
        """
        async with self._scopes.write(by) as write:
            return await sleeping.sleep_model(write, name, modes, reason)

    async def wake_model(self, name: str, *, reason: str, by: Principal) -> tuple[Worker, ...]:
        """Wakes all of its sleeping workers, and returns them. Raises NotFoundError, and
        PlanConflictError where there is no room for one of them: then none is woken.
        """
        async with self._scopes.write(by) as write:
            return await sleeping.wake_model(write, name, reason)

    async def create_key(
        self,
        *,
        name: str,
        kind: KeyKind,
        role: AccessRole = AccessRole.ADMIN,
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
            role=role,
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

    async def create_account(
        self, name: str, role: AccessRole, password_hash: str, *, by: Principal
    ) -> Account:
        """Raises SpecError, and ConflictError where there is one of that name."""
        async with self._scopes.write(by) as write:
            return await accounts.create(write, name, role, password_hash)

    async def set_password(self, name: str, password_hash: str, *, by: Principal) -> Account:
        """Ends the account's sessions. Raises NotFoundError."""
        async with self._scopes.write(by) as write:
            return await accounts.set_password(write, name, password_hash)

    async def delete_account(self, name: str, *, by: Principal) -> Account:
        """Ends its sessions. Raises NotFoundError."""
        async with self._scopes.write(by) as write:
            return await accounts.delete(write, name)

    async def sign_in(self, who: Account | Key, digest: bytes, *, by: Principal) -> Session | None:
        """Begins a session, whose secret has that *digest*, for *who* has shown a password or a
        secret; None where that has been changed or ended since *who* was read.
        """
        async with self._scopes.write(by) as write:
            if isinstance(who, Account):
                return await sessions.begin_with_account(write, who, digest)
            return await sessions.begin_with_key(write, who, digest)

    async def refuse_sign_in(self, why: str, *, target: str = "", by: Principal) -> None:
        """Only tells of it. *target* is what somebody tried to be, where there is one."""
        async with self._scopes.write(by) as write:
            sessions.refused(write, why, target)

    async def sign_out(self, digest: bytes, *, by: Principal) -> None:
        """Signing out twice changes nothing."""
        async with self._scopes.write(by) as write:
            await sessions.end(write, digest)

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

    async def export(self, *, with_keys: bool, by: Principal) -> Export:
        """Everything that makes another registry serve the same. That keys were read out, which
        are digests, is audited.
        """
        async with self._scopes.write(by) as write:
            if with_keys:
                write.audit("keys.export", "")
            return await restoring.export(write.session, write.now, with_keys=with_keys)

    async def restore(
        self, export: Export, *, by: Principal, dry_run: bool = False
    ) -> tuple[Restored, ...]:
        """Makes everything in *export* be there, or nothing; what is there beside it stays. Raises
        SpecError and ConflictError, which name the place.
        """
        try:
            async with self._scopes.write(by) as write:
                done = await restoring.restore(write, export)
                if dry_run:
                    raise _OnlyTriedError  # the transaction is undone
                return done
        except _OnlyTriedError:
            return done

    async def put_quota(self, quota: Quota, *, by: Principal) -> Quota:
        """Workers above it stay; nothing new is placed. Raises SpecError."""
        async with self._scopes.write(by) as write:
            return await quotas.put(write, quota)

    async def delete_quota(self, owner: str, *, by: Principal) -> None:
        """Raises NotFoundError."""
        async with self._scopes.write(by) as write:
            await quotas.delete(write, owner)

    async def propose(
        self, spec: ModelSpec, *, base_revision: int, reason: str, by: Principal
    ) -> Proposal:
        """Suggests *spec*, which was made from *base_revision*, in place of what its model has; of
        a model the newest `proposals.KEPT_PER_MODEL` are kept. Raises NotFoundError, SpecError.
        """
        async with self._scopes.write(by) as write:
            return await proposals.propose(
                write, spec, base_revision=base_revision, reason=reason, by=by
            )

    async def take_proposal(
        self, proposal_id: str, *, by: Principal, force: bool = False
    ) -> tuple[Proposal, Model]:
        """Applies its spec. Raises NotFoundError; ConflictError when it is decided already, or the
        model has moved on since, unless *force* says that what came since is to go.
        """
        async with self._scopes.write(by) as write:
            return await proposals.take(write, proposal_id, force=force)

    async def refuse_proposal(self, proposal_id: str, *, by: Principal) -> Proposal:
        """Raises NotFoundError, and ConflictError when it is decided already."""
        async with self._scopes.write(by) as write:
            return await proposals.refuse(write, proposal_id)

    async def put_profile(
        self, profile: Profile, *, model: str, variant: str, runtime: str, by: Principal
    ) -> StoredProfile:
        """Keeps what was measured on a worker of the model's *variant* in *runtime*, instead of
        what was measured before of the same weights, engine, device model and count of devices.
        Raises NotFoundError.
        """
        async with self._scopes.write(by) as write:
            return await profiles.put(
                write, profile, model=model, variant=variant, runtime=runtime, by=by
            )

    async def delete_profile(self, profile_id: str, *, by: Principal) -> StoredProfile:
        """Raises NotFoundError."""
        async with self._scopes.write(by) as write:
            return await profiles.delete(write, profile_id)

    async def put_pool(self, pool: Pool, *, by: Principal) -> Pool:
        """Workers that a lower overcommit would not place stay. Raises SpecError."""
        async with self._scopes.write(by) as write:
            return await pools.put(write, pool)

    async def delete_pool(self, name: str, *, by: Principal) -> None:
        """Its models go on sharing, as is usual. Raises NotFoundError."""
        async with self._scopes.write(by) as write:
            await pools.delete(write, name)
