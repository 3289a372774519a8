"""A client that leaves frees the engine within a second, whenever it leaves."""

import asyncio

import pytest
from fault_client import chat, plain
from fault_history import End
from fault_world import until

WITHIN_S = 1.0
LONG = {"max_tokens": 2000}
forms = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


async def leaves(w, call, worker):
    """Leaves once *worker* has the request, and sees it freed."""
    await until(lambda: worker.busy == 1, 5, "the request is on the worker")
    await call.leave()
    w.calls.remove(call)
    await until(lambda: worker.busy == 0, WITHIN_S, "the worker is free")
    await until(lambda: not any(w.in_flight()), WITHIN_S, "nothing is in flight")


@forms
async def test_before_the_first_byte(world, stream):
    async with world(workers=1) as w:
        w.workers[0].fault("slow", factor=500, count=1)
        await leaves(w, w.call(chat(stream=stream, **LONG)), w.workers[0])
        assert w.counted("ended_abort") == 1


@forms
async def test_in_the_middle(world, stream):
    async with world(workers=1) as w:
        call = w.call(plain(stream=stream, **LONG))
        if stream:
            await call.got(5)
        await leaves(w, call, w.workers[0])
        assert w.counted("ended_abort") == 1


@forms
async def test_during_prefill(world, stream):
    async with world(pair=(1, 1)) as w:
        w.prefills[0].fault("slow", factor=500)
        await leaves(w, w.call(chat(stream=stream, **LONG)), w.prefills[0])
        assert w.counted("ended_abort", w.prefills) == 1
        assert w.counted("prompt_tokens_total", w.decodes) == 0


@forms
async def test_between_the_legs(world, stream):
    async with world(pair=(1, 1), pace={"kv-transfer-ms": 60_000}, limits={"transfer_s": 30}) as w:
        await leaves(w, w.call(chat(stream=stream, **LONG)), w.decodes[0])
        assert w.counted("ended_abort", w.decodes) == 1


@forms
async def test_while_queued(world, stream):
    async with world(workers=1, limits={"in_flight_per_worker": 1}) as w:
        first = w.call(chat(stream=True, max_tokens=100))
        await first.got(1)
        waiting = w.call(chat(stream=stream, **LONG))
        await asyncio.sleep(0.2)
        assert not waiting.done
        await waiting.leave()
        w.calls.remove(waiting)
        await w.all_ok()
        w.call(chat(max_tokens=2))
        await w.all_ok()
        assert w.counted("ended_abort") == 0
        assert w.counted("ended_length") == 2


@forms
async def test_after_the_end_there_is_nothing_to_abort(world, stream):
    async with world(workers=1) as w:
        call = w.call(chat(stream=stream, max_tokens=3))
        assert await w.ends() == {End.OK: 1}
        await call.leave()
        assert w.counted("ended_abort") == 0


async def test_the_others_do_not_notice(world):
    async with world(workers=2) as w:
        async with w.load(clients=12):
            for _ in range(10):
                call = w.call(chat(stream=True, **LONG))
                await call.got(2)
                await call.leave()
                w.calls.remove(call)
        await w.all_ok()
        assert w.counted("ended_abort") == 10
