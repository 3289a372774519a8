"""`usage`: what requests took and what they cost."""

import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from registry.cli.command import Duration, Session, admin_url_option, output_option, pass_session
from registry.cli.complete import key_ids, model_names
from registry.cli.limits import amount_text
from registry.cli.output import Cell, emit, show_rows

_F = TypeVar("_F", bound=Callable[..., Any])

BY = ("key", "model", "day")  # `registry.usage.UsageBy`
_COLUMNS = {
    "key": {"KEY": "key_id", "NAME": "key_name"},
    "model": {"MODEL": "model"},
    "day": {"DAY": "day"},
}
_COUNTS = {
    "REQUESTS>": "requests",
    "ERRORS>": "errors",
    "PROMPT>": "prompt_tokens",
    "COMPLETION>": "completion_tokens",
}


class Moment(click.ParamType[str]):
    """``7d`` (ago), ``2026-11-01`` or ``2026-11-01T12:00:00Z`` → what the API takes."""

    name = "moment"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:  # noqa: ARG002
        return "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value)
        try:
            datetime.fromisoformat(text)
        except ValueError:
            pass
        else:
            return text
        try:
            ago = timedelta(seconds=Duration().convert(text, None, None))
            return f"{datetime.now(UTC) - ago:%Y-%m-%dT%H:%M:%SZ}"
        except (click.BadParameter, OverflowError):
            allowed = "a length of time as in 7d, a day as in 2026-01-31, or a time in ISO 8601"
            self.fail(f"{text!r}, allowed is {allowed}", param, ctx)


def _chosen(function: _F) -> _F:
    for option in (
        click.option("--model", help="Only this model's.", shell_complete=model_names),
        click.option("--key", help="Only this key's (its id).", shell_complete=key_ids),
        click.option("--until", type=Moment(), help="Only what ended before."),
        click.option(
            "--since",
            type=Moment(),
            help="Only what ended since: as in 7d, or 2026-01-31 (UTC).",
        ),
    ):
        function = option(function)
    return function


@click.group(cls=click.Group, invoke_without_command=True)
@_chosen
@click.option(
    "--by",
    type=click.Choice(BY),
    multiple=True,
    default=("key", "model"),
    show_default=True,
    help="What to tell apart; repeat for several.",
)
@admin_url_option
@output_option
@click.pass_context
def usage(
    context: click.Context, /, *, by: Sequence[str], output: str, **which: str | None
) -> None:
    """Sum up requests, tokens and cost; export them singly.

    modelyard usage --since 7d --by day
    """
    if context.invoked_subcommand is not None:
        given = map(context.get_parameter_source, (*which, "by", "output"))
        if ParameterSource.COMMANDLINE in given:
            raise click.UsageError(f"options of {context.invoked_subcommand} go behind it")
        return
    with context.ensure_object(Session).api() as api:
        answer = api.get("/usage", by=list(dict.fromkeys(by)), **which)
    if emit(answer, output):
        return
    items = answer.data["items"]
    if not items:
        click.echo("no usage in that time", err=True)
        return
    show_rows(usage_titles(by), usage_rows(items, by))


def usage_titles(by: Sequence[str]) -> tuple[str, ...]:
    return (*_columns(by), *_COUNTS, "COST>")


def usage_rows(items: Sequence[dict[str, Any]], by: Sequence[str]) -> Iterator[tuple[Cell, ...]]:
    for item in items:
        counts = (f"{item[field]:,}" for field in _COUNTS.values())
        told = (item[field] for field in _columns(by).values())
        yield (*told, *counts, amount_text(item["cost"]))


def _columns(by: Sequence[str]) -> dict[str, str]:
    return {title: field for each in by for title, field in _COLUMNS[each].items()}


@usage.command()
@_chosen
@admin_url_option
@pass_session
def export(session: Session, /, **which: str | None) -> None:
    """List every single request as CSV, in the order they ended.

    modelyard usage export --since 2026-01-01 --until 2026-02-01 > january.csv

    The exit code is 0 only where the list is whole.
    """
    with session.api() as api, api.stream("/usage.csv", follow=False, **which) as response:
        for chunk in response.iter_bytes():
            sys.stdout.buffer.write(chunk)
    sys.stdout.buffer.flush()
