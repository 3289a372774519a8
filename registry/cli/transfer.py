"""`export` and `restore`: everything out of a registry, and into another one."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import click

from registry.cli.command import (
    Session,
    admin_url_option,
    dry_run_option,
    output_option,
    pass_session,
)
from registry.cli.difference import show_diff
from registry.cli.exits import RefusedError
from registry.cli.output import Cell, emit, show_rows
from registry.yaml_documents import SPEC_FILE_BYTES_MAX


@click.command()
@click.option(
    "-o",
    "--output",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Where to; a file is yours alone (0600). Without it: standard output.",
)
@click.option(
    "--with-keys",
    is_flag=True,
    help="The keys, too, so that the same secrets open the other one: as digests, which are "
    "nobody else's business.",
)
@admin_url_option
@pass_session
def export(session: Session, file: Path | None, *, with_keys: bool) -> None:
    """Write everything that serves as YAML.

    Specs of models, quotas and pools; `restore` brings them into another registry. Usage, earlier
    revisions and nodes are not in it. With models alone it is a file as `apply` takes it.
    """
    with session.api() as api, api.stream("/export", follow=False, with_keys=with_keys) as answer:
        text = answer.read()
    if file is None:
        click.echo(text.decode(), nl=False)
        return
    try:
        _write_private(file, text)
    except OSError as error:
        raise RefusedError(f"{file} cannot be written: {error}") from None
    click.echo(f"exported to {file}", err=True)


def _write_private(file: Path, text: bytes) -> None:
    """All of it or nothing, whatever was there before."""
    part = file.with_name(f"{file.name}.part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as opened:
        opened.write(text)
    part.rename(file)


@click.command()
@click.option(
    "-f",
    "--file",
    type=click.File("r", encoding="utf-8"),
    required=True,
    metavar="FILE|-",
    help="What `modelyard export` wrote; - reads standard input.",
)
@dry_run_option
@admin_url_option
@output_option
@pass_session
def restore(session: Session, file: TextIO, *, dry_run: bool, output: str) -> None:
    """Make everything in an export be there, or nothing.

    All of it is checked first. What is there beside it stays, and to repeat it changes nothing.
    """
    try:
        text = file.read(SPEC_FILE_BYTES_MAX + 1)
    except (UnicodeDecodeError, OSError) as error:
        raise RefusedError(f"{file.name} cannot be read: {error}") from None
    with session.api() as api:
        answer = api.send_yaml("/restore", text, dry_run=dry_run)
    if emit(answer, output):
        return
    show_rows(("KIND", "NAME", "WOULD BE" if dry_run else "IS NOW"), _rows(answer.data["items"]))
    for view in answer.data["diffs"]:
        show_diff(view)


def _rows(items: list[dict[str, Any]]) -> Iterator[tuple[Cell, ...]]:
    for item in items:
        yield (item["kind"], item["name"], item["outcome"])
