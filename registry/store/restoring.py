"""Everything that makes a registry serve the same: read out at once, and written at once."""

from collections.abc import Coroutine
from enum import StrEnum
from typing import Any, NamedTuple

from sqlalchemy.ext.asyncio import AsyncSession

from registry import tables as t
from registry.errors import ConflictError, SpecError
from registry.export import Export
from registry.store import keys, models, pools, quotas
from registry.store.scope import Write


class Outcome(StrEnum):
    CREATED = "created"
    CHANGED = "changed"
    UNCHANGED = "unchanged"


class Restored(NamedTuple):
    """What became of one thing of an export; *kind* is as in ``quota``."""

    kind: str
    name: str
    outcome: Outcome


async def export(session: AsyncSession, now: float, *, with_keys: bool) -> Export:
    standing = await models.standing(session)
    return Export(
        quotas=await quotas.every(session),
        pools=await pools.every(session),
        keys=await keys.every(session, now) if with_keys else (),
        models=tuple(model.spec for model in standing),
    )


async def restore(write: Write, wanted: Export) -> tuple[Restored, ...]:
    """All of it, or an error: SpecError and ConflictError name the place. What is there beside it
    stays. Models come last, so that they find their quotas and pools.
    """
    done = []
    for index, quota in enumerate(wanted.quotas):
        there = await write.session.get(t.QuotaRow, quota.owner) is not None
        outcome = await _put(write, f"quotas[{index}]", quotas.put(write, quota), there=there)
        done.append(Restored("quota", quota.owner, outcome))
    for index, pool in enumerate(wanted.pools):
        there = await write.session.get(t.PoolRow, pool.name) is not None
        outcome = await _put(write, f"pools[{index}]", pools.put(write, pool), there=there)
        done.append(Restored("pool", pool.name, outcome))
    for index, key in enumerate(wanted.keys):
        there = await keys.is_there(write.session, key)
        outcome = await _put(write, f"keys[{index}]", keys.put_back(write, key), there=there)
        done.append(Restored("key", key.id, outcome))
    for index, spec in enumerate(wanted.models):
        row = await write.session.get(t.ModelRow, spec.name)
        there = row is not None and not row.deleted
        applying = models.apply(write, spec, None, create_only=False, action=models.RESTORE)
        outcome = await _put(write, f"models[{index}]", applying, there=there)
        done.append(Restored("model", spec.name, outcome))
    return tuple(done)


async def _put(
    write: Write, where: str, putting: Coroutine[Any, Any, object], *, there: bool
) -> Outcome:
    """What is changed leaves an event. Raises SpecError and ConflictError with *where*."""
    told = write.told
    try:
        await putting
    except SpecError as error:
        raise SpecError(f"{where}.{error.field}", error.message) from None
    except ConflictError as error:
        raise ConflictError(f"{where}: {error}") from None
    if write.told == told:
        return Outcome.UNCHANGED
    return Outcome.CHANGED if there else Outcome.CREATED
