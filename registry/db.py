"""The database behind the registry: connections, transactions, schema version.

SQLite in WAL mode is the embedded default, PostgreSQL what several machines share. A write
transaction holds the one write lock from its beginning, so what it read is still true when it
commits, across processes too.
"""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, event, make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from registry import postgres, schema
from registry.errors import SchemaError, UnavailableError

BUSY_TIMEOUT_S = 10.0
_LOCKED_PAUSE_S = 0.01
# In WAL mode anything less may lose acknowledged commits when the machine loses its power.
SYNCHRONOUS = "FULL"
_WRITES = "modelyard_writes"  # the execution option of a connection that is going to write
_CAUSE_CHARS_MAX = 500
_UPGRADE = "run `modelyard db upgrade`"


def connect(url: str) -> AsyncEngine:
    """An engine for reading; `writer` makes its writing twin. Both share one pool."""
    sqlite = _is_sqlite(url)
    engine = create_async_engine(
        make_url(url) if sqlite else postgres.address(make_url(url)),
        hide_parameters=True,  # tokens and digests must not reach an error's text
        **(
            {"connect_args": {"timeout": BUSY_TIMEOUT_S}}
            if sqlite
            else postgres.engine_options(BUSY_TIMEOUT_S)
        ),
    )
    if sqlite:
        event.listen(engine.sync_engine, "connect", _prepare_sqlite)
        event.listen(engine.sync_engine, "begin", _begin_sqlite)
        return engine
    postgres.prepare(engine.sync_engine)
    event.listen(engine.sync_engine, "begin", _lock_writers)
    return engine


@contextmanager
def translated() -> Iterator[None]:
    """Turns the drivers' errors into UnavailableError where the same call may work later."""
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeoutError, OSError) as error:
        raise _unavailable(error) from error
    except DBAPIError as error:
        if not postgres.may_pass(error):
            raise
        raise _unavailable(error) from error


def _unavailable(error: Exception) -> UnavailableError:
    # The statement goes no further than the chained error: messages are shown to clients.
    cause = str(getattr(error, "orig", None) or error) or "it took too long"
    return UnavailableError(f"the database did not answer: {cause[:_CAUSE_CHARS_MAX]}")


def writer(engine: AsyncEngine) -> AsyncEngine:
    """The same engine, each of its transactions holding the one write lock."""
    options: dict[str, Any] = {_WRITES: True}
    if engine.dialect.name != "sqlite":
        # What is read after the lock must be what the writer before has left there.
        options["isolation_level"] = "READ COMMITTED"
    return engine.execution_options(**options)


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver must not begin transactions by itself
    cursor = connection.cursor()
    for pragma in ("journal_mode = WAL", f"synchronous = {SYNCHRONOUS}", "foreign_keys = ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _lock_writers(connection: Connection) -> None:
    if connection.get_execution_options().get(_WRITES):
        postgres.lock_writers(connection)


def _is_sqlite(url: str) -> bool:
    return make_url(url).get_backend_name() == "sqlite"


def sqlite_file(url: str) -> Path | None:
    """None where it is PostgreSQL's."""
    return Path(make_url(url).database or "") if _is_sqlite(url) else None


async def upgrade(url: str) -> None:
    """Brings the database to `head`. Safe to run twice at once. An SQLite file is made where there
    is none; a PostgreSQL database is `createdb`'s. Raises UnavailableError.
    """
    file = sqlite_file(url)
    if file is not None:
        create_private(file)
    engine = connect(url)
    try:
        with translated():
            async with writer(engine).begin() as connection:
                await connection.run_sync(_upgrade)
    finally:
        await engine.dispose()


def create_private(file: Path) -> None:
    """SQLite gives its WAL the mode of the database: only the owner may read keys' digests."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.close(os.open(file, os.O_CREAT | os.O_RDWR, 0o600))
    _make_wal(file)


def _make_wal(file: Path) -> None:
    """Before anybody else has it open: SQLite does not wait for its lock to change the mode, and
    two who begin at once would fail. The mode stays in the file.
    """
    until = time.monotonic() + BUSY_TIMEOUT_S
    with closing(sqlite3.connect(file)) as connection:
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError:
                if time.monotonic() > until:
                    raise
                time.sleep(_LOCKED_PAUSE_S)


def _upgrade(connection: Connection) -> None:
    made = schema.config()
    made.attributes["connection"] = connection
    command.upgrade(made, "head")


async def current(url: str) -> str | None:
    """The database's schema version; None where there is no database or nothing in it. Raises
    UnavailableError.
    """
    file = sqlite_file(url)
    if file is not None and not file.exists():
        return None
    engine = connect(url)
    try:
        return await _version(engine)
    finally:
        await engine.dispose()


async def _version(engine: AsyncEngine) -> str | None:
    with translated():
        async with engine.connect() as connection:
            return await connection.run_sync(
                lambda sync: MigrationContext.configure(sync).get_current_revision()
            )


async def open_checked(url: str) -> AsyncEngine:
    """Connects to a database that is exactly at `head`, and has what that means. Raises
    SchemaError, UnavailableError.
    """
    file = sqlite_file(url)
    if file is not None and not file.exists():
        raise SchemaError(f"there is no database at {file}: {_UPGRADE}")
    engine = connect(url)
    try:
        _check(await _version(engine))
        with translated():
            async with engine.connect() as connection:
                there = await connection.run_sync(schema.found)
        if problem := schema.mismatch(schema.head(), there):
            raise SchemaError(half_migrated(schema.head(), problem))
    except BaseException:
        await engine.dispose()
        raise
    return engine


def _check(found: str | None) -> None:
    head = schema.head()
    if found == head:
        return
    if found is None:
        raise SchemaError(f"the database is empty: {_UPGRADE}")
    if found not in schema.known_versions():
        raise SchemaError(too_new(found))
    raise SchemaError(f"the database is at {found}, this code needs {head}: {_UPGRADE}")


def too_new(found: str) -> str:
    return (
        f"the database is at {found}, written by a newer Modelyard: upgrade this one, or put a "
        "backup of before back"
    )


def half_migrated(found: str | None, problem: str) -> str:
    """*problem* is what `schema.mismatch` says."""
    said = f"says that it is at {found}" if found else "says of no version"
    return (
        f"the database {said}, but {problem}: it was changed by hand or copied while in use; put "
        "a backup back (`modelyard db status` lists them)"
    )
