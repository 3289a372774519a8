"""How many workers autoscaled roles are to have."""

from collections import defaultdict

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from registry import rows
from registry import tables as t
from registry.state import RoleScale


async def every(session: AsyncSession) -> dict[str, tuple[RoleScale, ...]]:
    """By model."""
    found: dict[str, list[RoleScale]] = defaultdict(list)
    for row in await session.scalars(select(t.ScaleRow)):
        found[row.model].append(rows.scale(row))
    return {model: tuple(scales) for model, scales in found.items()}


async def of(session: AsyncSession, model: str) -> tuple[RoleScale, ...]:
    found = await session.scalars(select(t.ScaleRow).where(t.ScaleRow.model == model))
    return tuple(map(rows.scale, found))
