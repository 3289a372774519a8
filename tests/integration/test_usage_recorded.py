"""Metering on the real registry: commits of unknown outcome, databases that are away, sweeps."""

import asyncio
import sqlite3

import pytest
from registry_world import url_in
from usage_world import Process, segments

from gateway.metering import meter
from registry import db
from registry.errors import UnavailableError
from registry.store import Store


@pytest.fixture
def url(sqlite_url):
    """SQLite alone, whose file is looked into here; PostgreSQL has `faults/test_two_machines`."""
    return sqlite_url


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(meter, "_FLUSH_S", 0.01)
    monkeypatch.setattr(meter, "_PAUSE_S_MAX", 0.02)


def rows(tmp_path, columns="status, count(*)"):
    with sqlite3.connect(tmp_path / "modelyard.db") as database:
        return database.execute(f"SELECT {columns} FROM usage GROUP BY status").fetchall()


async def until(holds):
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_commit_whose_answer_never_came_counts_once(store, tmp_path):
    lost = 3

    async def sink(records):
        nonlocal lost
        await store.record_usage(records)
        if lost:
            lost -= 1
            raise UnavailableError("the connection broke off after the commit")

    process = Process(sink, tmp_path / "usage")
    process.served(40)
    await until(lambda: process.counts.recorded == 40)
    process.served(10, first=40)
    await process.aclose()
    assert lost == 0
    assert rows(tmp_path, "status, count(*), sum(completion_tokens), sum(cost_nano)") == [
        ("ok", 50, 250, 350)
    ]


async def test_a_process_killed_between_commit_and_answer_counts_once(store, tmp_path):
    committed = asyncio.Event()

    async def sink(records):
        await store.record_usage(records)
        committed.set()
        await asyncio.sleep(60)

    process = Process(sink, tmp_path / "usage")
    process.served(5)
    process.ask("open")
    await committed.wait()
    process.kill()
    heir = Process(store.record_usage, tmp_path / "usage")
    assert await heir.sweep()
    assert rows(tmp_path) == [("ok", 5), ("swept", 1)]
    assert segments(tmp_path / "usage") == []
    await heir.aclose()


async def test_a_database_that_is_locked_for_a_while_gets_it_all_afterwards(
    store, tmp_path, monkeypatch
):
    monkeypatch.setattr(db, "BUSY_TIMEOUT_S", 0.05)
    monkeypatch.setattr(meter, "WAITING_MAX", 20)
    impatient = await Store.open(url_in(tmp_path))
    other = sqlite3.connect(tmp_path / "modelyard.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    process = Process(impatient.record_usage, tmp_path / "usage")
    process.served(100)
    await asyncio.sleep(0.3)
    assert (process.counts.waiting, process._waiting_count) == (100, 20)
    process.ask("open")
    process.kill()
    heir = Process(impatient.record_usage, tmp_path / "usage")
    heir.served(100, first=100)
    heir.note()
    assert not await heir.sweep()
    other.execute("ROLLBACK")
    other.close()
    assert await heir.sweep()
    await heir.aclose()
    heir.check()
    assert rows(tmp_path) == [("ok", 200), ("swept", 1)]
    await impatient.aclose()
