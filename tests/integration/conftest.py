"""Fixtures of the tests on a real database."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
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


@pytest.fixture
async def store(tmp_path: Path, empty_database: Path, clock: Clock) -> AsyncIterator[Store]:
    shutil.copy(empty_database, tmp_path / "modelyard.db")
    opened = await Store.open(url_in(tmp_path), clock=clock)
    yield opened
    await opened.aclose()
