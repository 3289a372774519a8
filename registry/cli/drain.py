"""`drain`: a node's workers move to others, and how far that is."""

import time
from typing import Any

import click

from registry.cli.api import Api, path
from registry.cli.command import Duration, Session, admin_url_option, pass_session
from registry.cli.complete import node_names
from registry.cli.describe import staying_row
from registry.cli.exits import NotReadyError, clean
from registry.cli.output import show_rows, span

_POLL_S = 1.0


@click.command()
@click.argument("node", shell_complete=node_names)
@click.option("--wait", is_flag=True, help="Wait until no worker is left on it.")
@click.option(
    "--timeout",
    "timeout_s",
    type=Duration(),
    default="30m",
    show_default=True,
    help="How long --wait waits (exit code 6 after that).",
)
@admin_url_option
@pass_session
def drain(session: Session, node: str, *, wait: bool, timeout_s: int) -> None:
    """Move a node's workers to other nodes.

    Each goes once its successor there is ready. Where there is no room elsewhere, it goes without
    one as long as its role keeps min_available ready workers; else it stays, and says so.
    `modelyard uncordon` takes it all back.
    """
    with session.api() as api:
        api.post(path("nodes", node, "drain"))
        left = api.get(path("nodes", node)).data
        if not wait:
            _tell(node, left)
            return
        _wait(api, node, time.monotonic() + timeout_s, timeout_s)
    click.echo(f"node/{clean(node)} is drained: no worker is left on it")


def _tell(node: str, view: dict[str, Any]) -> None:
    workers = view["workers"]
    if not workers:
        click.echo(f"node/{clean(node)} is drained: no worker is left on it")
        return
    click.echo(f"node/{clean(node)} is draining; these workers are still on it:")
    show_rows(("WORKER", "PHASE", "AGE>", "WHY"), map(staying_row, workers))
    for model, condition in sorted(view["conditions"].items()):
        click.echo(clean(f"{model}: {condition}"), err=True)


def _wait(api: Api, node: str, until: float, timeout_s: int) -> None:
    """One line for each change, on stderr. Raises NotReadyError."""
    last = ""
    while True:
        view = api.get(path("nodes", node)).data
        if not view["workers"]:
            return
        text = _left(view)
        if text != last:
            click.echo(text, err=True)
            last = text
        if time.monotonic() >= until:
            raise NotReadyError(f"not empty after {span(timeout_s)}: {text}")
        time.sleep(_POLL_S)


def _left(view: dict[str, Any]) -> str:
    workers = view["workers"]
    named = ", ".join(f"{item['id']} ({item['reason'] or item['phase']})" for item in workers)
    why = "; ".join(f"{model}: {text}" for model, text in sorted(view["conditions"].items()))
    return clean(f"{len(workers)} left: {named}" + (f"; {why}" if why else ""))
