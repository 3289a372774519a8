"""What gateways tell of their traffic and their demand. No event: it moves no version."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from registry import rows
from registry import tables as t
from registry.traffic import Demand


async def demand(session: AsyncSession) -> tuple[Demand, ...]:
    order = (t.DemandRow.model, t.DemandRow.gateway)
    return tuple(map(rows.demand, await session.scalars(select(t.DemandRow).order_by(*order))))
