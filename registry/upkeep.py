"""Migrations with care: what stands in the way is found first, and SQLite is copied before.

Everything happens under the write lock and in one transaction: a migration that fails, or whose
process is killed, leaves the schema as it was.
"""

import asyncio
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

import msgspec
from alembic import command
from alembic.runtime.migration import MigrationContext
from alembic.script import Script
from sqlalchemy import Connection, text
from sqlalchemy.exc import DatabaseError
from sqlalchemy.ext.asyncio import AsyncEngine

from registry import backups, db, schema
from registry.backups import Backup
from registry.errors import BackupError, SchemaError
from registry.users import users

HEAD = "head"
_T = TypeVar("_T")
_LEAVING_S = 2.0
_LOOK_S = 0.2
_POSTGRESQL_MIN = 140_000
_FINDINGS_MAX = 3
_WRITABLE = """
SELECT pg_is_in_recovery(), has_schema_privilege(current_schema(), 'CREATE'),
(SELECT count(*) FROM pg_tables WHERE schemaname = current_schema()
AND NOT pg_has_role(tableowner, 'MEMBER')), current_setting('server_version_num')::int
"""


class Step(msgspec.Struct, frozen=True):
    """One migration, forth or back."""

    version: str
    title: str


class Preflight(msgspec.Struct, frozen=True, kw_only=True):
    """What a migration from *found* (None: an empty database) to *target* would do, and what stands
    in its way: *problems*, sentences that say what to do, and *in_use*, who works with it now.
    *losses* are what the way back forgets.
    """

    found: str | None
    target: str | None
    steps: tuple[Step, ...]
    problems: tuple[str, ...] = ()
    in_use: tuple[str, ...] = ()
    losses: tuple[str, ...] = ()

    def check(self, *, while_in_use: bool) -> None:
        """Raises SchemaError with all that stands in the way."""
        problems = list(self.problems)
        if self.in_use and not while_in_use:
            problems.append(
                f"it is in use by {', '.join(self.in_use)}: end them first, or say --in-use, after "
                "which what runs goes on with the older schema's words"
            )
        if problems:
            raise SchemaError("nothing was changed: " + "; ".join(problems))


class Migrated(msgspec.Struct, frozen=True, kw_only=True):
    preflight: Preflight
    backup: Backup | None


async def look(url: str, target: str | None = HEAD) -> Preflight:
    """What `migrate` would do. Changes nothing. Raises SchemaError, UnavailableError."""
    file = db.sqlite_file(url)
    if file is not None and not file.exists():
        version = _resolved(target, None)
        return Preflight(found=None, target=version, steps=_steps(schema.between(None, version)))
    return await _reading(url, lambda connection: _preflight(connection, file, target))


async def _reading(url: str, work: Callable[[Connection], _T]) -> _T:
    engine = db.connect(url)
    try:
        with db.translated():
            async with engine.connect() as connection:
                return await connection.run_sync(work)
    finally:
        await engine.dispose()


async def migrate(
    url: str,
    target: str | None = HEAD,
    *,
    while_in_use: bool = False,
    clock: Callable[[], float] = time.time,
) -> Migrated:
    """Brings the database to *target* (None: empty), forth or back, with a backup of SQLite before
    anything is touched. An SQLite file is made where there is none. Raises SchemaError,
    BackupError, UnavailableError.
    """
    file = db.sqlite_file(url)
    if file is not None:
        db.create_private(file)
    engine = db.connect(url)
    try:
        with db.translated():
            if not while_in_use:
                await _wait_for_those_who_leave(engine, file, target)
            async with db.writer(engine).begin() as connection:
                preflight = await connection.run_sync(_preflight, file, target)
                preflight.check(while_in_use=while_in_use)
                backup = await asyncio.to_thread(_back_up, file, preflight, clock())
                await connection.run_sync(_run, preflight)
                return Migrated(preflight=preflight, backup=backup)
    finally:
        await engine.dispose()


async def _wait_for_those_who_leave(
    engine: AsyncEngine, file: Path | None, target: str | None
) -> None:
    """Connections that were just closed are listed a little longer."""
    until = time.monotonic() + _LEAVING_S
    while time.monotonic() < until:
        async with engine.connect() as connection:
            if not await connection.run_sync(_in_use, file, target):
                return
        await asyncio.sleep(_LOOK_S)


def _in_use(connection: Connection, file: Path | None, target: str | None) -> tuple[str, ...]:
    """By whom; nobody where nothing is to be done, or nothing is there."""
    found = _version(connection)
    if found in {None, _resolved(target, found)}:
        return ()
    return users(connection, file, has_leases="leases" in schema.found(connection))


