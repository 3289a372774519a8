"""What happened: events, audit, usage."""

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain

import msgspec
from sqlalchemy import case, delete, func, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncSession

from registry import rows
from registry import tables as t
from registry.state import AuditEntry, Event, UsageRecord, UsageStatus, UsageTotal
from registry.store.scope import Write

EVENTS_KEPT = 100_000
PAGE_MAX = 10_000

_USAGE = UsageRecord.__struct_fields__
_USAGE_ROWS_MAX = 1_000  # of eleven values: SQLite binds 32,766


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
    connection = await write.session.connection()
    if connection.dialect.name != "sqlite":
        statement = postgresql.insert(t.UsageRow).on_conflict_do_nothing()
        if records:
            await connection.execute(statement, msgspec.to_builtins(records))
        return
    # Many rows a step, past the unit of work: row by row a record would cost as much as the rest
    # of its request, most of it in handing the interpreter's lock to the driver's thread.
    for start in range(0, len(records), _USAGE_ROWS_MAX):
        part = msgspec.to_builtins(records[start : start + _USAGE_ROWS_MAX])
        values = tuple(chain.from_iterable(record.values() for record in part))
        await connection.exec_driver_sql(_usage_insert(len(part)), values)


@lru_cache(maxsize=_USAGE_ROWS_MAX)
def _usage_insert(rows_count: int) -> str:
    row = f"({', '.join('?' * len(_USAGE))})"
    return (
        f"INSERT INTO usage ({', '.join(_USAGE)}) VALUES "  # noqa: S608 - the names are our own
        f"{', '.join([row] * rows_count)} ON CONFLICT DO NOTHING"
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
