"""A worker that fails before anything was sent: the client does not notice."""

import asyncio

import pytest
from fault_client import chat, plain
from fault_history import End
from fault_world import PATIENT, mixed, until


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 500},
        {"kind": "status", "status": 502},
        {"kind": "status", "status": 503},
        {"kind": "error"},  # which in a stream is an event after the 200
        {"kind": "die"},
        {"kind": "truncate"},
    ],
    ids=lambda fault: f"{fault['kind']}{fault.get('status', '')}",
)
async def test_another_worker_answers(world, fault):
    async with world(workers=2) as w:
        bad, good = w.workers
        bad.fault(**fault)
        for turn in range(0, 12, 4):
            await asyncio.gather(*(w.call(mixed(turn + more)) for more in range(4)))
        await w.all_ok()
        assert w.counted("ended_error", [bad]) >= 1
        assert w.counted("ended_error", [good]) == 0


@pytest.mark.parametrize("how", ["kill", "stop"])
async def test_a_dead_or_frozen_worker_is_passed_over(world, how):
    async with world(workers=2, limits=PATIENT) as w:
        for turn in range(4):  # so that there are connections to find dead
            await w.call(mixed(turn))
        getattr(w.workers[0], how)()
        calls = [w.call(mixed(turn)) for turn in range(20)]
        await w.all_ok()
        assert {w.answerer(call) for call in calls} == {w.workers[1]}


async def test_an_answer_that_does_not_begin_is_asked_for_elsewhere(world):
    async with world(workers=2) as w:
        w.workers[0].fault("hang")
        for _ in range(3):
            w.call(chat(stream=True, max_tokens=8))
            w.call(plain(stream=True, max_tokens=8))
        await w.all_ok()


async def test_an_unstreamed_answer_that_does_not_come_is_given_up(world):
    """Nobody can tell it from a long one; its deadline can."""
    async with world(workers=1, limits={"total_s": 0.5}) as w:
        w.workers[0].fault("hang")
        w.call(plain(max_tokens=8))
        assert await w.ends() == {End.REFUSED: 1}
        await until(lambda: w.counted("ended_abort") == 1, 1, "the worker is told")


async def test_an_answer_that_is_none_is_asked_for_elsewhere(world):
    async with world(workers=2) as w:
        w.workers[0].fault("garbage")
        await asyncio.gather(*(w.call(plain(max_tokens=8)) for _ in range(4)))
        await w.all_ok()
        assert w.counted("ended_error") >= 1


async def test_retries_do_not_add_to_the_trouble(world):
    """All fail, and each after a while, so that many are under way."""
    async with world(workers=3) as w:
        for worker in w.workers:
            worker.fault("error", after_tokens=10)
        async with w.load(clients=60, stream=False, max_tokens=20):
            await asyncio.sleep(1.5)
        asked = len(w.calls)
        assert asked > 200
        assert await w.ends() == {End.REFUSED: asked}
        # Second tries are a fifth of what is under way: a quarter of the first ones, and chance.
        assert asked < w.counted("ended_error") < 1.3 * asked
        assert {(await call).status for call in w.calls} <= {502, 503}
