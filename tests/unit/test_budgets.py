"""The windows that budgets are counted in."""

import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.spec.model import COST_NANO_MAX, Price
from registry.state import BudgetPeriod

AT = datetime(2028, 2, 29, 23, 59, 59, 999_000, UTC).timestamp()


@pytest.mark.parametrize(
    ("period", "name", "begins", "ends"),
    [
        (BudgetPeriod.DAY, "2028-02-29", "2028-02-29", "2028-03-01"),
        (BudgetPeriod.MONTH, "2028-02", "2028-02-01", "2028-03-01"),
    ],
)
def test_a_window_is_a_day_or_a_month_of_utc(period, name, begins, ends):
    window = period.window(AT)

    assert window.name == name
    assert window.begins_at == datetime.fromisoformat(begins + "T00:00Z").timestamp()
    assert window.ends_at == datetime.fromisoformat(ends + "T00:00Z").timestamp()


def test_the_total_is_of_all_time():
    assert BudgetPeriod.TOTAL.window(AT) == BudgetPeriod.TOTAL.window(0.0)
    assert BudgetPeriod.TOTAL.window(AT).ends_at == math.inf


@given(at=st.floats(0, 4e9), period=st.sampled_from(BudgetPeriod))
def test_every_moment_lies_in_one_window_and_the_next_begins_where_it_ends(at, period):
    window = period.window(at)

    assert window.begins_at <= at < window.ends_at
    assert period.window(window.begins_at) == window
    if window.ends_at < math.inf:
        after = period.window(window.ends_at)
        assert after.begins_at == window.ends_at
        assert after.name > window.name


def test_what_a_token_costs_is_exact_and_an_absurd_count_is_bounded():
    price = Price(input=0.15, output=1234.567)

    assert price.cost_nano(1, 0) == 150
    assert price.cost_nano(0, 1) == 1_234_567
    assert price.cost_nano(3_000_000, 7) == 450_000_000 + 7 * 1_234_567
    assert Price().cost_nano(2**40, 2**40) == 0
    assert Price(input=10**6).cost_nano(2**40, 2**40) == COST_NANO_MAX < 2**63 // 9000
