"""How models of a pool share devices."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from registry import rows
from registry import tables as t
from registry.state import Pool


async def every(session: AsyncSession) -> tuple[Pool, ...]:
    """Those that were given settings of their own, by name."""
    return tuple(map(rows.pool, await session.scalars(select(t.PoolRow).order_by(t.PoolRow.name))))
