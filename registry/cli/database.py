"""`db`: the registry's database, reached directly from this machine."""

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from registry.cli.command import Session, pass_session
from registry.cli.exits import RefusedError, clean
from registry.cli.output import facts, heading, show, show_rows, size
from registry.errors import RegistryError

if TYPE_CHECKING:
    from registry.upkeep import Migrated, Preflight, Status

_Result = TypeVar("_Result")
_EMPTY = "base"

_dry_run = click.option("--dry-run", is_flag=True, help="Only say what would be done.")
_in_use = click.option(
    "--in-use",
    is_flag=True,
    help="Also while other processes use it: they go on, and want the other version when they "
    "start again.",
)


@click.group()
def db() -> None:
    """The registry's database, reached directly from this machine."""


@db.command()
@_dry_run
@_in_use
@pass_session
def upgrade(session: Session, *, dry_run: bool, in_use: bool) -> None:
    """Bring the schema to this version of Modelyard, making the database if it is missing.

    First it is looked at: whether it is whole, can be written, has room for a backup, and is used
    by nobody. Then SQLite is backed up beside itself (the newest five are kept). PostgreSQL is
    yours to back up.
    """
    _migrate(session, "head", dry_run=dry_run, in_use=in_use)


@db.command()
@click.option("--to", required=True, metavar="VERSION", help="As in 0005; `base` empties it.")
@_dry_run
@_in_use
@pass_session
def downgrade(session: Session, *, to: str, dry_run: bool, in_use: bool) -> None:
    """Bring the schema back to an older version, for an older Modelyard.

    Looked at and backed up as by upgrade. What the older version cannot hold stands in the way and
    is named; what it forgets is told before.
    """
    _migrate(session, None if to == _EMPTY else to, dry_run=dry_run, in_use=in_use)


def _migrate(session: Session, target: str | None, *, dry_run: bool, in_use: bool) -> None:
    from registry import upkeep

    url = session.settings.database
    preflight = _run(upkeep.look(url, target))
    _tell(preflight)
    if dry_run:
        for problem in preflight.problems:
            click.echo(f"in the way: {clean(problem)}", err=True)
        for user in preflight.in_use:
            click.echo(f"in use by {clean(user)}", err=True)
        if preflight.problems or (preflight.in_use and not in_use):
            raise RefusedError("the database: something stands in the way")
    elif preflight.steps:
        _tell_done(_run(upkeep.migrate(url, target, while_in_use=in_use)))


def _tell(preflight: "Preflight") -> None:
    target = preflight.target or "empty"
    if not preflight.steps:
        click.echo(f"at {target}, nothing is to be done")
        return
    click.echo(f"from {preflight.found or 'empty'} to {target}:")
    for step in preflight.steps:
        click.echo(f"  {step.version}  {step.title}")
    for loss in preflight.losses:
        click.echo(f"  forgets {loss}")


def _tell_done(migrated: "Migrated") -> None:
    if migrated.backup is not None:
        file, size_bytes = migrated.backup
        click.echo(f"backed up to {file} ({size(size_bytes)})")
    click.echo(f"at {migrated.preflight.target or 'empty'}")


@db.command("status")
@pass_session
def show_status(session: Session) -> None:
    """Show the schema's version, what is to be done, who uses it, and the backups."""
    from registry import upkeep

    status = _run(upkeep.status(session.settings.database))
    show(
        facts(
            (
                ("database", status.where),
                ("version", _version(status)),
                ("size", size(status.size_bytes) if status.size_bytes else ""),
                ("in use by", "\n".join(status.in_use)),
            )
        )
    )
    if status.pending:
        heading("To be done by `modelyard db upgrade`")
        show_rows(("VERSION", "WHAT"), ((step.version, step.title) for step in status.pending))
    if status.backups:
        heading("Backups (stop all, copy one over the database, remove its -wal and -shm)")
        show_rows(("FILE", "SIZE>"), ((b.file.name, size(b.size_bytes)) for b in status.backups))
    if status.mismatch:
        raise RefusedError(f"the database is not as its version says: {status.mismatch}")


def _version(status: "Status") -> str:
    if status.found is None:
        return "no database yet: `modelyard db upgrade` makes it"
    return f"{status.found}, {f'{len(status.pending)} behind' if status.pending else 'the newest'}"


@db.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@pass_session
def backup(session: Session, file: Path) -> None:
    """Copy an SQLite registry into a new file, while everything goes on.

    The copy is checked, and yours alone (0600): it holds workers' tokens and keys' digests.
    """
    from registry import upkeep

    made = _run(upkeep.back_up(session.settings.database, file))
    click.echo(f"backed up to {made.file} ({size(made.size_bytes)})")


def _run(work: Coroutine[Any, Any, _Result]) -> _Result:
    try:
        return asyncio.run(work)
    except (RegistryError, OSError) as error:
        raise RefusedError(f"the database: {error}") from None
    except Exception as error:  # noqa: BLE001
        # The driver's own errors have no common root that the CLI may import.
        raise RefusedError(f"the database: {type(error).__name__}: {error}") from None
