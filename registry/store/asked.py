"""What principals ask for."""

from collections.abc import Mapping

from registry.spec import ModelSpec
from registry.state import (
    NO_KEY_LIMITS,
    Key,
    KeyKind,
    KeyLimits,
    Model,
    Node,
    NodeState,
    Pool,
    Principal,
    Priority,
    Quota,
    SleepMode,
    Worker,
)
from registry.store import keys, models, nodes, pools, quotas, sleeping
from registry.store.keys import KeyChange, KeyWish
from registry.store.scope import Scoped


class Asked(Scoped):
    """Writes in the name of a principal: each leaves an audit row."""

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

    async def put_pool(self, pool: Pool, *, by: Principal) -> Pool:
        """Workers that a lower overcommit would not place stay. Raises SpecError."""
        async with self._scopes.write(by) as write:
            return await pools.put(write, pool)

    async def delete_pool(self, name: str, *, by: Principal) -> None:
        """Its models go on sharing, as is usual. Raises NotFoundError."""
        async with self._scopes.write(by) as write:
            await pools.delete(write, name)
