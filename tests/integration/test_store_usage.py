"""Usage in the registry: what keys spent, sums by time, single rows in pages."""

import random
import sqlite3
from collections import Counter
from collections.abc import Awaitable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from registry_world import ME, Clock
from sqlalchemy import event, text

from registry.errors import SpecError
from registry.state import NANO, BudgetPeriod, Key, KeyKind, KeyLimits
from registry.store import Store, usage
from registry.usage import ALL_USAGE, UsageBy, UsageFilter, UsageRecord, UsageStatus

DAY_S = 86_400
NOON = datetime(2026, 11, 26, 12, tzinfo=UTC).timestamp()
BUDGETS = {period: KeyLimits(budget_nano=NANO, budget_period=period) for period in BudgetPeriod}


def used(request_id: str, **changes: object) -> UsageRecord:
    facts = {
        "key_id": "key_1",
        "model": "m",
        "variant": "default",
        "revision": 1,
        "mode": "aggregated",
        "status": UsageStatus.OK,
        "prompt_tokens": 3,
        "completion_tokens": 5,
        "opened_at": NOON - 1,
        "closed_at": NOON,
        "operation": "chat.completions",
        "cost_nano": 7,
    }
    return UsageRecord(request_id=request_id, **(facts | changes))


async def a_key(store: Store, period: BudgetPeriod = BudgetPeriod.MONTH) -> Key:
    key, _ = await store.create_key(
        name=period, kind=KeyKind.INFERENCE, limits=BUDGETS[period], by=ME
    )
    return key


async def spending(store: Store) -> dict[tuple[str, str], int]:
    async with store._scopes.read() as session:
        rows = await session.execute(text("SELECT key_id, period, cost_nano FROM spending"))
        return {(key_id, period): cost_nano for key_id, period, cost_nano in rows}


# --- what keys spent


async def test_a_cost_is_counted_once_for_its_day_its_month_and_all_time(
    store: Store,
) -> None:
    batch = [used(f"r{n}") for n in range(10)] + [used("free", key_id="key_2", cost_nano=0)]
    await store.record_usage(batch)
    await store.record_usage(batch)
    await store.record_usage([*batch[:3], used("new", cost_nano=30)])
    await store.record_usage([used("elsewhere", key_id="key_3", closed_at=NOON + DAY_S)])

    assert await spending(store) == {
        ("key_1", "2026-11-26"): 100,
        ("key_1", "2026-11"): 100,
        ("key_1", "total"): 100,
        ("key_3", "2026-11-27"): 7,
        ("key_3", "2026-11"): 7,
        ("key_3", "total"): 7,
    }


