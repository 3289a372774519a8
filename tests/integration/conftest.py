"""Fixtures of the tests on a real database."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from postgres_server import PostgresServer
from registry_world import Clock, url_in, without_fsync

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


@pytest.fixture(params=["sqlite", "postgresql"])
async def url(
    request: pytest.FixtureRequest, tmp_path: Path, empty_database: Path
) -> AsyncIterator[str]:
    """A new database at the newest schema; each test runs on one of either kind."""
    if request.param == "sqlite":
        shutil.copy(empty_database, tmp_path / "modelyard.db")
        yield url_in(tmp_path)
    else:
        server: PostgresServer = request.getfixturevalue("postgres")
        yield await server.database()


@pytest.fixture
async def store(url: str, clock: Clock) -> AsyncIterator[Store]:
    opened = await Store.open(url, clock=clock)
    yield opened
    await opened.aclose()
