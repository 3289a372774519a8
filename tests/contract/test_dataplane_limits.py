"""Limits over the wire: who is turned away and how, and that every end gives back what it held."""

import asyncio
import json

import pytest
from gateway_world import (
    a_declared,
    a_fleet,
    a_gateway,
    a_key,
    a_table,
    event,
    good,
    token,
)

from registry.state import NANO, KeyLimits

PRICE = {"input": 1000, "output": 1000}  # 0.001 a token
TOKEN = NANO // 1000


def limit(gateway, model=None, **limits):
    """Gives the gateway's key these limits; *model* replaces its model."""
    model = model or a_declared(price=PRICE)
    fleet = a_fleet(model, unified=[fake.url for fake in gateway.workers])
    key = a_key(limits=KeyLimits(**limits))
    gateway.plane.table = a_table(models=[model], workers=fleet, keys=[key], version=2)
    return key


def held(gateway):
    """In flight, reserved, spent, and the window's requests and tokens, of the one key."""
    (side,) = gateway.plane._limiter._keys.values()
    account = side.account
    return (
        account.in_flight,
        account.reserved_nano,
        account.spent_nano,
        account.requests,
        account.tokens,
    )


async def test_a_refusal_is_openais_and_reaches_no_worker():
    async with a_gateway() as gateway:
        limit(gateway, requests_per_minute=2)
        answers = [await gateway.post() for _ in range(5)]
        assert [answer.status_code for answer in answers] == [200, 200, 429, 429, 429]
        error = answers[-1].json()["error"]
        assert (error["type"], error["code"]) == ("rate_limit_error", "requests_per_minute")
        assert "'test' takes 2 requests a minute" in error["message"]
        assert 59 <= int(answers[-1].headers["retry-after"]) <= 61
        assert answers[-1].headers["x-ratelimit-remaining-requests"] == "0"
        assert len(gateway.workers[0].calls) == 2
        assert len(await gateway.usage()) == 2
        labels = {"model": "m", "reason": "requests_per_minute"}
        assert gateway.sample("modelyard_limited_requests_total", **labels) == 3


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_says_what_is_left(stream):
    async with a_gateway() as gateway:
        limit(gateway, requests_per_minute=10, tokens_per_minute=1000)
        answer = await gateway.post(stream=stream, max_tokens=50)
        assert answer.headers["x-ratelimit-limit-requests"] == "10"
        assert answer.headers["x-ratelimit-remaining-requests"] == "9"
        assert int(answer.headers["x-ratelimit-remaining-tokens"]) < 950
        assert answer.headers["x-modelyard-mode"] == "aggregated"


@pytest.mark.parametrize(
    ("fields", "most"),
    [
        ({"max_tokens": 7}, 7),
        ({"max_completion_tokens": 9, "max_tokens": 7}, 9),
        ({"max_tokens": 7, "n": 3}, 21),
        ({"max_tokens": None}, 512),
        ({"n": 2}, 1024),
    ],
)
async def test_what_all_answers_may_come_to_is_set_aside(fields, most):
    async with a_gateway() as gateway:
        limit(gateway, tokens_per_minute=10_000)
        messages = [{"role": "user", "content": "hi"}]
        body = {"model": "m", "messages": messages, **fields}
        answer = await gateway.client.post("/v1/chat/completions", json=body)
        prompt_tokens = len(json.dumps(messages, separators=(",", ":"))) // 4
        left = int(answer.headers["x-ratelimit-remaining-tokens"])
        assert left == 10_000 - prompt_tokens - most


async def test_without_limits_nothing_is_said_and_no_ledger_is_made():
    async with a_gateway() as gateway:
        answer = await gateway.post()
        assert not [name for name in answer.headers if name.startswith("x-ratelimit")]
        assert gateway.plane._limiter._opened is None


async def test_a_models_limits_are_of_all_its_keys():
    async with a_gateway(model=a_declared(limits={"requests_per_minute": 1})) as gateway:
        assert (await gateway.post()).status_code == 200
        refused = await gateway.post()
        assert refused.status_code == 429
        assert "The model 'm' takes 1 requests a minute" in refused.json()["error"]["message"]


async def test_an_answer_that_can_never_fit_is_the_clients_error():
    async with a_gateway() as gateway:
        limit(gateway, tokens_per_minute=100)
        answer = await gateway.post(max_tokens=101)
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == "max_tokens"
        assert (await gateway.post(max_tokens=90)).status_code == 200


async def test_a_budget_is_spent_by_what_answers_cost():
    async with a_gateway() as gateway:  # 7 + 3 tokens, whole or streamed 5 + 2
        limit(gateway, budget_nano=40 * TOKEN)
        statuses = [(await gateway.post(max_tokens=9)).status_code for _ in range(7)]
        assert statuses == [200] * 5 + [429] * 2
        assert held(gateway)[:3] == (0, 0, 35 * TOKEN)
        refused = await gateway.post(max_tokens=9)
        assert refused.json()["error"]["code"] == "insufficient_quota"
        assert refused.headers["x-should-retry"] == "false"


async def until_free(gateway):
    async with asyncio.timeout(5):
        while held(gateway)[0]:  # noqa: ASYNC110 - it has no event for that
            await asyncio.sleep(0.01)


async def fails(call):
    await call.answer(status=500, body={"error": {"message": "no"}})


