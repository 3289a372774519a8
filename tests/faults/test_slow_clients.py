"""Clients that read slowly, or not at all, or dawdle over their request: they hold no worker."""

import asyncio
import time

import pytest
from fault_client import Call, chat
from fault_world import until

# Enough to fill every socket's buffer on the way, at a pace that outlasts the deadline.
FLOOD = {"stream": True, "max_tokens": 90_000}
FAST = {"ttft-ms": 1, "tpot-ms": 0.1}
HEADER_DEADLINE_S = 10


class Reader(Call):
    """Reads *read_bytes* five times a second, and from the start."""

    read_bytes = 1

    async def _read(self, reader):
        await asyncio.sleep(0.2)
        return await reader.read(self.read_bytes)


class Sleeper(Call):
    """Never reads."""

    async def _read(self, reader):
        reader._transport.pause_reading()
        await asyncio.sleep(3600)


@pytest.mark.parametrize("kind", [Reader, Sleeper], ids=["slow", "stalled"])
async def test_a_client_that_does_not_read_loses_its_worker(world, kind):
    async with world(workers=1, pace=FAST, limits={"between_tokens_s": 0.5}) as w:
        (worker,) = w.workers
        gateway_sockets = w.gateway.sockets
        call = kind(w.gateway.url, chat(**FLOOD), key=w.key, receive_bytes=4096)
        try:
            await until(lambda: worker.busy == 1, 5, "the request is on the worker")
            await until(lambda: worker.busy == 0, 8, "the worker is free")
            assert w.counted("ended_abort") == 1
            await until(
                lambda: w.gateway.sockets <= gateway_sockets + 1, 3, "the client's socket is closed"
            )
        finally:
            await call.leave()


async def test_a_request_that_trickles_in_is_cut(world):
    async with world(workers=1) as w:
        reader, writer = await asyncio.open_connection("127.0.0.1", w.gateway.port)
        began = time.monotonic()

        async def trickle() -> None:
            writer.write(b"POST /v1/completions HTTP/1.1\r\nhost: gateway\r\nx-slow: ")
            while not writer.is_closing():
                writer.write(b"a")
                await asyncio.sleep(0.5)

        trickling = asyncio.create_task(trickle())
        try:
            async with asyncio.timeout(HEADER_DEADLINE_S + 5):
                answer = await read_to_end(reader)
        finally:
            trickling.cancel()
            writer.transport.abort()
        assert time.monotonic() - began > HEADER_DEADLINE_S - 1
        assert answer == b"" or answer.startswith(b"HTTP/1.1 408")


async def read_to_end(reader) -> bytes:
    answer = b""
    try:
        while part := await reader.read(4096):
            answer += part
    except ConnectionError:
        pass
    return answer
