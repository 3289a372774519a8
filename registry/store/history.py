"""What happened: events and audit."""

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from registry import rows
from registry import tables as t
from registry.state import AuditEntry, Event
from registry.store.scope import Write

EVENTS_KEPT = 100_000
PAGE_MAX = 10_000


async def version(session: AsyncSession) -> int:
    return await session.scalar(select(func.max(t.EventRow.id))) or 0


async def events(
    session: AsyncSession, *, after: int, model: str | None, limit: int, newest: bool
) -> tuple[Event, ...]:
    """In the order they happened: the first *limit* after *after*, or with *newest* the last."""
    order = t.EventRow.id.desc() if newest else t.EventRow.id.asc()
    query = select(t.EventRow).where(t.EventRow.id > after).order_by(order)
    if model is not None:
        query = query.where(t.EventRow.model == model)
    found = list(await session.scalars(query.limit(_page(limit))))
    return tuple(map(rows.event, reversed(found) if newest else found))


async def audit(
    session: AsyncSession, *, after: int, limit: int, newest: bool
) -> tuple[AuditEntry, ...]:
    """As `events`."""
    order = t.AuditRow.id.desc() if newest else t.AuditRow.id.asc()
    query = select(t.AuditRow).where(t.AuditRow.id > after).order_by(order)
    found = list(await session.scalars(query.limit(_page(limit))))
    return tuple(map(rows.audit_entry, reversed(found) if newest else found))


def _page(limit: int) -> int:
    return max(1, min(limit, PAGE_MAX))


async def prune_events(write: Write) -> None:
    newest = await version(write.session)
    await write.session.execute(
        delete(t.EventRow)
        .where(t.EventRow.id <= newest - EVENTS_KEPT)
        .execution_options(synchronize_session=False)
    )
