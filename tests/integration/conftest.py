"""Fixtures of the tests on a real database."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from postgres_server import PostgresServer
from registry_world import Clock, url_in, without_fsync
from sleep_world import OneNode

from pipelines import sleeping
from registry import db
from registry.store import Store


@pytest.fixture(scope="session", autouse=True)
def _fast() -> Iterator[None]:
    patch = without_fsync()
    yield
    patch.undo()


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("empty")
    asyncio.run(db.upgrade(url_in(folder)))
    return folder / "modelyard.db"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sqlite_url(tmp_path: Path, empty_database: Path) -> str:
    shutil.copy(empty_database, tmp_path / "modelyard.db")
    return url_in(tmp_path)


@pytest.fixture(params=["sqlite", "postgresql"])
async def url(request: pytest.FixtureRequest, empty_database: Path) -> AsyncIterator[str]:
    """A new database at the newest schema; each test runs on one of either kind."""
    # *empty_database* is made before this one's loop runs: it needs a loop of its own.
    if request.param == "sqlite":
        yield request.getfixturevalue("sqlite_url")
    else:
        server: PostgresServer = request.getfixturevalue("postgres")
        yield await server.database()


@pytest.fixture
async def store(url: str, clock: Clock) -> AsyncIterator[Store]:
    opened = await Store.open(url, clock=clock)
    yield opened
    await opened.aclose()


@pytest.fixture
async def live_store(sqlite_url: str) -> AsyncIterator[Store]:
    """With the time of the machine, as a whole controller over it has."""
    opened = await Store.open(sqlite_url)
    yield opened
    await opened.aclose()


@pytest.fixture
async def node(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[OneNode]:
    """Nobody routes to its workers, so that nobody has to see that they leave."""
    monkeypatch.setattr(sleeping, "DRAIN_MIN_S", 0.02)
    made = OneNode()
    yield made
    await made.aclose()
