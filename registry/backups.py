"""Copies of an SQLite registry: made while others write, only the owner's, opened once to be sure.

A copy holds what the registry does: tokens of workers and digests of keys.
"""

import os
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from registry.errors import BackupError

KEPT = 5
_PAGES_AT_ONCE = 4096  # between two steps writers get their turn
_SPARE_BYTES = 16 * 2**20


class Backup(NamedTuple):
    file: Path
    size_bytes: int


def automatic_name(database: Path, target: str, at: float) -> Path:
    """``modelyard.db.before-0006-20261126T114500.123456Z``, beside the database."""
    stamp = datetime.fromtimestamp(at, UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    return database.with_name(f"{database.name}.before-{target}-{stamp}")


def automatic(database: Path) -> tuple[Backup, ...]:
    """Those that migrations have left, newest first."""
    files = database.parent.glob(f"{database.name}.before-*Z")
    newest_first = sorted(files, key=lambda file: file.name.rpartition("-")[2], reverse=True)
    return tuple(Backup(file, file.stat().st_size) for file in newest_first)


def keep_newest(database: Path) -> None:
    for backup in automatic(database)[KEPT:]:
        backup.file.unlink(missing_ok=True)


def size_bytes(database: Path) -> int:
    """With what is still in its write-ahead log."""
    files = (database, database.with_name(f"{database.name}-wal"))
    return sum(file.stat().st_size for file in files if file.exists())


def shortage(database: Path, folder: Path) -> str:
    """Why a copy in *folder* has no room, with as much again for the migration; "" where it has."""
    wanted = 2 * size_bytes(database) + _SPARE_BYTES
    free = shutil.disk_usage(folder).free
    if free >= wanted:
        return ""
    return (
        f"{folder} has {free >> 20} MiB free, and a backup and a migration want {wanted >> 20} MiB"
    )


def back_up(database: Path, target: Path) -> Backup:
    """Copies *database* as it is committed now into the new file *target*. Raises BackupError."""
    if target.exists():
        raise BackupError(f"{target} is there already: name another file")
    part = target.with_name(f"{target.name}.part")
    try:
        part.unlink(missing_ok=True)
        os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        with closing(_reading(database)) as source, closing(sqlite3.connect(part)) as copy:
            source.backup(copy, pages=_PAGES_AT_ONCE)
            copy.execute("PRAGMA journal_mode = DELETE")  # one file, without a log beside it
        _verify(database, part)
        _sync(part)
        part.rename(target)
        _sync(target.parent)
    except (OSError, sqlite3.Error) as error:
        part.unlink(missing_ok=True)
        raise BackupError(f"the backup {target} could not be made: {error}") from error
    except BackupError:
        part.unlink(missing_ok=True)
        raise
    return Backup(target, target.stat().st_size)


def _reading(database: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)


def _verify(database: Path, copy: Path) -> None:
    """That the copy opens, is whole, and says the same version. Raises BackupError."""
    with closing(_reading(copy)) as opened, closing(_reading(database)) as source:
        (checked,) = opened.execute("PRAGMA quick_check(1)").fetchone()
        if checked != "ok":
            raise BackupError(f"the backup is not whole: {checked}")
        if _version(opened) != _version(source):
            raise BackupError("the backup is of another schema version than the database")


def _version(connection: sqlite3.Connection) -> list[tuple[str]]:
    try:
        return connection.execute("SELECT version_num FROM alembic_version").fetchall()
    except sqlite3.OperationalError:  # an empty database has no such table
        return []


def _sync(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
