"""What gateways tell of their traffic and their demand. No event: it moves no version."""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import delete
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from registry import rows
from registry import tables as t
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
    await _put(write, t.DemandRow, [msgspec.to_builtins(row) for row in told])


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


async def demand(session: AsyncSession) -> tuple[Demand, ...]:
    query = columns(t.DemandRow).order_by(t.DemandRow.model, t.DemandRow.gateway)
    return tuple(map(rows.demand, await plain(session, t.DemandRow, query)))


async def forget(write: Write) -> None:
    """Traffic of long ago, and the demand of gateways that have not been heard of for a day."""
    write.quiet("signals are pruned")
    for table, kept_s in ((t.TrafficRow, TRAFFIC_KEPT_S), (t.DemandRow, DEMAND_KEPT_S)):
        await write.session.execute(delete(table).where(table.at < write.now - kept_s))


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
