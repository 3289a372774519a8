"""Commands about workers, nodes and what happens to them: logs, cordon, uncordon, events."""

import codecs
import sys
from collections.abc import Iterator

import click
import msgspec

from registry.cli.api import path
from registry.cli.command import Session, admin_url_option, output_option, pass_session
from registry.cli.complete import model_names, node_names, worker_ids
from registry.cli.describe import EVENT_TITLES, event_row
from registry.cli.exits import UnreachableError, clean, clean_log
from registry.cli.output import emit, show_rows

_LINE_CHARS_MAX = 65_536


@click.command()
@click.argument("worker", shell_complete=worker_ids)
@click.option("-f", "--follow", is_flag=True, help="Go on until the worker ends.")
@click.option(
    "--tail",
    type=click.IntRange(0, 100_000),
    default=200,
    show_default=True,
    help="How many lines before the end to begin with.",
)
@admin_url_option
@pass_session
def logs(session: Session, worker: str, *, follow: bool, tail: int) -> None:
    """Show a worker's log."""
    where = path("workers", worker, "logs")
    with session.api() as api, api.stream(where, follow=follow, tail=tail) as response:
        for text in _pieces(response.iter_raw(), whole_lines=sys.stdout.isatty()):
            click.echo(text, nl=False)


def _pieces(chunks: Iterator[bytes], *, whole_lines: bool) -> Iterator[str]:
    """The log as text: as it came in a pipe; for a terminal by lines, harmless ones."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    pending = ""
    for chunk in chunks:
        pending += decoder.decode(chunk)
        if not whole_lines:
            yield pending
            pending = ""
        elif "\n" in pending or len(pending) > _LINE_CHARS_MAX:
            lines, end, pending = pending.rpartition("\n")
            yield clean_log(lines + end or pending)
            pending = pending if end else ""
    pending += decoder.decode(b"", final=True)
    yield clean_log(pending) if whole_lines else pending


@click.command()
@click.option("-f", "--follow", is_flag=True, help="Go on with what happens from now.")
@click.option("--model", help="Only this model's.", shell_complete=model_names)
@click.option(
    "--after", type=click.IntRange(min=0), help="Only events after this number (see -o json)."
)
@click.option(
    "--limit",
    type=click.IntRange(1, 1000),
    default=100,
    show_default=True,
    help="How many events at most; with --follow, how many to begin with.",
)
@admin_url_option
@output_option
@pass_session
def events(
    session: Session,
    *,
    follow: bool,
    model: str | None,
    after: int | None,
    limit: int,
    output: str,
) -> None:
    """Show what happened: the newest events, oldest of them first."""
    params = {"model": model, "after": after, "limit": limit}
    if follow:
        _follow_events(session, output, **params)
        return
    with session.api() as api:
        answer = api.get("/events", **params)
    if emit(answer, output):
        return
    if answer.data["items"]:
        rows = [event_row(event) for event in answer.data["items"]]
        show_rows(EVENT_TITLES, rows)
    else:
        click.echo("no events", err=True)


def _follow_events(session: Session, output: str, **params: str | int | None) -> None:
    """One line each: the event's JSON for programs, time, kind and message for people."""
    with session.api() as api, api.stream("/events", follow=True, **params) as response:
        for line in response.iter_lines():
            if not line:
                continue
            if output != "table":
                # A JSON object on a line of its own is also a YAML document of a stream.
                click.echo(line if output == "json" else f"--- {line}")
                continue
            event = msgspec.json.decode(line)
            _, kind, about, message = (str(cell) for cell in event_row(event))
            click.echo(clean(f"{event['at']}  {kind:17}  {about}  {message}"))
    raise UnreachableError("the gateway ended the stream of events: is it shutting down?")


@click.command()
@click.argument("node", shell_complete=node_names)
@admin_url_option
@pass_session
def cordon(session: Session, node: str) -> None:
    """Place nothing new on a node; what runs there goes on."""
    _set_node(session, node, "cordon")


@click.command()
@click.argument("node", shell_complete=node_names)
@admin_url_option
@pass_session
def uncordon(session: Session, node: str) -> None:
    """Let a node take new workers again.

    Of a drained one, the workers that have not gone yet stay.
    """
    _set_node(session, node, "uncordon")


def _set_node(session: Session, node: str, verb: str) -> None:
    with session.api() as api:
        answer = api.post(path("nodes", node, verb))
    click.echo(f"node/{clean(answer.data['name'])} is {answer.data['state']}")
