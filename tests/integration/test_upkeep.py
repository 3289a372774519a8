"""Care of the database: backups, what is found before a migration, what is refused at the door."""

import shutil
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest
from migration_rows import dump, insert, rows_of
from postgres_server import PostgresServer
from registry_world import url_in

from gateway.up.prepare import prepare_registry
from gateway.up.screen import Screen
from registry import backups, db, schema, upkeep
from registry.errors import BackupError, SchemaError, UnavailableError
from registry.settings import Settings
from registry.store import Store

HEAD = schema.head()
AT = 1_795_650_000.0


def file_of(folder: Path) -> Path:
    return folder / "modelyard.db"


async def at(folder: Path, version: str) -> str:
    """A database of *version* with rows in it."""
    url = url_in(folder)
    await upkeep.migrate(url, version)
    await insert(url, rows_of(version))
    return url


def names(folder: Path, pattern: str) -> list[str]:
    return [path.name for path in folder.glob(pattern)]


def change(folder: Path, *statements: str) -> None:
    with closing(sqlite3.connect(file_of(folder))) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


async def test_a_migration_leaves_a_backup_of_before_that_can_be_put_back(tmp_path: Path):
    url = await at(tmp_path, "0005")
    before = await dump(url)
    done = await upkeep.migrate(url, clock=lambda: AT)
    assert done.backup is not None
    backup = done.backup.file
    assert backup.name == f"modelyard.db.before-{HEAD}-20261125T234000.000000Z"
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    assert names(tmp_path, f"{backup.name}-*") == [], "one file, without a log"

    for name in ("modelyard.db", "modelyard.db-wal", "modelyard.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    shutil.copy(backup, file_of(tmp_path))
    assert await dump(url) == before
    await upkeep.migrate(url)
    await (await Store.open(url)).aclose()


async def test_what_is_only_in_the_log_yet_is_in_the_backup(tmp_path: Path):
    url = await at(tmp_path, HEAD)
    with closing(sqlite3.connect(file_of(tmp_path))) as holder:
        holder.execute("SELECT 1 FROM models").fetchall()
        change(tmp_path, "UPDATE models SET condition = 'in the log'")
        assert (tmp_path / "modelyard.db-wal").stat().st_size > 0
        made = await upkeep.back_up(url, tmp_path / "copy.db")
    with closing(sqlite3.connect(made.file)) as copy:
        assert copy.execute("SELECT condition FROM models").fetchall() == [("in the log",)]


async def test_five_backups_are_kept_and_an_empty_database_needs_none(tmp_path: Path):
    url = url_in(tmp_path)
    assert (await upkeep.migrate(url)).backup is None
    assert (await upkeep.migrate(url)).backup is None
    for number in range(4):
        await upkeep.migrate(url, "0005", clock=lambda at=AT + number: at)
        await upkeep.migrate(url, clock=lambda at=AT + number + 0.5: at + 100)
    kept = backups.automatic(file_of(tmp_path))
    assert len(kept) == backups.KEPT
    assert [backup.file.name.split("-")[1] for backup in kept] == [HEAD] * 4 + ["0005"]


async def test_a_backup_that_cannot_be_made_stops_the_migration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    url = await at(tmp_path, "0005")
    before = await dump(url)

    def not_whole(database: Path, copy: Path) -> None:
        raise BackupError("the backup is not whole")

    monkeypatch.setattr(backups, "_verify", not_whole)
    with pytest.raises(BackupError, match="not whole"):
        await upkeep.migrate(url)
    assert await dump(url) == before
    assert names(tmp_path, "*.before-*") == []


async def test_a_migration_that_fails_leaves_the_schema_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """SQLite's DDL is part of the transaction, as PostgreSQL's is."""
    url = await at(tmp_path, "0005")
    before = await dump(url)
    change(tmp_path, "CREATE TABLE demand (at INTEGER)")  # the last one that 0006 makes
    monkeypatch.setattr(schema, "mismatch", lambda found, there: "")  # as if it were not seen
    with pytest.raises(UnavailableError, match="demand already exists"):
        await upkeep.migrate(url)
    change(tmp_path, "DROP TABLE demand")
    assert await dump(url) == before


@pytest.mark.parametrize(
    ("version", "statement", "words"),
    [
        (HEAD, "ALTER TABLE workers DROP COLUMN sleep_mode", "lacks workers.sleep_mode"),
        (HEAD, "DROP TABLE demand", "lacks demand"),
        (HEAD, "DROP INDEX uq_workers_live_slot", "lacks workers.uq_workers_live_slot"),
        ("0005", "CREATE TABLE pools (name TEXT)", "has pools already"),
        ("0005", "ALTER TABLE keys DROP COLUMN limits", "lacks keys.limits"),
        ("0003", "ALTER TABLE workers ADD COLUMN kv_port INTEGER", "has workers.kv_port already"),
    ],
)
async def test_a_half_migrated_database_is_refused(
    tmp_path: Path, version: str, statement: str, words: str
):
    url = await at(tmp_path, version)
    change(tmp_path, statement)
    with pytest.raises(SchemaError, match=words) as refused:
        await (Store.open(url) if version == HEAD else upkeep.migrate(url))
    assert "put a backup back" in str(refused.value)
    assert words in (await upkeep.status(url)).mismatch


async def test_a_half_migrated_postgresql_is_refused(postgres: PostgresServer):
    url = await postgres.database()
    engine = db.connect(url)
    async with db.writer(engine).begin() as connection:
        await connection.exec_driver_sql("ALTER TABLE workers DROP COLUMN sleep_mode")
    await engine.dispose()
    with pytest.raises(SchemaError, match=r"it lacks workers\.sleep_mode"):
        await Store.open(url)


async def test_what_an_operator_added_is_nobodys_business(tmp_path: Path):
    url = await at(tmp_path, HEAD)
    change(tmp_path, "CREATE TABLE notes (text)", "CREATE INDEX mine ON usage (model)")
    await (await Store.open(url)).aclose()


async def test_a_damaged_file_is_found_before_anything_is_done(tmp_path: Path):
    url = await at(tmp_path, "0005")
    with closing(sqlite3.connect(file_of(tmp_path))) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (page,) = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'ix_events_model_id'"
        ).fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    with file_of(tmp_path).open("r+b") as file:
        file.seek((page - 1) * size + size - 64)
        file.write(b"\xff" * 64)
    with pytest.raises(SchemaError, match="the file is damaged"):
        await upkeep.migrate(url)


