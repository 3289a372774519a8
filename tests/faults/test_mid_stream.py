"""A worker that fails in the middle of a stream: another one carries it on, to the letter."""

import asyncio

import pytest
from fault_client import chat, plain
from fault_history import End, expected
from fault_world import PATIENT

WITH_USAGE = {"stream": True, "stream_options": {"include_usage": True}}
FORMS = {
    "chat": lambda: chat(**WITH_USAGE),
    "chat-limit": lambda: chat(**WITH_USAGE, max_tokens=40),
    "chat-plain-usage": lambda: chat(stream=True, max_completion_tokens=40),
    "plain": lambda: plain(**WITH_USAGE),
    "plain-limit": lambda: plain(**WITH_USAGE, max_tokens=40),
    "plain-no-usage": lambda: plain(stream=True, max_tokens=40),
}


@pytest.mark.parametrize("how", ["kill", "stop"])
async def test_under_load_nothing_is_lost(world, how):
    async with world(workers=3, limits=PATIENT) as w:
        async with w.load(clients=20):
            await asyncio.sleep(0.5)
            getattr(w.workers[0], how)()
            await asyncio.sleep(1)
        await w.all_ok()
        assert len(w.calls) > 24, "there was load"


@pytest.mark.parametrize("how", ["kill", "stop"])
async def test_every_form_is_carried_on(world, how):
    async with world(workers=2, limits=PATIENT) as w:
        calls = [w.call(form()) for form in FORMS.values() for _ in range(2)]
        await asyncio.gather(*(call.got(5) for call in calls))
        hit = [call for call in calls if not call.done and w.answerer(call) is w.workers[0]]
        getattr(w.workers[0], how)()
        await w.all_ok()
        assert len(hit) >= 3


@pytest.mark.parametrize("kind", ["die", "truncate", "error", "hang"])
@pytest.mark.parametrize("form", ["chat-limit", "plain-limit"])
async def test_however_it_breaks_off(world, kind, form):
    async with world(workers=2) as w:
        w.workers[0].fault(kind, after_tokens=5, count=1)
        for _ in range(2):
            w.call(FORMS[form]())
        await w.all_ok()
        assert w.counted("ended_error") + w.counted("ended_abort") == 1


async def test_the_usage_that_is_charged_is_of_the_whole(world):
    async with world(workers=2) as w:
        key_id, key = await w.new_key()
        w.workers[0].fault("die", after_tokens=5, count=1)
        calls = [w.call(FORMS["chat-limit"](), key=key) for _ in range(2)]
        await w.all_ok()
        charged = await w.charged(key_id, requests=2)
        assert (charged.requests, charged.errors, charged.completion_tokens) == (2, 0, 80)
        assert charged.prompt_tokens == sum(
            expected(call.path, call.body).usage["prompt_tokens"] for call in calls
        )


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]},
        {"logprobs": True},
        # Of several answers, and of a schema, the emulator's are no longer what plain ones are.
        {"guided_regex": ".*"},
        {"prompt_logprobs": 1},
    ],
    ids=lambda fields: next(iter(fields)),
)
async def test_what_cannot_be_carried_on_ends_with_an_error_event(world, fields):
    async with world(workers=2) as w:
        for worker in w.workers:
            worker.fault("die", after_tokens=5)
        w.call(chat(stream=True, max_tokens=40, **fields))
        assert await w.ends() == {End.BROKEN: 1}
        assert w.counted("ended_error") == 1


async def test_with_the_last_worker_gone_a_stream_says_so(world):
    async with world(workers=1) as w:
        call = w.call(chat(stream=True, max_tokens=40))
        await call.got(5)
        w.workers[0].kill()
        assert await w.ends() == {End.BROKEN: 1}


async def test_a_stream_is_not_carried_on_for_ever(world):
    async with world(workers=2) as w:
        for worker in w.workers:
            worker.fault("die", after_tokens=2)
        w.call(chat(stream=True, max_tokens=400))
        assert await w.ends() == {End.BROKEN: 1}
        assert w.counted("ended_error") <= 10
