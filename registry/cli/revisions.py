"""Commands of revisions: `diff`, `history`, `rollback`."""

from collections.abc import Iterator
from typing import Any, TextIO

import click

from registry import spec as specs
from registry.cli.api import path
from registry.cli.command import (
    Session,
    admin_url_option,
    dry_run_option,
    if_match_option,
    now_option,
    output_option,
    pass_session,
    wait_options,
)
from registry.cli.complete import model_names
from registry.cli.difference import show_diff
from registry.cli.exits import DiffersError
from registry.cli.models import read_specs, report
from registry.cli.output import Cell, ago, emit, show_rows
from registry.cli.wait import wait_until_ready

_NUMBERS_MAX = 2


@click.command()
@click.argument("name", required=False, shell_complete=model_names)
@click.argument("revision", nargs=-1, type=click.IntRange(min=1))
@click.option(
    "-f",
    "--file",
    "files",
    type=click.File("r", encoding="utf-8"),
    multiple=True,
    metavar="FILE|-",
    help="What applying this file would change; repeat for several.",
)
@admin_url_option
@output_option
@pass_session
def diff(
    session: Session,
    name: str | None,
    *,
    revision: tuple[int, ...],
    files: tuple[TextIO, ...],
    output: str,
) -> None:
    """Say what a file would change, or a revision did.

    modelyard diff -f FILE: what apply would do, field by field, with the workers it would replace.
    modelyard diff MODEL: what the newest revision changed; with one REVISION what differs from
    that one to the newest, with two from the first to the second.

    Exit code 8 when something differs, 0 when nothing does.
    """
    if bool(files) == bool(name):
        raise click.UsageError("say either a model or files with -f")
    if len(revision) > _NUMBERS_MAX:
        raise click.UsageError("there are two revisions to compare at most")
    with session.api() as api:
        if name:
            params = dict(zip(("from", "to"), revision, strict=False))
            answer = api.get(path("models", name, "diff"), **params)
            views = [answer.data]
        else:
            found = [spec for file in files for spec in read_specs(file)]
            answer = api.post("/models:diff", {"models": [specs.to_data(spec) for spec in found]})
            views = answer.data["items"]
    if not emit(answer, output):
        for view in views:
            show_diff(view)
    differing = [view["name"] for view in views if view["changes"]]
    if differing:
        raise DiffersError(f"differs: {', '.join(differing)}")


@click.command()
@click.argument("name", shell_complete=model_names)
@click.option("--revision", type=click.IntRange(min=1), help="Only this one; -o yaml is its spec.")
@admin_url_option
@output_option
@pass_session
def history(session: Session, name: str, *, revision: int | None, output: str) -> None:
    """Show a model's revisions, by whom and what they changed.

    With --revision N and -o yaml it prints that spec, as `apply` takes it.
    """
    with session.api() as api:
        if revision is None:
            answer = api.get(path("models", name, "revisions"))
            items = answer.data["items"]
        else:
            answer = api.get(path("models", name, "revisions", str(revision)))
            items = [answer.data]
    if revision is not None and output == "yaml":
        click.echo(specs.to_yaml([specs.from_data(answer.data["spec"])]), nl=False)
    elif not emit(answer, output):
        show_rows(("REVISION>", "AGE", "BY", "TRAFFIC>", "CHANGED"), _rows(items))


def _rows(items: list[dict[str, Any]]) -> Iterator[tuple[Cell, ...]]:
    for item in items:
        newest = " (newest)" if item["newest"] else ""
        share = f"{item['traffic_percent']} %" if item["traffic_percent"] or newest else "-"
        yield (
            str(item["number"]),
            ago(item["created_at"]),
            item["created_by_name"] or item["created_by"],
            share,
            item["changes"] + newest,
        )


@click.command()
@click.argument("name", shell_complete=model_names)
@click.option(
    "--to",
    type=click.IntRange(min=1),
    metavar="REVISION",
    help="Which one (default: the last that differs from the newest and was not rolled back).",
)
@now_option
@dry_run_option
@if_match_option
@wait_options
@admin_url_option
@output_option
@pass_session
def rollback(
    session: Session,
    name: str,
    *,
    to: int | None,
    now: bool,
    dry_run: bool,
    if_match: int | None,
    wait: bool,
    timeout_s: int,
    output: str,
) -> None:
    """Go back to the content of an earlier revision.

    A new revision is made with it, which gets the traffic as any change does: by the steps of its
    own `rollout`, or with --now at once. `modelyard history NAME` shows which revisions there are.
    """
    headers = {} if if_match is None else {"if-match": str(if_match)}
    with session.api() as api:
        where = path("models", name, "rollback")
        report(api.post(where, headers=headers, to=to, now=now, dry_run=dry_run), output)
        if wait and not dry_run:
            wait_until_ready(api, [name], timeout_s)