async def test_rows_that_refer_to_nothing_are_found(tmp_path: Path):
    url = await at(tmp_path, "0005")
    change(tmp_path, "PRAGMA foreign_keys = OFF", "DELETE FROM nodes")
    (problem,) = (await upkeep.look(url)).problems
    assert problem.startswith("4 rows refer to others that are not there (devices → nodes, worker")


async def test_a_full_disk_is_found_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    url = await at(tmp_path, "0005")
    usage = shutil.disk_usage(tmp_path)._replace(free=2**20)
    monkeypatch.setattr(backups.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(SchemaError, match="has 1 MiB free, and a backup and a migration want"):
        await upkeep.migrate(url)


async def test_a_controller_that_leads_is_in_the_way_until_its_term_ends(tmp_path: Path):
    url = await at(tmp_path, "0005")
    change(tmp_path, "UPDATE leases SET expires_at = 1e12")
    assert (await upkeep.look(url)).in_use == ("the controller c-1, which leads",)
    with pytest.raises(SchemaError, match=r"the controller c-1, which leads: end them first"):
        await upkeep.migrate(url)
    await upkeep.migrate(url, while_in_use=True)


async def test_others_on_a_postgresql_are_in_the_way(postgres: PostgresServer):
    url = await postgres.database(migrated=False)
    await upkeep.migrate(url, "0005")
    other = db.connect(url)
    try:
        async with other.connect() as connection:
            await connection.exec_driver_sql("SELECT 1")
            with pytest.raises(SchemaError, match=r"1 connection of Modelyard from 127\.0\.0\.1"):
                await upkeep.migrate(url)
    finally:
        await other.dispose()
    await upkeep.migrate(url)
    with pytest.raises(BackupError, match="pg_dump"):
        await upkeep.back_up(url, Path("x"))


async def test_a_newer_schema_is_left_alone(tmp_path: Path):
    url = await at(tmp_path, HEAD)
    change(tmp_path, "UPDATE alembic_version SET version_num = '0999'")
    for work in (upkeep.migrate(url), upkeep.look(url), upkeep.status(url), Store.open(url)):
        with pytest.raises(SchemaError, match="written by a newer Modelyard"):
            await work


async def test_up_brings_an_older_registry_along_and_says_where_its_backup_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    await at(tmp_path, "0005")
    await prepare_registry(Settings(home=tmp_path), Screen())
    (backup,) = backups.automatic(file_of(tmp_path))
    said = "".join(capsys.readouterr().out.split())  # as it may be wrapped
    assert said == f"registry0005→{HEAD};backup:{backup.file}"
    await prepare_registry(Settings(home=tmp_path), Screen())
    assert capsys.readouterr().out == ""
    await (await Store.open(url_in(tmp_path))).aclose()
