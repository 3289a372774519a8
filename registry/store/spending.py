"""What keys have spent: a sum for each key and day, month and all time, beside the usage rows."""

from collections.abc import Iterable

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from registry import tables as t
from registry.state import BudgetPeriod, Key

_KEYS_ASKED_MAX = 10_000  # at once: SQLite binds 32,766 values

# The new rows, summed up by key and day, counted for each window that `BudgetPeriod.window` names.
# All of it happens in the database: row by row through RETURNING it would cost half as much again
# as writing the rows, for each one hands the interpreter's lock over.
_ADDITION = """
INSERT INTO spending (key_id, period, cost_nano)
SELECT key_id, {named} AS period, SUM(cost_nano)
FROM (
    SELECT key_id, {day} AS day, SUM(cost_nano) AS cost_nano
    FROM (
        SELECT key_id, closed_at, cost_nano FROM usage ORDER BY id DESC LIMIT {rows}
    ) AS fresh
    WHERE cost_nano > 0 GROUP BY 1, 2
) AS sums, (
    SELECT '{form_of_day}' AS form UNION ALL SELECT '{form_of_month}' UNION ALL SELECT '{total}'
) AS forms
WHERE true GROUP BY 1, 2
ON CONFLICT (key_id, period) DO UPDATE SET cost_nano = spending.cost_nano + excluded.cost_nano
"""
_ADDITIONS = {
    "sqlite": _ADDITION.format(
        day="CAST(closed_at / 86400 AS INTEGER)",
        named="strftime(form, day * 86400, 'unixepoch')",
        form_of_day="%Y-%m-%d",
        form_of_month="%Y-%m",
        total="total",
        rows="?",
    ),
    "postgresql": _ADDITION.format(
        day="floor(closed_at / 86400)",
        named="to_char(to_timestamp(day * 86400) AT TIME ZONE 'UTC', form)",
        form_of_day="YYYY-MM-DD",
        form_of_month="YYYY-MM",
        total='"total"',
        rows="$1",
    ),
}


async def add(connection: AsyncConnection, newest_rows: int) -> None:
    """Adds up the newest usage rows, that many: in the transaction that wrote them."""
    if newest_rows:
        addition = _ADDITIONS[connection.dialect.name]
        await connection.exec_driver_sql(addition, (newest_rows,))


async def spent(session: AsyncSession, keys: Iterable[Key], now: float) -> dict[str, int]:
    """By key id, in nanos: in the present period of each key's budget. Who spent nothing is left
    out.
    """
    names = {period: period.window(now).name for period in BudgetPeriod}
    wanted = {key.id: names[key.limits.budget_period] for key in keys}
    found: dict[str, int] = {}
    ids = list(wanted)
    for start in range(0, len(ids), _KEYS_ASKED_MAX):
        query = select(t.SpendingRow.key_id, t.SpendingRow.period, t.SpendingRow.cost_nano).where(
            t.SpendingRow.key_id.in_(ids[start : start + _KEYS_ASKED_MAX]),
            t.SpendingRow.period.in_(sorted(set(wanted.values()))),
        )
        found |= {
            key_id: cost_nano
            for key_id, period, cost_nano in await session.execute(query)
            if period == wanted[key_id]
        }
    return found
