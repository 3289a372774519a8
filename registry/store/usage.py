"""What requests used: written in batches, read as sums, or row by row in pages."""

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Integer,
    Select,
    case,
    cast,
    func,
    select,
    tuple_,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from registry import tables as t
from registry.errors import SpecError
from registry.state import BudgetPeriod
from registry.store import spending
from registry.store.scope import Write
from registry.usage import UsageBy, UsageFilter, UsageLine, UsageRecord, UsageStatus, UsageTotal

PAGE_MAX = 1_000
TOTALS_MAX = 10_000
_DAY_S = 86_400
_FIELDS = UsageRecord.__struct_fields__
_ROWS_MAX = 1_000  # a statement, of thirteen values each: SQLite binds 32,766


async def record(write: Write, records: Sequence[UsageRecord]) -> None:
    """A record that is already there is not counted again, nor is its cost."""
    write.quiet("usage is read by asking, not by following")
    connection = await write.session.connection()
    # The newest rows are ours: the one write lock is held until the commit.
    inserted = await _insert(connection, records)
    if any(record.cost_nano for record in records):
        await spending.add(connection, inserted)


async def _insert(connection: AsyncConnection, records: Sequence[UsageRecord]) -> int:
    """How many were new."""
    if connection.dialect.name != "sqlite":
        statement = postgresql.insert(t.UsageRow).on_conflict_do_nothing()
        rows = msgspec.to_builtins(records)
        if not rows:
            return 0
        return len((await connection.execute(statement.returning(t.UsageRow.id), rows)).all())
    # Many rows a step, past the unit of work: row by row a record would cost as much as the rest
    # of its request, most of it in handing the interpreter's lock to the driver's thread.
    inserted = 0
    for start in range(0, len(records), _ROWS_MAX):
        part = msgspec.to_builtins(records[start : start + _ROWS_MAX])
        values = tuple(chain.from_iterable(record.values() for record in part))
        inserted += (await connection.exec_driver_sql(_insertion(len(part)), values)).rowcount
    return inserted


@lru_cache(maxsize=_ROWS_MAX)
def _insertion(rows_count: int) -> str:
    row = f"({', '.join('?' * len(_FIELDS))})"
    return (
        f"INSERT INTO usage ({', '.join(_FIELDS)}) VALUES "  # noqa: S608 - the names are our own
        f"{', '.join([row] * rows_count)} ON CONFLICT DO NOTHING"
    )


async def totals(
    session: AsyncSession, which: UsageFilter, by: Sequence[UsageBy]
) -> tuple[UsageTotal, ...]:
    """In the order of *by*. Raises SpecError where they would be more than `TOTALS_MAX`."""
    connection = await session.connection()
    groups = {_NAMES[each]: _group(each, connection.dialect.name) for each in by}
    sums = {
        "requests": func.count(),
        "errors": _sum(case((t.UsageRow.status == UsageStatus.ERROR, 1), else_=0)),
        "prompt_tokens": _sum(t.UsageRow.prompt_tokens),
        "completion_tokens": _sum(t.UsageRow.completion_tokens),
        "cost_nano": _sum(t.UsageRow.cost_nano),
    }
    query = _chosen(select(*groups.values(), *sums.values()), which)
    query = query.group_by(*groups.values()).order_by(*groups.values()).limit(TOTALS_MAX + 1)
    found = (await session.execute(query)).all()
    if len(found) > TOTALS_MAX:
        raise SpecError("by", f"makes more than {TOTALS_MAX} sums: ask for less time, or by less")
    named = (dict(zip((*groups, *sums), row, strict=True)) for row in found)
    return tuple(_total(facts) for facts in named)


def _total(facts: dict[str, Any]) -> UsageTotal:
    if "day" in facts:
        facts["day"] = BudgetPeriod.DAY.window(int(facts["day"]) * _DAY_S).name
    return UsageTotal(**facts)


def _sum(values: ColumnElement[int] | InstrumentedAttribute[int]) -> ColumnElement[int]:
    """0 of nothing, and a whole number: PostgreSQL sums them up to a decimal."""
    return cast(func.coalesce(func.sum(values), 0), BigInteger)


_NAMES = {UsageBy.KEY: "key_id", UsageBy.MODEL: "model", UsageBy.DAY: "day"}


def _group(by: UsageBy, dialect: str) -> ColumnElement[Any]:
    if by is UsageBy.DAY:
        days = t.UsageRow.closed_at / _DAY_S
        return cast(days, Integer) if dialect == "sqlite" else func.floor(days)
    column = t.UsageRow.key_id if by is UsageBy.KEY else t.UsageRow.model
    # No plain column: for the groups' order SQLite would walk an index over the whole table, row
    # by row, which takes three times as long as reading it as it lies and sorting the sums.
    return column + ""


def _chosen(query: Select[Any], which: UsageFilter) -> Select[Any]:
    # No bound where there is none: the planner would take it for a narrow one.
    if which.since > -math.inf:
        query = query.where(t.UsageRow.closed_at >= which.since)
    if which.until < math.inf:
        query = query.where(t.UsageRow.closed_at < which.until)
    if which.key_id:
        query = query.where(t.UsageRow.key_id == which.key_id)
    if which.model:
        query = query.where(t.UsageRow.model == which.model)
    return query


async def page(
    session: AsyncSession, which: UsageFilter, after: tuple[float, int] | None, limit: int
) -> tuple[UsageLine, ...]:
    """The first *limit* rows after the place *after*, in the order in which requests ended."""
    place = (t.UsageRow.closed_at, t.UsageRow.id)
    columns = (getattr(t.UsageRow, name) for name in _FIELDS)
    query = _chosen(select(t.UsageRow.id, *columns), which)
    if after is not None:
        query = query.where(tuple_(*place) > tuple_(*after))
    found = await session.execute(query.order_by(*place).limit(max(1, min(limit, PAGE_MAX))))
    return tuple(
        UsageLine(
            id=number, record=msgspec.convert(dict(zip(_FIELDS, row, strict=True)), UsageRecord)
        )
        for number, *row in found
    )