def _version(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _resolved(target: str | None, found: str | None) -> str | None:
    """*target* as a version. Raises SchemaError where it, or *found*, is not in the chain."""
    known = schema.known_versions()
    if found is not None and found not in known:
        raise SchemaError(db.too_new(found))
    if target == HEAD:
        return known[-1]
    if target is not None and target not in known:
        raise SchemaError(f"there is no version {target[:40]!r}, allowed are {', '.join(known)}")
    return target


def _is_back(found: str | None, target: str | None) -> bool:
    known = (None, *schema.known_versions())
    return known.index(target) < known.index(found)


def _preflight(connection: Connection, file: Path | None, target: str | None) -> Preflight:
    found = _version(connection)
    version = _resolved(target, found)
    if version == found:
        return Preflight(found=found, target=version, steps=())
    back = _is_back(found, version)
    scripts = schema.between(version, found)[::-1] if back else schema.between(found, version)
    problems = [*_unfit(connection, file, found), *_half(found, schema.found(connection))]
    losses: list[str] = []
    if back and not problems:  # else what they look into may not be there
        for script in scripts:
            problems += _told(script, "obstacles", connection)
            losses += _told(script, "losses", connection)
    return Preflight(
        found=found,
        target=version,
        steps=_steps(scripts),
        problems=tuple(problems),
        in_use=_in_use(connection, file, target),
        losses=tuple(losses),
    )


def _told(script: Script, name: str, connection: Connection) -> Iterable[str]:
    """What a migration itself says about its way back."""
    tell = getattr(script.module, name, None)
    return () if tell is None else tuple(tell(connection))


def _steps(scripts: Iterable[Script]) -> tuple[Step, ...]:
    return tuple(Step(script.revision, script.doc.rstrip(".")) for script in scripts)


def _half(found: str | None, there: schema.Form) -> list[str]:
    problem = schema.mismatch(found, there)
    return [db.half_migrated(found, problem)] if problem else []


def _unfit(connection: Connection, file: Path | None, found: str | None) -> list[str]:
    if file is None:
        return _unfit_postgresql(connection)
    if found is None:
        return []
    problems = [
        f"{path} cannot be written by this user"
        for path in (file, file.parent)
        if not os.access(path, os.W_OK)
    ]
    if shortage := backups.shortage(file, file.parent):
        problems.append(shortage)
    return problems + _broken(connection)


def _broken(connection: Connection) -> list[str]:
    """What SQLite's own checks find."""
    advice = "put a backup back (`modelyard db status` lists them)"
    try:
        lines = connection.execute(text(f"PRAGMA integrity_check({_FINDINGS_MAX})")).scalars().all()
        rows = connection.execute(text("PRAGMA foreign_key_check")).all()
    except DatabaseError as error:
        return [f"the file is damaged ({error.orig}): {advice}"]
    problems = []
    if list(lines) != ["ok"]:
        problems.append(f"the file is damaged ({'; '.join(map(str, lines))}): {advice}")
    if rows:
        tables = ", ".join(sorted({f"{row[0]} → {row[2]}" for row in rows}))
        problems.append(f"{len(rows)} rows refer to others that are not there ({tables}): {advice}")
    return problems


def _unfit_postgresql(connection: Connection) -> list[str]:
    standby, may_create, foreign, number = connection.execute(text(_WRITABLE)).one()
    problems = []
    if number < _POSTGRESQL_MIN:
        problems.append(f"the server is of version {number // 10_000}, allowed is 14 or newer")
    if standby:
        problems.append("the server is a standby, which takes no writes: name the primary")
    elif not may_create:
        problems.append("this user may not make tables in the schema: GRANT CREATE ON it")
    if foreign:
        problems.append(f"{foreign} tables are another user's: be the one that made them")
    return problems


def _back_up(file: Path | None, preflight: Preflight, at: float) -> Backup | None:
    """The other connection reads what is committed, while ours holds the write lock."""
    if file is None or preflight.found is None or not preflight.steps:
        return None
    target = preflight.target or "base"
    made = backups.back_up(file, backups.automatic_name(file, target, at))
    backups.keep_newest(file)
    return made


def _run(connection: Connection, preflight: Preflight) -> None:
    if not preflight.steps:
        return
    made = schema.config()
    made.attributes["connection"] = connection
    if _is_back(preflight.found, preflight.target):
        command.downgrade(made, preflight.target or "base")
    else:
        command.upgrade(made, preflight.target or HEAD)


async def back_up(url: str, target: Path) -> Backup:
    """A copy of an SQLite registry while others work with it. Raises BackupError, SchemaError."""
    file = db.sqlite_file(url)
    if file is None:
        raise BackupError("PostgreSQL has tools of its own: pg_dump, or your server's backups")
    if not file.exists():
        raise SchemaError(f"there is no database at {file}")
    return await asyncio.to_thread(backups.back_up, file, target)


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """*where* is an SQLite file or the word PostgreSQL: a URL holds a password. *found* is None for
    an empty or missing database, *mismatch* what `schema.mismatch` says.
    """

    where: str
    found: str | None
    pending: tuple[Step, ...]
    mismatch: str = ""
    in_use: tuple[str, ...] = ()
    size_bytes: int = 0
    backups: tuple[Backup, ...] = ()


async def status(url: str) -> Status:
    """Cheap, and disturbs nobody. Raises UnavailableError; SchemaError for a newer Modelyard's."""
    file = db.sqlite_file(url)
    if file is None:
        return await _reading(url, lambda connection: _status(connection, None))
    if not file.exists():
        pending = _steps(schema.between(None, schema.head()))
        return Status(where=str(file), found=None, pending=pending)
    made = await _reading(url, lambda connection: _status(connection, file))
    return msgspec.structs.replace(made, backups=backups.automatic(file))


def _status(connection: Connection, file: Path | None) -> Status:
    found, there = _version(connection), schema.found(connection)
    head = _resolved(HEAD, found)
    return Status(
        where="PostgreSQL" if file is None else str(file),
        found=found,
        pending=_steps(schema.between(found, head)),
        mismatch=schema.mismatch(found, there),
        in_use=users(connection, file, has_leases="leases" in there),
        size_bytes=_size_bytes(connection, file),
    )


def _size_bytes(connection: Connection, file: Path | None) -> int:
    if file is not None:
        return backups.size_bytes(file)
    size = connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one()
    return int(size)
