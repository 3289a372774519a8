"""Clients that leave, dawdle or stall: a worker works for nobody, and nothing is left behind."""

import asyncio

import pytest
from gateway_world import (
    SECRET,
    a_declared,
    a_gateway,
    a_pair,
    good,
    token,
)


async def open_request(gateway, body, *, declared=None):
    """A raw client that has sent a POST and not yet read."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    head = (
        "POST /v1/completions HTTP/1.1\r\nhost: x\r\n"
        f"authorization: Bearer {SECRET}\r\n"
        f"content-length: {len(body) if declared is None else declared}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    return reader, writer


class Watched:
    """A worker that stops where it is told to and notes when the gateway hangs up."""

    def __init__(self, *, tokens=0):
        self.tokens = tokens
        self.reached = asyncio.Event()
        self.aborted = asyncio.Event()

    async def __call__(self, call):
        if self.tokens:
            await call.begin_stream()
        for _ in range(self.tokens):
            await call.chunk(token("a"))
        self.reached.set()
        await call.until_closed()
        self.aborted.set()


@pytest.mark.parametrize("tokens", [0, 1, 5])
@pytest.mark.parametrize("stream", [b"true", b"false"])
async def test_a_client_that_leaves_stops_the_worker_at_once(tokens, stream):
    worker = Watched(tokens=tokens)
    async with a_gateway(worker) as gateway:
        _, writer = await open_request(gateway, b'{"model":"m","stream":%b}' % stream)
        await worker.reached.wait()
        await asyncio.sleep(0.05)
        writer.close()
        await asyncio.wait_for(worker.aborted.wait(), 1)
        await gateway.assert_quiet()
        if tokens and stream == b"false":
            return  # a stream nobody asked for is a broken answer, refused before
        (record,) = await gateway.usage()
        assert record.status == "cancelled"
        assert record.completion_tokens <= tokens
        labels = {"model": "m", "variant": "default", "mode": "aggregated"}
        assert gateway.sample("modelyard_requests_total", **labels, status="499") == 1


@pytest.mark.parametrize("leg", ["prefill", "decode"])
async def test_a_client_that_leaves_during_a_leg_stops_that_leg(leg):
    worker = Watched()
    async with a_pair(**{leg: [worker]}) as gateway:
        _, writer = await open_request(gateway, b'{"model":"m","stream":true}')
        await worker.reached.wait()
        writer.close()
        await asyncio.wait_for(worker.aborted.wait(), 1)
        await gateway.assert_quiet()
        if leg == "prefill":
            assert gateway.decodes[0].calls == []
        (record,) = await gateway.usage()
        assert record.status == "cancelled"


async def test_one_client_leaving_does_not_disturb_another():
    async def slow(call):
        await asyncio.sleep(0.2)
        await good(call)

    async with a_gateway(slow) as gateway:
        other = asyncio.create_task(gateway.post(stream=True))
        _, writer = await open_request(gateway, b'{"model":"m"}')
        await asyncio.sleep(0.05)
        writer.close()
        assert (await other).status_code == 200


async def test_a_client_that_leaves_before_its_body_is_whole_reaches_no_worker():
    async with a_gateway() as gateway:
        _, writer = await open_request(gateway, b'{"mo', declared=100)
        await asyncio.sleep(0.05)
        writer.close()
        await asyncio.sleep(0.05)
        assert gateway.workers[0].calls == []
        assert await gateway.usage() == []


async def test_a_body_that_does_not_come_is_a_408():
    async with a_gateway(body_timeout_s=0.1) as gateway:
        reader, writer = await open_request(gateway, b'{"mo', declared=100)
        answer = await asyncio.wait_for(reader.read(), 2)  # and the connection is closed
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b'"code":"request_timeout"' in answer
        writer.close()


async def test_a_body_that_comes_in_small_pieces_is_read_whole():
    async with a_gateway() as gateway:
        body = b'{"model":"m","prompt":"hi"}'
        reader, writer = await open_request(gateway, b"", declared=len(body))
        for byte in body:
            writer.write(bytes([byte]))
            await asyncio.sleep(0.001)
        assert (await reader.readline()) == b"HTTP/1.1 200 OK\r\n"
        writer.close()
        assert gateway.workers[0].calls[0].body == body


async def test_a_client_that_does_not_read_frees_the_worker():
    async def pour(call):
        await call.begin_stream()
        while True:
            await call.chunk(token("x" * 65536))

    limits = {"between_tokens_s": 0.3}
    async with a_gateway(pour, model=a_declared(limits=limits)) as gateway:
        reader, writer = await open_request(gateway, b'{"model":"m","stream":true}')
        await reader.readline()
        await asyncio.sleep(0.1)
        await gateway.assert_quiet()
        (record,) = await gateway.usage()
        assert record.status == "cancelled"
        writer.transport.abort()


async def test_requests_on_one_connection_are_answered_in_order():
    async with a_gateway() as gateway:
        one = (
            b"POST /v1/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer "
            + SECRET.encode()
            + b'\r\nx-request-id: %b\r\ncontent-length: 13\r\n\r\n{"model":"m"}'
        )
        answer = await gateway.raw(one % b"first" + one % b"second")
        assert answer.count(b"HTTP/1.1 200 OK") == 2
        assert answer.index(b"x-request-id: first") < answer.index(b"x-request-id: second")


async def test_a_gateway_that_is_cancelled_lets_go_of_its_worker():
    worker = Watched(tokens=1)
    async with a_gateway(worker) as gateway:
        _, writer = await open_request(gateway, b'{"model":"m","stream":true}')
        await worker.reached.wait()
        await asyncio.sleep(0.05)
        (task,) = [task for task in asyncio.all_tasks() if "Listener._run" in repr(task.get_coro())]
        task.cancel()
        await asyncio.wait_for(worker.aborted.wait(), 1)
        writer.close()
        await asyncio.gather(task, return_exceptions=True)
        (record,) = await gateway.usage()
        assert record.status == "error"
