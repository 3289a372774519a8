"""How models get from one revision to another."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from registry import rows
from registry import tables as t
from registry.state import Rollout

_WITH_BASE = select(t.RolloutRow, t.RevisionRow.spec).join(
    t.RevisionRow,
    (t.RevisionRow.model == t.RolloutRow.model)
    & (t.RevisionRow.number == t.RolloutRow.from_revision),
)


async def active(session: AsyncSession) -> dict[str, Rollout]:
    """Those under way, by model."""
    found = await session.execute(_WITH_BASE.where(t.RolloutRow.ended_at.is_(None)))
    return {row.model: rows.rollout(row, base) for row, base in found}


async def active_of(session: AsyncSession, model: str) -> Rollout | None:
    query = _WITH_BASE.where(t.RolloutRow.model == model, t.RolloutRow.ended_at.is_(None))
    found = (await session.execute(query)).one_or_none()
    return rows.rollout(found[0], found[1]) if found is not None else None


async def of(session: AsyncSession, model: str) -> tuple[Rollout, ...]:
    """All of a model, newest first."""
    query = _WITH_BASE.where(t.RolloutRow.model == model).order_by(t.RolloutRow.to_revision.desc())
    return tuple(rows.rollout(row, base) for row, base in await session.execute(query))
