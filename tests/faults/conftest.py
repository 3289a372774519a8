"""What the fault suite stands on: one registry, one gateway, a pool of emulators."""

import asyncio
import contextlib

import pytest
from fault_processes import GatewayProcess
from fault_world import Ground, Pool, a_world, make_keys, until

from registry import db
from registry.store import Store


@pytest.fixture(scope="session")
def ground(tmp_path_factory):
    with a_ground(tmp_path_factory.mktemp("home")) as made:
        yield made


@contextlib.contextmanager
def a_ground(home):
    database = f"sqlite+aiosqlite:///{home / 'modelyard.db'}"
    pool = Pool()
    with contextlib.ExitStack() as stack:
        stack.callback(pool.end)
        yield asyncio.run(_prepare(home, database, pool, stack))


async def _prepare(home, database, pool, stack):
    await db.upgrade(database)
    store = await Store.open(database)
    try:
        keys, admin = await make_keys(store)
    finally:
        await store.aclose()
    gateway = GatewayProcess(home, admin)
    stack.callback(gateway.end)
    await until(lambda: gateway.ready, 20, "the gateway has read the registry")
    return Ground(
        home=home,
        database=database,
        keys=keys,
        admin_secret=admin,
        gateway=gateway,
        sockets=min(gateway.sockets for _ in range(20)),
        pool=pool,
    )


@pytest.fixture
def world(ground):
    """``async with world(...)``: a model on workers of its own."""
    return lambda **wanted: a_world(ground, **wanted)
