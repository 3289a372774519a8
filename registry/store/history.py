"""What happened: events, audit, usage."""

from collections.abc import Sequence

from sqlalchemy import case, delete, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from registry import rows
from registry import tables as t
from registry.state import AuditEntry, Event, UsageRecord, UsageStatus, UsageTotal
from registry.store.scope import Write

EVENTS_KEPT = 100_000
PAGE_MAX = 10_000
_USAGE_BATCH_MAX = 200  # three bound values a record, and SQLite takes 999 where it is old


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


async def audit(session: AsyncSession, *, after: int, limit: int) -> tuple[AuditEntry, ...]:
    query = select(t.AuditRow).where(t.AuditRow.id > after).order_by(t.AuditRow.id)
    return tuple(map(rows.audit_entry, await session.scalars(query.limit(_page(limit)))))


def _page(limit: int) -> int:
    return max(1, min(limit, PAGE_MAX))


async def prune_events(write: Write) -> None:
    newest = await version(write.session)
    await write.session.execute(
        delete(t.EventRow)
        .where(t.EventRow.id <= newest - EVENTS_KEPT)
        .execution_options(synchronize_session=False)
    )


async def record_usage(write: Write, records: Sequence[UsageRecord]) -> None:
    """A record that is already there is not counted again."""
    write.quiet("usage is read by asking, not by following")
    for start in range(0, len(records), _USAGE_BATCH_MAX):
        await _record_batch(write.session, records[start : start + _USAGE_BATCH_MAX])


async def _record_batch(session: AsyncSession, records: Sequence[UsageRecord]) -> None:
    by_identity = {(r.request_id, r.key_id, r.opened_at): r for r in records}
    identity = (t.UsageRow.request_id, t.UsageRow.key_id, t.UsageRow.opened_at)
    known = await session.execute(select(*identity).where(tuple_(*identity).in_(by_identity)))
    for request_id, key_id, opened_at in known:
        del by_identity[request_id, key_id, opened_at]
    session.add_all(_usage_row(record) for record in by_identity.values())
    await session.flush()


def _usage_row(record: UsageRecord) -> t.UsageRow:
    return t.UsageRow(
        request_id=record.request_id,
        key_id=record.key_id,
        model=record.model,
        variant=record.variant,
        revision=record.revision,
        mode=record.mode,
        status=record.status,
        prompt_tokens=record.prompt_tokens,
        completion_tokens=record.completion_tokens,
        opened_at=record.opened_at,
        closed_at=record.closed_at,
    )


async def usage(session: AsyncSession) -> tuple[UsageTotal, ...]:
    """Summed by key and model."""
    by = (t.UsageRow.key_id, t.UsageRow.model)
    found = await session.execute(
        select(
            *by,
            func.count(),
            func.sum(case((t.UsageRow.status == UsageStatus.ERROR, 1), else_=0)),
            func.sum(t.UsageRow.prompt_tokens),
            func.sum(t.UsageRow.completion_tokens),
        )
        .group_by(*by)
        .order_by(*by)
    )
    return tuple(
        UsageTotal(
            key_id=key_id,
            model=model,
            requests=requests,
            errors=int(errors),
            prompt_tokens=int(prompt),
            completion_tokens=int(completion),
        )
        for key_id, model, requests, errors, prompt, completion in found
    )
