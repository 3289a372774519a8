"""What a key may use, as options of a command and in words."""

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, TypeVar

import click

_F = TypeVar("_F", bound=Callable[..., Any])

NONE = "none"
PERIODS = ("day", "month", "total")  # `registry.state.BudgetPeriod`
_COUNT = re.compile(r"\d{1,13}")
_BUDGET = re.compile(rf"(\d{{1,10}}(?:\.\d{{1,9}})?)(?:/({'|'.join(PERIODS)}))?")


class Count(click.ParamType[int]):
    """A whole number → it; ``none`` → 0."""

    name = "count"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:  # noqa: ARG002
        return "N|none"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        if value == NONE:
            return 0
        if _COUNT.fullmatch(str(value)) is None:
            self.fail(f"{value!r}, allowed is a whole number, or none", param, ctx)
        return int(value)


class Budget(click.ParamType[Mapping[str, Any]]):
    """``25/month``, ``0.5/day``, ``100/total`` → the API's budget; ``none`` → an empty one."""

    name = "budget"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:  # noqa: ARG002
        return "AMOUNT/PERIOD|none"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Mapping[str, Any]:
        if isinstance(value, Mapping):
            return value
        if value == NONE:
            return {}
        match = _BUDGET.fullmatch(str(value))
        if match is None:
            allowed = f"an amount and a period ({', '.join(PERIODS)}), as in 25/month, or none"
            self.fail(f"{value!r}, allowed is {allowed}", param, ctx)
        return {"amount": Decimal(match[1]), "period": match[2] or "month"}


def limit_options(function: _F) -> _F:
    for name, type_, text in (
        ("--budget", Budget(), "What its tokens may cost, as in 25/month, 1.5/day or 100/total."),
        ("--in-flight", Count(), "How many of its requests may be under way at once."),
        ("--tokens-per-minute", Count(), "Tokens of prompts and answers together."),
        ("--requests-per-minute", Count(), "Requests let in."),
    ):
        function = click.option(name, type=type_, help=text)(function)
    return function


def limits_body(given: Mapping[str, Any]) -> dict[str, Any]:
    """The API's limits of those options that were given."""
    body = {name: value for name, value in given.items() if value is not None}
    if body.get("budget") == {}:
        body["budget"] = None
    return body


def limits_text(limits: Mapping[str, Any]) -> str:
    """``60 requests/min, 1,000 tokens/min, 4 at once, 25/month``; "" where there are none."""
    words = {
        "requests_per_minute": "requests/min",
        "tokens_per_minute": "tokens/min",
        "in_flight": "at once",
    }
    parts = [f"{limits[name]:,} {unit}" for name, unit in words.items() if limits.get(name)]
    if limits.get("budget"):
        parts.append(money_text(limits["budget"]))
    return ", ".join(parts)


def money_text(money: Mapping[str, Any]) -> str:
    """``25/month``, ``100 in total``."""
    amount, period = amount_text(money["amount"]), money["period"]
    return f"{amount} in total" if period == "total" else f"{amount}/{period}"


def spent_text(key: Mapping[str, Any]) -> str:
    """``1.25 of 25/month``; without a budget ``1.25/month``, and "-" where nothing was spent."""
    budget, spent = key["limits"]["budget"], key["spent"]
    if budget:
        return f"{amount_text(spent['amount'])} of {money_text(budget)}"
    return money_text(spent) if spent["amount"] else "-"


def amount_text(amount: float) -> str:
    """At most six decimals, without zeros that say nothing; what is less is not shown as 0."""
    text = f"{amount:,.6f}".rstrip("0").rstrip(".")
    return text if text != "0" or not amount else f"{amount:.9f}".rstrip("0")
