"""Other models answer, in their order, when the one that was asked for cannot."""

import asyncio
import contextlib

import pytest
from gateway_world import (
    DISAGGREGATED,
    FakeWorker,
    Gateway,
    a_declared,
    a_fleet,
    a_key,
    a_table,
    closed_port_url,
    good,
    token,
)

from registry.state import KeyLimits

TOO_LONG = {
    "error": {
        "message": "This model's maximum context length is 2048 tokens. However, your prompt "
        "contains at least 2049 input tokens, which exceeds this limit.",
        "type": "BadRequestError",
        "param": "input_tokens",
        "code": 400,
    }
}


async def too_long(call):
    await call.answer(400, TOO_LONG)


async def refuse(call):
    await call.answer(400, {"error": {"message": "no such tool", "type": "x"}})


async def break_down(call):
    await call.answer(500)


async def is_limited(call):
    await call.answer(429, {"error": {"message": "slow down", "type": "x"}})


@contextlib.asynccontextmanager
async def a_gateway(behaviours, *, specs=None, on=None, keys=None, others=("b",)):
    """Model m falls back on *others*. Each model that *behaviours* names has one worker, or an
    address where there is none.
    """
    fallback = {"models": list(others)} | ({"on": on} if on else {})
    specs = {"m": {}} | {name: {} for name in others} | (specs or {})
    specs["m"] = specs["m"] | {"fallback": fallback}
    models = [a_declared(name, **spec) for name, spec in specs.items()]
    async with contextlib.AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(Gateway())
        fleet, gateway.workers = [], {}
        for model in models:
            behaviour = behaviours.get(model.name)
            if behaviour is None:
                continue
            if isinstance(behaviour, str):
                fleet += a_fleet(model, unified=[behaviour])
                continue
            worker = await stack.enter_async_context(FakeWorker(behaviour))
            gateway.workers[model.name] = worker
            fleet += a_fleet(model, unified=[worker.url])
        gateway.plane.table = a_table(models=models, workers=fleet, keys=keys)
        yield gateway


def assert_answered_by(answer, model):
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-modelyard-model"] == model
    assert answer.headers["x-modelyard-fallback-from"] == "m"


CASES = {
    "no worker is ready": (None, "no_capacity"),
    "its worker's own limit is reached": (is_limited, "no_capacity"),
    "its worker cannot be reached": (closed_port_url(), "error"),
    "its worker fails": (break_down, "error"),
    "its worker talks nonsense": (lambda call: call.answer(200, b"[]"), "error"),
    "the prompt is too long": (too_long, "context_length"),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("behaviour", "reason"), CASES.values(), ids=CASES)
async def test_another_model_answers_when(behaviour, reason, stream):
    async with a_gateway({"m": behaviour, "b": good}) as gateway:
        answer = await gateway.post(stream=stream)
        assert_answered_by(answer, "b")
        labels = {"model": "m", "fallback": "b", "reason": reason}
        assert gateway.sample("modelyard_fallbacks_total", **labels) == 1
        (record,) = await gateway.usage()
        assert (record.model, record.status, record.completion_tokens > 0) == ("b", "ok", True)
        # What it was asked by the other name.
        assert gateway.workers["b"].calls[0].json["model"] == "b"


async def test_another_model_answers_when_the_queue_is_full_or_takes_too_long():
    release = asyncio.Event()

    async def hold(call):
        await release.wait()
        await good(call)

    limits = {"in_flight_per_worker": 1, "queued": 1, "queued_s": 0.3}
    async with a_gateway({"m": hold, "b": good}, specs={"m": {"limits": limits}}) as gateway:
        served = asyncio.create_task(gateway.post())
        async with asyncio.timeout(5):
            while not gateway.workers["m"].calls:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        waits = asyncio.create_task(gateway.post())
        async with asyncio.timeout(5):
            while not gateway.plane.admission.waiting:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert_answered_by(await gateway.post(), "b")  # the queue is full
        assert_answered_by(await waits, "b")  # its time there is over
        release.set()
        answer = await served
        assert "x-modelyard-fallback-from" not in answer.headers
        labels = {"model": "m", "fallback": "b", "reason": "no_capacity"}
        assert gateway.sample("modelyard_fallbacks_total", **labels) == 2


@pytest.mark.parametrize("stream", [False, True])
async def test_another_model_answers_when_the_first_token_does_not_come(stream):
    async def hang(call):
        await call.until_closed()

    limits = {"first_token_s": 0.2, "total_s": 0.3}
    async with a_gateway({"m": hang, "b": good}, specs={"m": {"limits": limits}}) as gateway:
        assert_answered_by(await gateway.post(stream=stream), "b")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_pair_that_refuses_a_long_prompt_is_no_other_case(stream):
    models = [
        a_declared("m", topology=DISAGGREGATED, fallback={"models": ["b"]}),
        a_declared("b"),
    ]
    async with FakeWorker(too_long) as long, FakeWorker(good) as worker, Gateway() as gateway:
        fleet = a_fleet(models[0], prefill=[long.url], decode=[long.url])
        fleet += a_fleet(models[1], unified=[worker.url])
        gateway.plane.table = a_table(models=models, workers=fleet)
        assert_answered_by(await gateway.post(stream=stream), "b")


async def test_what_the_client_got_wrong_no_other_model_is_asked():
    async with a_gateway({"m": refuse, "b": good}) as gateway:
        answer = await gateway.post()
        assert (answer.status_code, answer.json()["error"]["message"]) == (400, "no such tool")
        assert gateway.workers["b"].calls == []


