"""The feed of KV events against real ZeroMQ publishers, bound as vLLM binds them."""

import asyncio
import contextlib
import time
from types import SimpleNamespace

import msgspec
import pytest
import zmq
import zmq.asyncio
from fleets import a_snapshot, a_worker, unified
from msgspec.structs import replace

from gateway import kv_feed
from gateway.kv_feed import KvFeed
from gateway.routing.blocks import token_blocks
from gateway.routing.kv_index import KvIndexes
from gateway.routing.table import build_table
from pipelines.topology import expand
from registry.spec import Routing, RoutingPolicy
from registry.state import Phase

TOKENS = (1, 2, 3, 4)
PADDING = "x" * 65_536  # so that few batches fill the kernel's buffers


class Publisher:
    """An engine's PUB socket. It says nothing to those who are not there yet."""

    def __init__(self, folder, name="w", queued_max=1000):
        self.queued_max = queued_max
        self.url = f"ipc://{folder}/{name}"
        self.context = zmq.asyncio.Context()
        self.number = 0
        self.bind()

    def bind(self):
        self.socket = self.context.socket(zmq.XPUB)  # PUB that also sees who subscribes
        self.socket.set(zmq.XPUB_VERBOSE, 1)
        self.socket.set(zmq.LINGER, 0)
        self.socket.set(zmq.SNDHWM, self.queued_max)
        self.socket.bind(self.url)

    async def subscribed(self, times=1):
        async with asyncio.timeout(5):
            for _ in range(times):
                assert await self.socket.recv() == b"\x01"

    async def send(self, *events, number=None, padding=0):
        self.number = self.number if number is None else number
        payload = msgspec.msgpack.encode([0.0, list(events), padding])
        await self.socket.send_multipart((b"", self.number.to_bytes(8, "big"), payload))
        self.number += 1

    async def store(self, block_hash, tokens, parent=None):
        await self.send(["BlockStored", [block_hash], parent, list(tokens), len(tokens), None])

    def close(self):
        self.context.destroy(linger=0)


@pytest.fixture
def publisher(tmp_path):
    made = Publisher(tmp_path)
    yield made
    made.close()


@contextlib.asynccontextmanager
async def running(feed):
    task = asyncio.create_task(feed.run())
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def table_of(*publishers, policy=RoutingPolicy.KV_EVENTS, phase=Phase.READY):
    model = unified("m", workers=len(publishers))
    spec = replace(model.spec, routing=Routing(policy=policy))
    workers = [
        a_worker(plan, phase, id=f"w{plan.ordinal}", events_url=publishers[plan.ordinal].url)
        for gang in expand(replace(model, spec=spec))
        for plan in gang
    ]
    return build_table(a_snapshot(models=[replace(model, spec=spec)], workers=workers))


def held(index, tokens):
    return index.cached_tokens(lambda size: token_blocks(tokens, size))


async def until(condition, timeout_s=5.0):
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - it has no event to wait for
            await asyncio.sleep(0.005)


async def test_every_gateway_hears_what_a_worker_publishes(publisher):
    indexes = KvIndexes(), KvIndexes()
    async with contextlib.AsyncExitStack() as stack:
        for index in indexes:
            feed = KvFeed(index)
            feed.follow(table_of(publisher))
            await stack.enter_async_context(running(feed))
        await publisher.subscribed(2)
        await publisher.store(7, TOKENS)
        for index in indexes:
            await until(lambda index=index: held(index, TOKENS) == {"w0": 4})


async def test_workers_are_told_apart_and_each_is_forgotten_when_it_leaves(tmp_path):
    first, second = Publisher(tmp_path, "first"), Publisher(tmp_path, "second")
    index = KvIndexes()
    feed = KvFeed(index)
    with contextlib.closing(first), contextlib.closing(second):
        async with running(feed):
            feed.follow(table_of(first, second))
            await first.subscribed()
            await second.subscribed()
            await first.store(7, TOKENS)
            await second.store(8, TOKENS[:2])
            await until(lambda: len(index) == 2)
            assert held(index, TOKENS) == {"w0": 4, "w1": 2}

            feed.follow(table_of(first))
            await until(lambda: held(index, TOKENS) == {"w0": 4})
            await first.store(9, (5, 6, 7, 8), parent=7)
            await until(lambda: held(index, (*TOKENS, 5, 6, 7, 8)) == {"w0": 8})
        assert len(index) == 0