async def test_spending_is_what_the_rows_sum_up_to_whatever_comes_twice(
    store: Store,
) -> None:
    """Costs of many keys over years, in batches that overlap, at midnights too."""
    dice = random.Random(5)
    records = [
        used(
            f"r{n}",
            key_id=f"key_{dice.randrange(5)}",
            closed_at=(NOON // DAY_S + dice.randrange(-700, 700)) * DAY_S
            + dice.choice([0.0, 0.0004, 86_399.9996, dice.random() * DAY_S]),
            cost_nano=dice.choice([0, 1, 10**9]),
        )
        for n in range(2_500)
    ]
    for _ in range(4):
        await store.record_usage(dice.sample(records, 1_500))
    await store.record_usage(records)

    expected: Counter[tuple[str, str]] = Counter()
    for record in records:
        for period in BudgetPeriod:
            expected[record.key_id, period.window(record.closed_at).name] += record.cost_nano
    assert await spending(store) == {place: cost for place, cost in expected.items() if cost}
    spent = await spending(store)
    by_day = await store.usage(by=(UsageBy.KEY, UsageBy.DAY))
    assert {(each.key_id, each.day): each.cost_nano for each in by_day if each.cost_nano} == {
        place: cost for place, cost in spent.items() if len(place[1]) == 10
    }


async def test_a_key_shows_what_it_spent_in_the_present_period_of_its_budget(
    store: Store, clock: Clock
) -> None:
    clock.now = NOON
    keys = {period: await a_key(store, period) for period in BudgetPeriod}
    idle = await a_key(store)
    for days_ago, cost_nano in ((0, 1), (1, 10), (40, 100)):
        at = NOON - days_ago * DAY_S
        await store.record_usage(
            [
                used(f"{key.id}-{days_ago}", key_id=key.id, closed_at=at, cost_nano=cost_nano)
                for key in keys.values()
            ]
        )

    expected = {"day": 1, "month": 11, "total": 111}
    for key in (*await store.keys(), *(await store.snapshot()).keys):
        assert key.spent_nano == (0 if key.id == idle.id else expected[key.limits.budget_period])
    clock.now = NOON + DAY_S
    assert (await store.key(keys[BudgetPeriod.DAY].id)).spent_nano == 0
    clock.now = NOON + 5 * DAY_S  # December
    assert (await store.key(keys[BudgetPeriod.MONTH].id)).spent_nano == 0
    assert (await store.key(keys[BudgetPeriod.TOTAL].id)).spent_nano == 111


async def test_spending_moves_no_version(store: Store) -> None:
    await store.record_usage([used("r")])
    assert await store.version() == 0


# --- sums


async def test_sums_are_of_a_time_a_key_and_a_model_told_apart_as_asked(store: Store) -> None:
    await store.record_usage(
        [
            used("a", closed_at=NOON - DAY_S),
            used("b", model="n", status=UsageStatus.ERROR),
            used("c", key_id="key_2"),
            used("d", closed_at=NOON + 1),
        ]
    )

    today = UsageFilter(since=NOON, until=NOON + 1)
    assert [(t.key_id, t.model, t.requests) for t in await store.usage(today)] == [
        ("key_1", "n", 1),
        ("key_2", "m", 1),
    ]
    days = await store.usage(UsageFilter(key_id="key_1", model="m"), by=[UsageBy.DAY])
    assert [(t.day, t.key_id, t.requests, t.cost_nano) for t in days] == [
        ("2026-11-25", "", 1, 7),
        ("2026-11-26", "", 1, 7),
    ]
    (whole,) = await store.usage(by=[])
    assert (whole.requests, whole.errors, whole.prompt_tokens, whole.cost_nano) == (4, 1, 12, 28)
    assert await store.usage(UsageFilter(key_id="key_9")) == ()


async def test_more_sums_than_anybody_reads_are_refused(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage, "TOTALS_MAX", 2)
    await store.record_usage([used(f"r{n}", model=f"m{n}") for n in range(3)])
    with pytest.raises(SpecError, match="by: makes more than 2 sums: ask for less"):
        await store.usage()
    assert len(await store.usage(UsageFilter(model="m1"))) == 1


# --- single rows


async def all_pages(store: Store, which: UsageFilter, limit: int) -> list[UsageRecord]:
    found: list[UsageRecord] = []
    after = None
    while page := await store.usage_page(which, after=after, limit=limit):
        assert len(page) <= limit
        found += [line.record for line in page]
        after = page[-1].place
    return found


async def test_pages_give_every_row_once_in_the_order_of_their_ends(store: Store) -> None:
    dice = random.Random(3)
    records = [used(f"r{n}", closed_at=NOON + dice.randrange(9)) for n in range(50)]
    await store.record_usage(records)

    for limit in (1, 7, 1000):
        found = await all_pages(store, ALL_USAGE, limit)
        assert [record.closed_at for record in found] == sorted(r.closed_at for r in records)
        assert {record.request_id: record for record in found} == {r.request_id: r for r in records}
    some = UsageFilter(since=NOON + 2, until=NOON + 5)
    assert {record.closed_at - NOON for record in await all_pages(store, some, 2)} == {2, 3, 4}


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_no_question_walks_an_index_over_the_whole_table(
    store: Store, tmp_path: Path
) -> None:
    """The planner's choices, which make the difference between 0.3 and 2 s for 300,000 rows."""
    hour = UsageFilter(since=NOON, until=NOON + 3600)
    of_key = UsageFilter(since=NOON, key_id="key_7")
    whole, in_time = "SCAN usage", "USING INDEX ix_usage_closed_at (closed_at>?"
    of_a_key = "USING INDEX ix_usage_key_id_closed_at (key_id=? AND closed_at>?"
    for question, plan in (
        (store.usage(), whole),
        (store.usage(by=[UsageBy.KEY]), whole),
        (store.usage(by=[UsageBy.DAY, UsageBy.KEY]), whole),
        (store.usage(hour), in_time),
        (store.usage(hour, by=[UsageBy.KEY]), in_time),
        (store.usage(of_key, by=[UsageBy.DAY]), of_a_key),
        (store.usage_page(ALL_USAGE, after=(NOON, 0), limit=100), in_time),
        (store.usage_page(hour, after=(NOON, 0), limit=100), in_time),
        (store.usage_page(of_key, after=(NOON, 0), limit=100), of_a_key),
    ):
        steps = await planned(store, tmp_path, question)
        assert steps[0].startswith(f"SEARCH usage {plan}") or steps[0] == plan, steps
        assert len(steps) == 1 or "GROUP BY" in steps[1], "a page needs no sorting"


async def planned(store: Store, folder: Path, question: Awaitable[object]) -> list[str]:
    """How SQLite goes about the last statement of *question*."""
    asked: list[tuple[str, tuple[object, ...]]] = []

    def note(_connection, _cursor, statement, parameters, _context, _many) -> None:
        asked.append((statement, parameters))

    engine = store._scopes._engine.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    await question
    event.remove(engine, "before_cursor_execute", note)
    statement, parameters = asked[-1]
    with closing(sqlite3.connect(folder / "modelyard.db")) as connection:
        rows = connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
        return [detail for *_, detail in rows]


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_300_000_rows_are_summed_up_and_their_spending_is_not(
    store: Store, tmp_path: Path
) -> None:
    fill(tmp_path / "modelyard.db", 300_000)
    sums = await store.usage()
    assert (len(sums), sum(each.requests for each in sums)) == (200, 300_000)
    assert sum(each.cost_nano for each in sums) == 1000 * sum(range(300_000))
    late = UsageFilter(since=NOON + 23 * DAY_S)
    assert len(await store.usage(late, by=[UsageBy.DAY])) == 8
    await store.record_usage([used("new")])
    assert (await spending(store))["key_1", "total"] == 7, "only what is new is counted"


def fill(database: Path, count: int) -> None:
    """*count* requests of 200 keys and 8 models, evenly over the 30 days from NOON on."""
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute(
        """
        WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < :count - 1)
        INSERT INTO usage
        SELECT NULL, printf('chatcmpl-%032x', i * 7919), 'key_' || (i * 7919 % 200),
            'model-' || (i % 8), 'default', 1, 'aggregated', 'ok', 100 + i % 900, i % 300,
            :noon + i * :step - 1, :noon + i * :step, 'chat.completions', 1000 * i
        FROM n
        """,
        {"count": count, "noon": NOON, "step": 30 * DAY_S / count},
    )
    connection.close()
