"""Usage adds up exactly, whichever gateway process is killed, and while the database is away."""

import asyncio
import contextlib
import sqlite3

import pytest
from fault_ground import a_ground
from fault_processes import GatewayProcess
from fault_usage import Books, Traffic, Witness, assert_adds_up
from fault_world import PATIENT, a_world, until


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    """A home of its own: here all its gateways are killed."""
    with a_ground(tmp_path_factory.mktemp("home")) as made:
        yield made
        made.gateway.end()


@pytest.fixture
def start(ground):
    """Starts gateways of the home; they end with the test."""
    with contextlib.ExitStack() as stack:

        def one(**more):
            gateway = GatewayProcess(ground.home, ground.admin_secret, **more)
            stack.callback(gateway.end)
            return gateway

        yield one


@contextlib.asynccontextmanager
async def watched(ground):
    """A world whose workers are seen through a witness, and traffic for it, not yet flowing."""
    async with Witness() as witness, a_world(ground, limits=PATIENT, through=witness.before) as w:
        key_id, key = await w.new_key()
        books = Books(ground, key_id)
        traffic = Traffic(key, [ground.gateway])

        async def check(**more):
            return await assert_adds_up(traffic, witness, books, **more)

        yield w, traffic, check


async def renewed(ground, w):
    """A gateway in the place of the ground's own, which was killed."""
    ground.gateway = w.gateway = GatewayProcess(ground.home, ground.admin_secret)
    await serves(w, ground.gateway)


async def serves(w, gateway, processes=1, *, but=frozenset()):
    """Until so many processes serve, none of the pids *but*, all of them with the newest table."""

    def there():
        pids = {child.pid for child in gateway.children}
        return gateway.ready and (processes == 1 or (len(pids) == processes and not pids & but))

    await until(there, 30, "the gateway's processes are there")
    await w.seen_by(gateway)


async def settled(gateway):
    """What *gateway* says of its own usage adds up."""

    def holds():
        value = {
            name: gateway.samples(f"modelyard_usage_{name}").get("", 0.0)
            for name in ("opened_total", "open", "waiting", "records_dropped_total")
        }
        closed = sum(gateway.samples("modelyard_usage_closed_total").values())
        return value == {
            "opened_total": closed,
            "open": 0,
            "waiting": 0,
            "records_dropped_total": 0,
        }

    await until(holds, 10, "opened = closed, and none waits")


async def test_two_gateways_of_one_home_killed_in_turn(ground, start):
    async with watched(ground) as (w, traffic, check):
        other = start()
        await serves(w, other)
        traffic.gateways.append(other)
        async with traffic.flows():
            await asyncio.sleep(1)
            traffic.kill(other)
            await asyncio.sleep(0.5)
            traffic.gateways[1] = start()
            await serves(w, traffic.gateways[1])
            await asyncio.sleep(0.5)
            traffic.kill(ground.gateway)
            await asyncio.sleep(0.5)
            await renewed(ground, w)
            traffic.gateways[0] = ground.gateway
            await asyncio.sleep(0.5)
        statuses = await check()
        assert statuses["swept"] > 4, "there was load when they were killed"
        assert statuses["ok"] > 100
        for gateway in traffic.gateways:
            await settled(gateway)


async def test_processes_of_one_gateway_killed_in_turn(ground, start):
    async with watched(ground) as (w, traffic, check):
        gateway = start(workers=2)
        await serves(w, gateway, 2)
        traffic.gateways[:] = [gateway]
        async with traffic.flows():
            for _ in range(2):
                await asyncio.sleep(1)
                victim = gateway.children[0]
                traffic.kill(victim)
                await serves(w, gateway, 2, but={victim.pid})
            await asyncio.sleep(0.5)
        statuses = await check()
        assert statuses["swept"] > 4
        await settled(gateway)


async def test_all_killed_at_once_and_started_again(ground, start):
    """Nobody is left who could sweep; the next one does."""
    async with watched(ground) as (w, traffic, check):
        other = start()
        await serves(w, other)
        traffic.gateways.append(other)
        async with traffic.flows():
            await asyncio.sleep(1)
            traffic.kill(other)
            traffic.kill(ground.gateway)
        await renewed(ground, w)
        statuses = await check()
        assert statuses["swept"] > 4
        assert ground.gateway.samples("modelyard_usage_swept_total") == {"": statuses["swept"]}


async def test_a_gateway_that_stands_still_is_not_taken_for_dead(ground, start):
    async with watched(ground) as (w, traffic, check):
        other = start()
        await serves(w, other)
        traffic.gateways[:] = [other]
        before = ground.gateway.samples("modelyard_usage_swept_total")
        async with traffic.flows(clients=8):
            await asyncio.sleep(0.5)
            other.stop()
            await asyncio.sleep(5)  # longer than a sweep
            other.cont()
        assert set(await check()) == {"ok"}
        assert ground.gateway.samples("modelyard_usage_swept_total") == before


async def test_a_database_that_takes_nothing_for_a_while(ground, start):
    """… while one process is killed and another is told to end, and new ones come."""
    async with watched(ground) as (w, traffic, check):
        others = [start(), start()]
        for other in others:
            await serves(w, other)
        traffic.gateways += others
        with contextlib.closing(
            sqlite3.connect(ground.home / "modelyard.db", isolation_level=None)
        ) as database:
            async with traffic.flows():
                await asyncio.sleep(0.5)
                database.execute("BEGIN IMMEDIATE")
                await asyncio.sleep(2)
                traffic.kill(others[0])
                traffic.gateways.remove(others[0])
                await asyncio.sleep(0.5)
                traffic.gateways.remove(others[1])
                others[1].terminate()
                await asyncio.to_thread(others[1].wait, 40)
                new = start()
                await serves(w, new)
                traffic.gateways.append(new)
                await asyncio.sleep(4)  # by now, a write has failed for good
                waiting = ground.gateway.samples("modelyard_usage_waiting")[""]
                answered = sum(sent.ok for sent in traffic.sent.values())
                database.execute("ROLLBACK")
                await asyncio.sleep(1)
        assert waiting > 100, "and all were answered meanwhile"
        assert answered > 300
        statuses = await check(within_s=30)
        assert statuses["ok"] >= answered
        assert statuses["swept"] > 1
        for gateway in traffic.gateways:
            await settled(gateway)
