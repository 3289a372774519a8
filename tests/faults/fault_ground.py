"""Makes what fault tests stand on."""

import asyncio
import contextlib

from fault_processes import GatewayProcess
from fault_world import Ground, Pool, make_keys, until

from registry import db
from registry.store import Store


@contextlib.contextmanager
def a_ground(home):
    """A registry in *home*, a gateway on it, emulators; all end with it."""
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