@pytest.mark.parametrize(
    ("on", "behaviour", "status"),
    [
        (["error"], None, 503),
        (["no_capacity"], break_down, 502),
        (["no_capacity", "error"], too_long, 400),
    ],
)
async def test_only_what_the_spec_names_is_a_case(on, behaviour, status):
    async with a_gateway({"m": behaviour, "b": good}, on=on) as gateway:
        answer = await gateway.post()
        assert answer.status_code == status
        assert "x-modelyard-fallback-from" not in answer.headers


async def test_a_stream_that_has_begun_is_not_begun_anew_by_another_model():
    async def break_off(call):
        await call.begin_stream()
        await call.chunk(token("a"))
        call.writer.transport.abort()

    async with a_gateway({"m": break_off, "b": good}) as gateway:
        answer = await gateway.post(stream=True, logprobs=1)
        assert answer.headers["x-modelyard-model"] == "m"
        assert "broke off" in answer.text
        assert gateway.workers["b"].calls == []


async def test_they_are_asked_in_their_order_and_the_first_that_can_answers():
    behaviours = {"b": break_down, "c": good, "d": good}
    async with a_gateway(behaviours, others=("a", "b", "c", "d")) as gateway:
        assert_answered_by(await gateway.post(), "c")
        assert gateway.workers["d"].calls == []
        assert [record.model for record in await gateway.usage()] == ["c"]


async def test_if_none_can_the_client_hears_of_the_model_that_it_asked_for():
    async with a_gateway({"m": too_long, "b": break_down}) as gateway:
        answer = await gateway.post()
        assert answer.status_code == 400
        assert "maximum context length" in answer.json()["error"]["message"]
        assert answer.headers["x-modelyard-model"] == "m"
        assert "x-modelyard-fallback-from" not in answer.headers
        (record,) = await gateway.usage()
        assert (record.model, record.status) == ("m", "error")
        rows = gateway.plane.signals.traffic("g", 0.0, all_of_it=True)
        told = {row.model: (row.requests, row.errors) for row in rows}
        assert told == {"m": (1, 0), "b": (1, 1)}


async def test_traffic_is_told_of_each_model_that_was_asked():
    async with a_gateway({"m": break_down, "b": good}) as gateway:
        await gateway.post(stream=True)
        rows = gateway.plane.signals.traffic("g", 0.0, all_of_it=True)
        told = {row.model: (row.requests, row.errors, row.ttft.total) for row in rows}
        assert told == {"m": (1, 1, 0), "b": (1, 0, 1)}
        demand = gateway.plane.signals.demand("g", 0.0)
        assert {name: row.in_flight for name, row in demand.items()} == {"m": 0, "b": 0}


async def test_fallbacks_of_fallbacks_are_not_asked():
    specs = {"b": {"fallback": {"models": ["c", "m"]}}}
    async with a_gateway({"c": good}, specs=specs | {"c": {}}) as gateway:
        assert (await gateway.post()).status_code == 503


async def test_two_models_that_name_each_other_end():
    specs = {"b": {"fallback": {"models": ["m"]}}}
    async with a_gateway({"m": break_down, "b": break_down}, specs=specs) as gateway:
        assert (await gateway.post()).status_code == 502
        assert len(gateway.workers["b"].calls) <= 3


async def test_a_key_that_may_not_use_a_fallback_does_not_get_it():
    key = a_key(models=("m", "c"))
    behaviours = {"b": good, "c": good}
    async with a_gateway(behaviours, others=("b", "c", "gone"), keys=(key,)) as gateway:
        assert_answered_by(await gateway.post(), "c")


async def test_the_limits_of_the_fallback_hold_and_the_next_one_is_asked():
    behaviours = {"m": break_down, "b": good, "c": good}
    specs = {"b": {"limits": {"requests_per_minute": 1}}}
    async with a_gateway(behaviours, specs=specs, others=("b", "c")) as gateway:
        assert_answered_by(await gateway.post(), "b")
        assert_answered_by(await gateway.post(), "c")


async def test_for_its_key_it_is_one_request_and_the_model_that_failed_has_its_tokens_back():
    key = a_key(limits=KeyLimits(requests_per_minute=3))
    limits = {"m": {"limits": {"in_flight": 1}}, "b": {"limits": {"in_flight": 1}}}
    async with a_gateway({"m": break_down, "b": good}, specs=limits, keys=(key,)) as gateway:
        for left in (2, 1, 0):
            answer = await gateway.post()
            assert_answered_by(answer, "b")
            assert answer.headers["x-ratelimit-remaining-requests"] == str(left)
        assert (await gateway.post()).status_code == 429


async def test_a_model_that_does_not_answer_the_operation_is_no_fallback():
    specs = {"b": {"task": "embed"}}
    async with a_gateway({"b": good, "c": good}, specs=specs, others=("b", "c")) as gateway:
        assert_answered_by(await gateway.post(), "c")


async def test_a_client_that_leaves_while_a_fallback_answers_is_let_go():
    asked = asyncio.Event()

    async def hang(call):
        asked.set()
        await call.until_closed()

    async with a_gateway({"m": break_down, "b": hang}) as gateway:
        request = asyncio.create_task(gateway.post())
        await asked.wait()
        request.cancel()
        await gateway.assert_quiet()
        (record,) = await gateway.usage()
        assert (record.model, record.status) == ("b", "cancelled")