async def refuses(call):
    await call.answer(status=400, body={"error": {"message": "no"}})


async def silent(call):
    await call.until_closed()


async def breaks_off(call):
    await call.begin_stream()
    await call.chunk(token("a"))
    call.writer.close()


async def hangs_in_stream(call):
    await call.begin_stream()
    await call.chunk(token("a"))
    await call.until_closed()


async def error_event(call):
    await call.begin_stream()
    await call.chunk(event({"error": {"message": "no"}}))
    await call.end_stream()


SHORT = {"first_token_s": 0.3, "between_tokens_s": 0.3, "total_s": 1, "queued_s": 0.2}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "behaviour",
    [good, fails, refuses, silent, breaks_off, hangs_in_stream, error_event],
    ids=lambda behaviour: behaviour.__name__,
)
async def test_however_it_ends_nothing_stays_in_flight_or_set_aside(behaviour, stream):
    async with a_gateway(behaviour) as gateway:
        limit(gateway, a_declared(price=PRICE, limits=SHORT), in_flight=1, budget_nano=NANO)
        prompt = "Tell me of the sea, its ships and its storms."  # 47 bytes as JSON
        await gateway.post(stream=stream, max_tokens=20, prompt=prompt)
        await until_free(gateway)
        (record,) = await gateway.usage() or [None]
        in_flight, reserved, spent, requests, tokens = held(gateway)
        assert (in_flight, reserved, requests) == (0, 0, 1)
        known = record.prompt_tokens + record.completion_tokens
        assert spent == known * TOKEN
        if behaviour in (breaks_off, hangs_in_stream) and stream:
            assert tokens == 11 + known, "a worker has read the prompt"
        else:
            assert tokens == known


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_goes_gives_its_place_to_the_next(stream):
    async with a_gateway(hangs_in_stream if stream else silent) as gateway:
        limit(gateway, in_flight=1, tokens_per_minute=1000)
        request = asyncio.create_task(gateway.post(stream=stream))
        async with asyncio.timeout(5):
            while not gateway.workers[0].calls:  # noqa: ASYNC110 - it has no event for that
                await asyncio.sleep(0.01)
        assert (await gateway.post()).status_code == 429
        request.cancel()
        await asyncio.gather(request, return_exceptions=True)
        await until_free(gateway)
        gateway.workers[0].behaviour = good
        assert (await gateway.post()).status_code == 200


@pytest.mark.parametrize("stream", [False, True])
async def test_a_prompt_counts_though_the_client_does_not_wait_for_the_answer(stream):
    async with a_gateway(silent) as gateway:
        limit(gateway, tokens_per_minute=1000)
        prompt = "Tell me of the sea, its ships and its storms."  # 47 bytes as JSON
        request = asyncio.create_task(gateway.post(stream=stream, prompt=prompt, max_tokens=20))
        async with asyncio.timeout(5):
            while not gateway.workers[0].calls:  # noqa: ASYNC110 - it has no event for that
                await asyncio.sleep(0.01)
        request.cancel()
        await asyncio.gather(request, return_exceptions=True)
        await until_free(gateway)
        assert held(gateway)[-1] == 11


async def test_one_that_waits_in_the_queue_counts_and_gives_back_when_its_time_is_up():
    limits = {**SHORT, "first_token_s": 5, "total_s": 5, "in_flight_per_worker": 1}
    async with a_gateway(silent) as gateway:
        limit(gateway, a_declared(limits=limits), in_flight=2)
        first = asyncio.create_task(gateway.post())
        async with asyncio.timeout(5):
            while not gateway.workers[0].calls:  # noqa: ASYNC110 - it has no event for that
                await asyncio.sleep(0.01)
        queued = await gateway.post()
        assert queued.json()["error"]["code"] == "queue_timeout"
        assert held(gateway)[0] == 1
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        await until_free(gateway)


async def test_a_handler_that_crashes_gives_back(monkeypatch):
    async with a_gateway() as gateway:
        limit(gateway, in_flight=1)

        async def crash(_):
            raise RuntimeError("a bug")

        monkeypatch.setattr(gateway.plane._forwarder, "serve", crash)
        assert [(await gateway.post()).status_code for _ in range(2)] == [500, 500]
        assert held(gateway)[0] == 0


async def test_a_second_try_is_not_charged_twice():
    async def flaky(call):
        await (good if len(gateway.workers[0].calls) > 1 else fails)(call)

    async with a_gateway(flaky) as gateway:
        limit(gateway, requests_per_minute=5, tokens_per_minute=1000, budget_nano=NANO)
        gateway.workers[0].behaviour = flaky
        statuses = [(await gateway.post()).status_code for _ in range(2)]
        assert 200 in statuses
        assert held(gateway)[3] == 2
        usage = sum(r.prompt_tokens + r.completion_tokens for r in await gateway.usage())
        assert held(gateway)[2:] == (usage * TOKEN, 2, usage)


async def test_limits_changed_count_what_has_been_used():
    async with a_gateway() as gateway:
        limit(gateway, requests_per_minute=1)
        assert [(await gateway.post()).status_code for _ in range(2)] == [200, 429]
        limit(gateway, requests_per_minute=3)
        assert [(await gateway.post()).status_code for _ in range(3)] == [200, 200, 429]
        limit(gateway)
        assert (await gateway.post()).status_code == 200
