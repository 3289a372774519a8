"""How models of a pool share devices."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from registry import rows
from registry import tables as t
from registry.errors import NotFoundError, SpecError
from registry.spec import is_name
from registry.state import EventKind, Pool
from registry.store.scope import Write

OVERCOMMIT_MAX = 1000.0
AWAKE_MIN_S_MAX = 86_400.0


async def put(write: Write, pool: Pool) -> Pool:
    """Raises SpecError."""
    _check(pool)
    row = await write.session.get(t.PoolRow, pool.name)
    if row is None:
        row = t.PoolRow(name=pool.name)
        write.session.add(row)
    elif rows.pool(row) == pool:
        return pool
    row.overcommit, row.awake_min_s = pool.overcommit, pool.awake_min_s
    write.event(
        EventKind.POOL_CHANGED,
        f"{pool.name} places up to {pool.overcommit:g} times what fits awake, "
        f"each awake for {pool.awake_min_s:g} s at least",
    )
    write.audit("pool.set", pool.name)
    return pool


def _check(pool: Pool) -> None:
    if not is_name(pool.name):
        raise SpecError("name", f"is {pool.name[:80]!r}, allowed is a name as in a spec")
    for field, value, least, most in (
        ("overcommit", pool.overcommit, 1.0, OVERCOMMIT_MAX),
        ("awake_min_s", pool.awake_min_s, 0.0, AWAKE_MIN_S_MAX),
    ):
        if not least <= value <= most:
            raise SpecError(field, f"is {value:g}, allowed is {least:g} to {most:g}")


async def delete(write: Write, name: str) -> None:
    """Raises NotFoundError."""
    row = await write.session.get(t.PoolRow, name)
    if row is None:
        raise NotFoundError("pool", name)
    await write.session.delete(row)
    write.event(EventKind.POOL_CHANGED, f"{name} has the usual settings again")
    write.audit("pool.delete", name)


async def every(session: AsyncSession) -> tuple[Pool, ...]:
    """Those that were given settings of their own, by name."""
    return tuple(map(rows.pool, await session.scalars(select(t.PoolRow).order_by(t.PoolRow.name))))
