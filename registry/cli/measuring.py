"""What the commands that measure a running engine have in common: their options, their streams."""

from collections.abc import Callable
from typing import Any

import click
import httpx
import msgspec

from registry.cli.command import Duration
from registry.cli.exits import RefusedError, UnreachableError, clean

Line = dict[str, Any]

variant_option = click.option(
    "--variant", default="", help="Which one, where the model has several."
)
force_option = click.option(
    "--force", is_flag=True, help="Also where the only worker that serves is busy; it gets slower."
)


def seconds_option(default: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return click.option(
        "--seconds",
        type=Duration(),
        default=default,
        show_default=True,
        help="For how long to measure, about.",
    )


def last_line(response: httpx.Response, kind: str, progress: Callable[[Line], str]) -> Line:
    """Of a measurement's stream, which is of that *kind*; on stderr meanwhile what *progress* says
    of each. Raises CliError where it could not be measured.
    """
    last: Line = {}
    for text in response.iter_lines():
        last = msgspec.json.decode(text)
        said = f"note: {last['message']}" if last["kind"] == "noted" else progress(last)
        if said:
            click.echo(clean(said), err=True)
    if last.get("kind") == "failed":
        raise RefusedError(last["message"])
    if last.get("kind") != kind:
        raise UnreachableError("the gateway ended the measurement: is it shutting down?")
    return last


def round_name(line: Line) -> str:
    """Of a line of kind *measured*."""
    return f"round {line['round']}" if line["round"] else "warm-up"
