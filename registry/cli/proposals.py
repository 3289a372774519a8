"""`proposals`: specs that a measurement suggests, until somebody takes or refuses them."""

from typing import Any

import click
from rich.text import Text

from registry.cli.api import path
from registry.cli.command import (
    Session,
    admin_url_option,
    output_option,
    pass_session,
    wait_options,
)
from registry.cli.complete import model_names, proposal_ids
from registry.cli.difference import show_diff
from registry.cli.exits import clean
from registry.cli.output import Cell, ago, emit, facts, heading, show, show_rows
from registry.cli.wait import wait_until_ready

TITLES = ("PROPOSAL", "MODEL", "FROM>", "AGE", "DECIDED", "WHY")

View = dict[str, Any]


@click.group()
def proposals() -> None:
    """Look at suggested specs, take or refuse them."""


@proposals.command("list")
@click.option("--model", help="Only this model's.", shell_complete=model_names)
@admin_url_option
@output_option
@pass_session
def list_proposals(session: Session, model: str | None, output: str) -> None:
    """Suggested specs, newest first; FROM is the revision that each was made from."""
    with session.api() as api:
        answer = api.get("/proposals", model=model)
    if emit(answer, output):
        return
    if answer.data["items"]:
        show_rows(TITLES, map(_row, answer.data["items"]))
    else:
        click.echo("no proposals (`modelyard tune prefill MODEL` makes one)", err=True)


def _row(item: View) -> tuple[Cell, ...]:
    made_from = str(item["base_revision"])
    return (
        item["id"],
        item["model"],
        made_from,
        ago(item["created_at"]),
        _state(item),
        item["reason"],
    )


def _state(item: View) -> str:
    if item["taken"] is None:
        return "no" if item["revision"] == item["base_revision"] else "no, outdated"
    return "taken" if item["taken"] else "refused"


@proposals.command("show")
@click.argument("proposal", shell_complete=proposal_ids)
@admin_url_option
@output_option
@pass_session
def show_proposal(session: Session, proposal: str, output: str) -> None:
    """A proposal: why it is made, and what it changes of the model as it is now."""
    with session.api() as api:
        answer = api.get(path("proposals", proposal))
        if emit(answer, output):
            return
        coming = api.post("/models:diff", {"models": [answer.data["spec"]]})
    _page(answer.data, coming.data["items"][0])


def _page(view: View, difference: View) -> None:
    show(
        facts(
            [
                ("Proposal", view["id"]),
                ("Model", view["model"]),
                ("Made from", f"revision {view['base_revision']}, {ago(view['created_at'])} ago"),
                ("Made by", view["created_by"]),
                ("Decided", _state(view)),
                ("Why", view["reason"]),
            ]
        )
    )
    heading("What it would change" if view["taken"] is None else "What it would change now")
    show_diff(difference)
    if view["taken"] is not None:
        return
    if view["revision"] != view["base_revision"]:
        late = f"the model is at revision {view['revision']} now: taking it (--force) undoes that"
        show(Text(f"\n{late}", style="yellow"))
    show(Text(f"\nmodelyard proposals take {view['id']}", style="dim"))


@proposals.command("take")
@click.argument("proposal", shell_complete=proposal_ids)
@click.option(
    "--force", is_flag=True, help="Also where the model has changed since; that is undone then."
)
@wait_options
@admin_url_option
@output_option
@pass_session
def take(
    session: Session, proposal: str, *, force: bool, wait: bool, timeout_s: int, output: str
) -> None:
    """Make a proposal the model's newest revision, as `apply` would."""
    with session.api() as api:
        answer = api.post(path("proposals", proposal, "take"), force=force)
        view = answer.data
        if not emit(answer, output):
            click.echo(f"model/{clean(view['model'])} changed (revision {view['revision']})")
        if wait:
            wait_until_ready(api, [view["model"]], timeout_s)


@proposals.command("refuse")
@click.argument("proposal", shell_complete=proposal_ids)
@admin_url_option
@output_option
@pass_session
def refuse(session: Session, proposal: str, output: str) -> None:
    """Put a proposal aside; it stays listed as refused."""
    with session.api() as api:
        answer = api.post(path("proposals", proposal, "refuse"))
    if not emit(answer, output):
        click.echo(f"proposal/{clean(proposal)} refused")
