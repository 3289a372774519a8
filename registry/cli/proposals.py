"""`proposals`: specs that a measurement suggests, until somebody takes or refuses them."""

from collections.abc import Iterator
from typing import Any

import click
import yaml
from rich.text import Text

from registry.cli.api import Api, path
from registry.cli.command import (
    Session,
    admin_url_option,
    output_option,
    pass_session,
    wait_options,
)
from registry.cli.complete import model_names, proposal_ids
from registry.cli.exits import MissingError, clean
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
        _page(answer.data, list(_changes(api, answer.data)))


def _page(view: View, changes: list[str]) -> None:
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
    heading("What it changes")
    for line in changes or ["nothing: the model is so already"]:
        show(Text(clean(line)))
    if view["taken"] is not None:
        return
    if view["revision"] != view["base_revision"]:
        late = f"the model is at revision {view['revision']} now: taking it (--force) undoes that"
        show(Text(f"\n{late}", style="yellow"))
    show(Text(f"\nmodelyard proposals take {view['id']}", style="dim"))


def _changes(api: Api, view: View) -> Iterator[str]:
    """Against the model's present spec; of a model that is deleted, the whole spec."""
    try:
        current = api.get(path("models", view["model"])).data["spec"]
    except MissingError:
        yield from yaml.safe_dump(view["spec"], sort_keys=False).splitlines()
        return
    yield from differences(current, view["spec"])


def differences(old: object, new: object, where: str = "") -> Iterator[str]:
    """``variants[0].topology.args.x: 1 → 2``, a line for each value that differs."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            inner = f"{where}.{key}" if where else str(key)
            yield from differences(old.get(key), new.get(key), inner)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from differences(one, other, f"{where}[{index}]")
    elif old != new:
        yield f"{where}: {_said(old)} → {_said(new)}"


def _said(value: object) -> str:
    return (
        "(default)"
        if value is None
        else yaml.safe_dump(value, default_flow_style=True).split("\n...")[0].strip()
    )


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
