"""The emulator's KV events, read by the gateway's own decoder."""

import contextlib

import httpx
import pytest
import zmq
import zmq.asyncio

from gateway.kv_feed import decode
from gateway.routing.kv_index import BlockRemoved, BlockStored
from pipelines.engines.emulator.options import Options
from pipelines.engines.emulator.server import serve

LONG = "one of the old bridges on the river " * 20


class Reader:
    """A subscriber, and a client to make the events."""

    def __init__(self, socket, http):
        self._socket = socket
        self.http = http

    async def after(self, prompt):
        """The events that came of this prompt."""
        answer = await self.http.post("/v1/completions", json={"prompt": prompt, "max_tokens": 1})
        assert answer.status_code == 200, answer.text
        events = []
        while await self._socket.poll(100):
            self.number, got = decode(await self._socket.recv_multipart())
            events += got
        return events

    async def tokens(self, prompt):
        return (await self.http.post("/tokenize", json={"prompt": prompt})).json()["tokens"]


@contextlib.asynccontextmanager
async def reader(tmp_path, **options):
    endpoint = f"ipc://{tmp_path}/kv"
    async with (
        serve(Options(kv_events_endpoint=endpoint, **options)) as emulator,
        httpx.AsyncClient(trust_env=False, base_url=emulator.url, timeout=5) as http,
    ):
        with zmq.asyncio.Context() as context, context.socket(zmq.SUB) as socket:
            socket.subscribe(b"")
            socket.connect(endpoint)
            found = Reader(socket, http)
            for number in range(50):  # a subscription takes a moment
                if await found.after(f"a try, number {number} " * 16):
                    break
            yield found


async def test_a_prompt_is_stored_in_whole_blocks_of_its_tokens(tmp_path):
    async with reader(tmp_path) as kv:
        (stored,) = await kv.after(LONG)
        assert isinstance(stored, BlockStored)
        assert stored.parent_block_hash is None
        ids = await kv.tokens(LONG)
        assert len(ids) // 16 == len(stored.block_hashes) > 5
        assert list(stored.token_ids) == ids[: len(stored.token_ids)]


async def test_what_is_there_is_not_stored_again_and_what_follows_names_its_parent(tmp_path):
    async with reader(tmp_path) as kv:
        (first,) = await kv.after(LONG)
        number = kv.number
        assert await kv.after(LONG) == []
        (more,) = await kv.after(LONG + LONG)
        assert more.parent_block_hash == first.block_hashes[-1]
        assert kv.number == number + 1


async def test_what_has_no_room_is_removed_the_oldest_first(tmp_path):
    async with reader(tmp_path, kv_blocks=10) as kv:
        *_, first = await kv.after(LONG)
        removed, second = await kv.after("another prompt, not a long one: " * 10)
        assert isinstance(removed, BlockRemoved)
        assert len(first.block_hashes) == 10 > len(second.block_hashes) > 1
        # A prompt's head goes last: what is left of it is still of use.
        left = 10 - len(second.block_hashes)
        assert list(removed.block_hashes) == first.block_hashes[: left - 1 : -1]


async def test_a_cached_prompt_needs_no_prefill(tmp_path):
    async with reader(tmp_path, prefill_tokens_per_s=400) as kv:
        times = []
        for _ in range(2):
            answer = await kv.http.post("/v1/completions", json={"prompt": LONG, "max_tokens": 1})
            times.append(answer.elapsed.total_seconds())
        assert times[0] > 0.3 > times[1]


async def test_an_endpoint_that_cannot_be_bound_is_said(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        async with reader(tmp_path / "missing"):
            pass
