"""What gateways told of both revisions of a rollout since its step began, added up as it comes.

So a gate may watch for days, though traffic is kept for an hour, and reads a few rows. Of the last
step at which both revisions had a part the sums stay when the rollout is over. No event, as for
traffic itself.
"""

from collections.abc import Iterable, Sequence

import msgspec
from sqlalchemy import delete, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from registry import rows
from registry import tables as t
from registry.store.scope import Write
from registry.traffic import StepTraffic, Traffic

_WHOLE = 100  # percent

_Key = tuple[float, str, str, str, int]


async def add(write: Write, told: Sequence[Traffic]) -> None:
    """Before the same rows are recorded: what is there already was counted then."""
    rolling = await _rolling(write.session, {row.model for row in told})
    mine = [
        row
        for row in told
        if (rollout := rolling.get(row.model)) is not None
        and row.revision in {rollout.from_revision, rollout.to_revision}
        and row.at >= rollout.step_at
    ]
    if not mine:
        return
    known = await _known(write.session, mine)
    news = [row for row in mine if _key(row) not in known]
    for model in sorted({row.model for row in news}):
        await _add(write.session, rolling[model], [row for row in news if row.model == model])


async def _rolling(session: AsyncSession, models: set[str]) -> dict[str, t.RolloutRow]:
    """Locked, so that gateways add one after the other, and no step begins meanwhile."""
    query = (
        select(t.RolloutRow)
        .where(t.RolloutRow.ended_at.is_(None), t.RolloutRow.percent < _WHOLE)
        .where(t.RolloutRow.model.in_(models))
        .order_by(t.RolloutRow.model)
        .with_for_update()
    )
    return {row.model: row for row in await session.scalars(query)}


async def _known(session: AsyncSession, told: Iterable[Traffic]) -> set[_Key]:
    key = (
        *(t.TrafficRow.at, t.TrafficRow.gateway, t.TrafficRow.model),
        *(t.TrafficRow.variant, t.TrafficRow.revision),
    )
    found = await session.execute(select(*key).where(tuple_(*key).in_(map(_key, told))))
    return {(row[0], row[1], row[2], row[3], row[4]) for row in found}


def _key(row: Traffic) -> _Key:
    return row.at, row.gateway, row.model, row.variant, row.revision


async def _add(session: AsyncSession, rollout: t.RolloutRow, news: Iterable[Traffic]) -> None:
    table = t.RolloutTrafficRow
    await session.execute(
        delete(table).where(
            table.model == rollout.model,
            table.to_revision == rollout.to_revision,
            table.since != rollout.step_at,
        )
    )
    sums = {
        (row.revision, row.variant): row
        for row in await of(session, rollout.model, rollout.to_revision)
    }
    for row in news:
        key = row.revision, row.variant
        empty = StepTraffic(
            model=rollout.model,
            variant=row.variant,
            revision=row.revision,
            percent=rollout.percent,
            since=rollout.step_at,
            until=rollout.step_at,
        )
        sums[key] = sums.get(key, empty) + row
    for found in sums.values():
        values = msgspec.structs.asdict(found)
        values["ttft"], values["tpot"] = map(rows.latencies_text, (found.ttft, found.tpot))
        await session.merge(table(to_revision=rollout.to_revision, **values))
    await session.flush()


async def of(session: AsyncSession, model: str, to_revision: int) -> tuple[StepTraffic, ...]:
    query = (
        select(t.RolloutTrafficRow)
        .where(t.RolloutTrafficRow.model == model, t.RolloutTrafficRow.to_revision == to_revision)
        .order_by(t.RolloutTrafficRow.revision, t.RolloutTrafficRow.variant)
    )
    return tuple(map(rows.step_traffic, await session.scalars(query)))
