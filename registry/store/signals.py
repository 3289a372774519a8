"""What gateways tell of their traffic and their demand. No event: it moves no version.

Demand lies here by the clock of the database. Who tells it and who reads it have it by their own:
so it is as old for all of them. Traffic keeps its gateway's times, which are its keys.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import delete, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from registry import rows
from registry import tables as t
from registry.store.clock import database_now
from registry.store.plain import columns, plain
from registry.store.scope import Write
from registry.traffic import TRAFFIC_KEPT_S, Demand, Traffic

ROWS_MAX = 500  # a transaction
DEMAND_KEPT_S = 86_400.0


async def record_traffic(write: Write, told: Sequence[Traffic]) -> None:
    """What was told before of the same slot is replaced: a batch sent again counts once."""
    write.quiet("traffic is read by asking, not by following")
    await _put(write, t.TrafficRow, [_traffic_row(row) for row in told])


async def tell_demand(write: Write, told: Sequence[Demand]) -> None:
    """In place of what the same gateway last told of the same model."""
    write.quiet("demand comes every second")
    ahead_s = await _database_ahead_s(write)
    await _put(write, t.DemandRow, [msgspec.to_builtins(_shifted(row, ahead_s)) for row in told])


async def traffic(
    session: AsyncSession, since: float, until: float | None, model: str | None
) -> tuple[Traffic, ...]:
    """Of slots that began at *since* or later and before *until*, oldest first."""
    query = columns(t.TrafficRow).where(t.TrafficRow.at >= since)
    if until is not None:
        query = query.where(t.TrafficRow.at < until)
    if model is not None:
        query = query.where(t.TrafficRow.model == model)
    query = query.order_by(*_key(t.TrafficRow))
    return tuple(map(rows.traffic, await plain(session, t.TrafficRow, query)))


async def demand(session: AsyncSession, machine_now: float) -> tuple[Demand, ...]:
    clock = await database_now(session, machine_now)
    query = select(t.DemandRow, clock).order_by(t.DemandRow.model, t.DemandRow.gateway)
    return tuple(
        _shifted(rows.demand(row), machine_now - now) for row, now in await session.execute(query)
    )


async def forget(write: Write) -> None:
    """Traffic of long ago, and the demand of gateways that have not been heard of for a day."""
    write.quiet("signals are pruned")
    heard_at = write.now + await _database_ahead_s(write) - DEMAND_KEPT_S
    for table, oldest in ((t.TrafficRow, write.now - TRAFFIC_KEPT_S), (t.DemandRow, heard_at)):
        await write.session.execute(delete(table).where(table.at < oldest))


async def _database_ahead_s(write: Write) -> float:
    """How far the database's clock is ahead of this machine's."""
    clock = await database_now(write.session, write.now)
    database: float = (await write.session.execute(select(clock))).scalar_one()
    return database - write.now


def _shifted(row: Demand, by_s: float) -> Demand:
    return msgspec.structs.replace(
        row,
        at=row.at + by_s,
        oldest_at=row.oldest_at and row.oldest_at + by_s,
        asked_at=row.asked_at and row.asked_at + by_s,
    )


async def _put(
    write: Write, table: type[t.TrafficRow | t.DemandRow], values: list[dict[str, Any]]
) -> None:
    if not values:
        return
    if len(values) > ROWS_MAX:
        raise ValueError(f"{len(values)} rows at once, allowed are {ROWS_MAX}")
    connection = await write.session.connection()
    insert: Any = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    statement = insert(table)
    key = {column.key for column in _key(table)}
    said = {name: statement.excluded[name] for name in values[0] if name not in key}
    statement = statement.on_conflict_do_update(index_elements=sorted(key), set_=said)
    await connection.execute(statement, values)


def _key(table: type[t.Base]) -> tuple[Any, ...]:
    return tuple(table.__table__.primary_key)


def _traffic_row(row: Traffic) -> dict[str, Any]:
    values: dict[str, Any] = msgspec.to_builtins(row)
    for name in ("ttft", "tpot", "e2e"):
        values[name] = msgspec.json.encode(getattr(row, name)).decode()
    return values