@pytest.mark.parametrize("table", [{"policy": RoutingPolicy.PREFIX}, {"phase": Phase.DRAINING}])
async def test_only_ready_workers_of_the_policy_are_listened_to(publisher, table):
    feed = KvFeed(KvIndexes())
    async with running(feed):
        feed.follow(table_of(publisher))
        await publisher.subscribed()
        feed.follow(table_of(publisher, **table))
        async with asyncio.timeout(5):
            assert await publisher.socket.recv() == b"\x00", "it unsubscribes"


async def test_a_worker_may_bind_after_and_come_back(publisher):
    index = KvIndexes()
    feed = KvFeed(index)
    feed.follow(table_of(publisher))
    publisher.socket.close()
    async with running(feed):
        for number, block_hash in ((40, 7), (0, 8)):
            publisher.bind()
            await publisher.subscribed()
            publisher.number = number
            await publisher.store(block_hash, TOKENS)
            await until(lambda: len(index) == 1)
            await publisher.store(block_hash + 100, TOKENS, parent=block_hash)
            await until(lambda: len(index) == 2)
            publisher.socket.close()
        assert feed.counts.gaps == 1, "the second engine began anew"


async def test_garbage_is_counted_and_the_next_batch_is_heard(publisher):
    index = KvIndexes()
    feed = KvFeed(index)
    feed.follow(table_of(publisher))
    async with running(feed):
        await publisher.subscribed()
        await publisher.socket.send(b"hello")
        await publisher.socket.send_multipart([b"", b"\xff" * 8, b"\xc1"])
        await publisher.send({"type": "Surprise"})
        await publisher.store(7, TOKENS)
        await until(lambda: len(index) == 1)
    assert feed.counts.bad_messages == 3


async def test_a_listener_that_is_too_slow_loses_batches_and_then_all_it_knew(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(kv_feed, "BATCHES_QUEUED_MAX", 4)
    index = KvIndexes()
    feed = KvFeed(index)
    with contextlib.closing(Publisher(tmp_path, queued_max=4)) as publisher:
        feed.follow(table_of(publisher))
        async with running(feed):
            await publisher.subscribed()
            await publisher.store(7, TOKENS)
            await until(lambda: len(index) == 1)
            for _ in range(100):  # nobody receives; ZeroMQ's own thread fills the queue
                await publisher.send(padding=PADDING)
                time.sleep(0.002)  # noqa: ASYNC251
            async with asyncio.timeout(5):
                while not feed.counts.gaps:
                    await publisher.send()
                    await asyncio.sleep(0.01)
            assert len(index) == 0


async def test_a_burst_leaves_requests_their_turn(publisher):
    feed = KvFeed(KvIndexes())
    feed.follow(table_of(publisher))
    async with running(feed):
        await publisher.subscribed()
        for number in range(500):
            await publisher.send(["AllBlocksCleared"], number=number)
        time.sleep(0.2)  # noqa: ASYNC251 - while ZeroMQ's own thread fills the queue
        turns = 0
        while feed.counts.events < 500:
            await asyncio.sleep(0)
            turns += 1
    assert turns > 100


async def test_an_address_that_is_none_costs_only_that_worker(publisher):
    index = KvIndexes()
    feed = KvFeed(index)
    feed.follow(table_of(SimpleNamespace(url="carrier-pigeon://roof"), publisher))
    async with running(feed) as task:
        await publisher.subscribed()
        await publisher.store(7, TOKENS)
        await until(lambda: held(index, TOKENS) == {"w1": 4})
        assert not task.done()


async def test_a_cancelled_feed_leaves_no_socket_and_no_index(publisher):
    index = KvIndexes()
    feed = KvFeed(index)
    feed.follow(table_of(publisher))
    async with running(feed) as task:
        await publisher.subscribed()
        await publisher.store(7, TOKENS)
        await until(lambda: len(index) == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert len(index) == 0
    async with asyncio.timeout(5):
        assert await publisher.socket.recv() == b"\x00"
