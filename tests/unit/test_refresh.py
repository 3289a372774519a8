"""The table follows the registry, and outlives it."""

import asyncio
import contextlib

import pytest
from fleets import a_snapshot
from gateway_world import a_declared

from gateway import snapshots
from gateway.refresh import follow
from gateway.routing.table import EMPTY_TABLE
from gateway.snapshots import Snapshots


class Registry:
    def __init__(self):
        self.now = a_snapshot(models=[a_declared("one")], version=1)
        self.away = False
        self.snapshots = 0

    async def version(self):
        if self.away:
            raise OSError("database is away")
        return self.now.version

    async def snapshot(self):
        self.snapshots += 1
        return self.now


class Plane:
    table = EMPTY_TABLE


@pytest.fixture
async def followed():
    registry, plane = Registry(), Plane()
    task = asyncio.create_task(follow(Snapshots(registry), plane, poll_s=0.005))
    yield registry, plane
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def until(condition):
    async with asyncio.timeout(2):
        while not condition():  # noqa: ASYNC110 - any condition
            await asyncio.sleep(0.005)


async def test_the_table_is_swapped_when_and_only_when_the_version_changes(followed):
    registry, plane = followed
    await until(lambda: plane.table.version == 1)
    first = plane.table
    await asyncio.sleep(0.05)
    assert plane.table is first
    assert registry.snapshots == 1
    registry.now = a_snapshot(models=[a_declared("two")], version=2)
    await until(lambda: list(plane.table.models) == ["two"])


async def test_without_a_database_the_last_table_serves_on(followed):
    registry, plane = followed
    await until(lambda: plane.table.version == 1)
    registry.away = True
    registry.now = a_snapshot(models=[], version=9)
    await asyncio.sleep(0.05)
    assert list(plane.table.models) == ["one"]
    registry.away = False
    await until(lambda: plane.table.version == 9)


async def test_what_changed_without_an_event_is_seen_after_a_while(followed, monkeypatch):
    registry, plane = followed
    await until(lambda: plane.table.version == 1)
    monkeypatch.setattr(snapshots, "WHOLE_S", 0.01)
    registry.now = a_snapshot(models=[a_declared("renamed")], version=1)
    await until(lambda: list(plane.table.models) == ["renamed"])


async def test_all_in_a_process_share_what_is_read_after_a_change():
    registry = Registry()
    shared = Snapshots(registry)
    plane = Plane()
    task = asyncio.create_task(follow(shared, plane, poll_s=0.005))
    await until(lambda: plane.table.version == 1)
    first = await asyncio.gather(*(shared.newest() for _ in range(5)))
    registry.now = a_snapshot(models=[a_declared("two")], version=2)
    second = await asyncio.gather(*(shared.newest() for _ in range(5)))
    await until(lambda: plane.table.version == 2)
    task.cancel()
    assert all(one is first[0] for one in first)
    assert all(one is second[0] for one in second)
    assert registry.snapshots == 2
