"""The schema: what the migrations build is what the tables say, and old or new ones are refused."""

import asyncio
import itertools
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from postgres_server import PostgresServer
from registry_world import ME, serving, url_in
from sqlalchemy import Connection, text

from registry import db, schema
from registry.errors import SchemaError
from registry.state import KeyKind, Phase, Priority
from registry.store import Store
from registry.tables import Base

Empties = Callable[[], Awaitable[str]]


@pytest.fixture(params=["sqlite", "postgresql"])
def empties(request: pytest.FixtureRequest, tmp_path: Path) -> Empties:
    """Gives URLs of databases with nothing in them."""
    numbers = itertools.count()

    async def one() -> str:
        if request.param == "postgresql":
            server: PostgresServer = request.getfixturevalue("postgres")
            return await server.database(migrated=False)
        folder = tmp_path / str(next(numbers))
        folder.mkdir()
        return url_in(folder)

    return one


@pytest.fixture
async def empty(empties: Empties) -> str:
    return await empties()


async def test_the_migrated_schema_is_what_the_tables_say(empty: str) -> None:
    await db.upgrade(empty)
    engine = db.connect(empty)

    def compare(connection: Connection) -> list[object]:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, Base.metadata))

    async with engine.connect() as connection:
        difference = await connection.run_sync(compare)
    await engine.dispose()
    assert difference == []


async def test_checks_and_partial_indexes_are_migrated_too(empties: Empties) -> None:
    """`compare_metadata` does not see them, and invariant I1 stands on them."""
    migrated, declared = await empties(), await empties()
    await db.upgrade(migrated)
    engine = db.connect(declared)
    async with db.writer(engine).begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    await engine.dispose()
    assert await _guards(migrated) == await _guards(declared)
    assert any("uq_workers_live_slot" in line for line in await _guards(migrated))
    assert any("ck_devices_claimed" in line for line in await _guards(migrated))


_GUARDS = """
SELECT conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
WHERE connamespace = 'public'::regnamespace AND contype <> 'n'
UNION SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'
"""


async def _guards(url: str) -> set[str]:
    engine = db.connect(url)
    sqlite = engine.dialect.name == "sqlite"
    query = "SELECT sql FROM sqlite_master WHERE sql NOT NULL" if sqlite else _GUARDS
    async with engine.connect() as connection:
        found = await connection.execute(text(query))
        lines = {line.strip(" \t,") for (sql,) in found for line in sql.splitlines()}
    await engine.dispose()
    if sqlite:
        lines = {line for line in lines if line.startswith(("CONSTRAINT", "CREATE UNIQUE INDEX"))}
    return {line for line in lines if "alembic_version" not in line}


async def test_upgrading_makes_a_private_wal_database_and_may_be_repeated(tmp_path: Path) -> None:
    url = url_in(tmp_path / "home" / "deep")
    assert await db.current(url) is None
    assert not (tmp_path / "home").exists()

    await asyncio.gather(*(db.upgrade(url) for _ in range(3)))
    await db.upgrade(url)

    assert await db.current(url) == schema.head()
    file = tmp_path / "home" / "deep" / "modelyard.db"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    engine = db.connect(url)
    async with engine.connect() as connection:
        for pragma, value in (
            ("journal_mode", "wal"),
            ("foreign_keys", 1),
            ("busy_timeout", 10_000),
        ):
            assert (await connection.execute(text(f"PRAGMA {pragma}"))).scalar() == value
        assert [stat.S_IMODE(f.stat().st_mode) for f in file.parent.iterdir()] == [0o600] * 3
    await engine.dispose()


async def test_the_way_back_is_there(empty: str) -> None:
    url = empty
    await db.upgrade(url)
    await _downgrade(url, "base")
    assert await db.current(url) is None


async def test_0002_and_its_way_back_keep_keys_workers_and_claims(empty: str) -> None:
    """A worker that holds a claim is what SQLite would not let go in a copied table."""
    url = empty
    await db.upgrade(url)
    store = await Store.open(url)
    worker = await serving(store)
    key, _ = await store.create_key(name="app", kind=KeyKind.INFERENCE, by=ME)
    claims = (await store.snapshot()).claims
    await store.aclose()

    await _downgrade(url, "0001")
    assert await db.current(url) == "0001"
    await db.upgrade(url)

    store = await Store.open(url)
    snapshot = await store.snapshot()
    await store.aclose()
    assert (snapshot.workers, snapshot.keys, snapshot.claims) == ((worker,), (key,), claims)
    assert (worker.events_url, key.priority, len(claims)) == ("", Priority.NORMAL, 1)


async def test_0004_finds_workers_without_a_port_for_their_kv(empty: str) -> None:
    url = empty
    await db.upgrade(url)
    store = await Store.open(url)
    worker = await store.set_worker((await serving(store)).id, Phase.READY, kv_port=21_001)
    await store.aclose()

    await _downgrade(url, "0003")
    await db.upgrade(url)

    store = await Store.open(url)
    snapshot = await store.snapshot()
    await store.aclose()
    assert snapshot.workers == (msgspec.structs.replace(worker, kv_port=0),)


async def _downgrade(url: str, version: str) -> None:
    def downgrade(connection: Connection) -> None:
        config = schema.config()
        config.attributes["connection"] = connection
        command.downgrade(config, version)

    engine = db.connect(url)
    async with db.writer(engine).begin() as connection:
        await connection.run_sync(downgrade)
    await engine.dispose()


@pytest.mark.parametrize(
    ("version", "why"),
    [
        (None, "is empty: run `modelyard db upgrade`"),
        ("0000_older", "run `modelyard db upgrade`"),
        ("9999_newer", "written by a newer Modelyard"),
    ],
)
async def test_a_database_at_another_version_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str | None, why: str
) -> None:
    url = url_in(tmp_path)
    await db.upgrade(url)
    await _stamp(url, version)
    if version == "0000_older":
        monkeypatch.setattr(schema, "known_versions", lambda: ("0000_older", schema.head()))
    with pytest.raises(SchemaError, match=why):
        await Store.open(url)


async def _stamp(url: str, version: str | None) -> None:
    engine = db.connect(url)
    async with db.writer(engine).begin() as connection:
        await connection.execute(text("DELETE FROM alembic_version"))
        if version is not None:
            await connection.execute(
                text("INSERT INTO alembic_version VALUES (:v)"), {"v": version}
            )
    await engine.dispose()


async def test_three_who_migrate_a_postgresql_at_once_do_it_once(postgres: PostgresServer) -> None:
    url = await postgres.database(migrated=False)
    assert await db.current(url) is None
    await asyncio.gather(*(db.upgrade(url) for _ in range(3)))
    assert await db.current(url) == schema.head()


async def test_a_missing_database_is_refused_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match=r"there is no database at .*modelyard db upgrade"):
        await Store.open(url_in(tmp_path))
    assert not (tmp_path / "modelyard.db").exists()
