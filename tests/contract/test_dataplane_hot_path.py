"""What a request, and what a token, must never cost: a query, a slow hash, a parsed chunk."""

import asyncio
import contextlib
import gc
import json
import sys
from collections import Counter
from pathlib import Path

import pytest
from dialects import BODIES, EVENTS
from gateway_world import (
    DONE,
    SECRET,
    USAGE_EVENT,
    a_gateway,
    closed_port_url,
    completion,
    token,
)

from gateway.tallies import Count
from gateway.tracing import otlp
from gateway.tracing.otlp import OtlpTracer

ROOT = Path(__file__).parents[2]
OURS = tuple(str(ROOT / package) for package in ("gateway", "pipelines", "registry"))
FOREIGN = ("sqlalchemy", "aiosqlite", "alembic", "structlog", "litestar")
SLOW_HASHES = ("pbkdf2", "scrypt", "argon2", "bcrypt", "blake2")


def teller(tokens):
    async def tell(call):
        if not call.json.get("stream"):
            await call.answer(body=completion())
            return
        await call.begin_stream()
        for number in range(tokens):
            await call.chunk(token(f"word{number} "))
        await call.chunk(USAGE_EVENT)
        await call.chunk(DONE)
        await call.end_stream()

    return tell


@contextlib.contextmanager
def watched():
    """Counts the C functions that our own code calls, and the foreign modules that run at all."""
    called, entered = Counter(), Counter()

    def note(frame, event, arg):
        if event == "c_call" and frame.f_code.co_filename.startswith(OURS):
            called[f"{arg.__module__ or type(arg.__self__).__module__}.{arg.__qualname__}"] += 1
        elif event == "call":
            for name in FOREIGN:
                if f"/{name}/" in frame.f_code.co_filename:
                    entered[name] += 1

    sys.setprofile(note)
    try:
        yield called, entered
    finally:
        sys.setprofile(None)


async def seen(tokens, *, stream):
    async with a_gateway(teller(tokens)) as gateway:
        await gateway.post(stream=stream)  # what is made once is made
        with watched() as (called, entered):
            answer = await gateway.post(stream=stream)
        assert answer.status_code == 200
        return called, entered


def decodes(called):
    return sum(count for name, count in called.items() if "decode" in name and "json" in name)


async def test_a_token_costs_no_json_parse():
    short, _ = await seen(4, stream=True)
    long, _ = await seen(64, stream=True)
    assert decodes(short) > 0, "the request itself is parsed, or this test counts nothing"
    assert decodes(long) == decodes(short)


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/messages", "/v1/chat/completions"])
async def test_a_token_costs_no_json_parse_in_any_dialect(path):
    async def tell(call):
        await call.begin_stream()
        for data in EVENTS[path](("word",) * call.json["tokens"]):
            await call.chunk(data)
        await call.end_stream()

    async with a_gateway(tell) as gateway:
        parsed, calls = [], []
        for tokens in (4, 4, 64):  # what is made once is made
            with watched() as (called, _):
                answer = await gateway.post(
                    path, stream=True, tokens=tokens, prompt=None, **BODIES[path]
                )
            assert answer.content.count(b"word") >= tokens
            parsed.append(decodes(called))
            calls.append(sum(called.values()))
    assert parsed[1] == parsed[2] > 0
    assert (calls[2] - calls[1]) / 60 < 30


async def test_a_token_costs_few_calls_at_all():
    short, _ = await seen(4, stream=True)
    long, _ = await seen(64, stream=True)
    per_token = (sum(long.values()) - sum(short.values())) / 60
    assert per_token < 30


@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_costs_no_query_no_log_call_and_no_slow_hash(stream):
    called, entered = await seen(8, stream=stream)
    assert not entered, f"not in the path of a request: {entered}"
    hashes = {name for name in called if "hash" in name or any(s in name for s in SLOW_HASHES)}
    assert not hashes, "the key is looked up by its digest, once"


async def test_many_requests_are_metered_in_few_writes():
    async with a_gateway(teller(1)) as gateway:
        writes = []
        keep = gateway.metering._sink

        async def sink(records):
            writes.append(len(records))
            await keep(records)

        gateway.metering._sink = sink
        for _ in range(50):
            await gateway.post()
        assert len(await gateway.usage()) == 50
        assert len(writes) <= 3


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_leaves_nothing_to_the_garbage_collector(stream, traced, monkeypatch):
    """A full collection walks all that lives and stops every stream meanwhile."""
    monkeypatch.setattr(otlp, "CLOSE_S_MAX", 0.1)
    tracer = OtlpTracer(closed_port_url(), 1.0, Count()) if traced else None
    async with a_gateway(teller(4), tracer=tracer) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        body = json.dumps({"model": "m", "prompt": "hi", "stream": stream}).encode()
        head = f"host: x\r\nauthorization: Bearer {SECRET}\r\ncontent-length: {len(body)}\r\n\r\n"
        request = b"POST /v1/completions HTTP/1.1\r\n" + head.encode() + body

        async def ask():
            writer.write(request)
            await reader.readuntil(b"[DONE]\n\n\r\n0\r\n\r\n" if stream else b'"hello"')
            await asyncio.sleep(0.01)
            await reader.read(65536) if not stream else None

        await ask()
        gc.collect()
        gc.disable()
        try:
            for _ in range(10):
                await ask()
            gc.set_debug(gc.DEBUG_SAVEALL)
            gc.collect()
            ours = {
                type(o).__name__ for o in gc.garbage if type(o).__module__.startswith("gateway")
            }
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
            writer.close()
    assert not ours
