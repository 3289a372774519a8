"""Prefill and decode apart: both legs, and every way one of them can be missing."""

import msgspec
import pytest
from gateway_world import (
    DISAGGREGATED,
    DONE,
    FakeWorker,
    Gateway,
    a_declared,
    a_fleet,
    a_pair,
    a_table,
    closed_port_url,
    completion,
    event,
    good,
    once,
    token,
)

TOKENS = token("a") + token("b") + token("c")


def status(http_status, **error):
    async def answer(call):
        body = {"error": {"message": "as said", "type": "BadRequestError", "param": None, **error}}
        await call.answer(http_status, body)

    return answer


async def no_transfer_params(call):
    await call.answer(body=completion())


async def drop(call):
    raise ConnectionResetError


@pytest.mark.parametrize("stream", [False, True])
async def test_prefill_makes_one_token_and_decode_answers_with_its_kv(stream):
    async with a_pair() as gateway:
        answer = await gateway.post(
            stream=stream, max_tokens=30, min_tokens=2, headers={"x-request-id": "r1"}
        )
        assert answer.headers["x-modelyard-mode"] == "disaggregated"
        assert answer.headers["x-modelyard-workers"] == "prefill=m-prefill-0, decode=m-decode-0"
        if stream:
            assert answer.content == TOKENS + DONE
        else:
            assert answer.json() == completion()
        ((prefill,), (decode,)) = gateway.prefills[0].calls, gateway.decodes[0].calls
        assert prefill.headers["x-request-id"] == decode.headers["x-request-id"] == "r1"
        assert (prefill.json["max_tokens"], prefill.json["stream"]) == (1, False)
        assert "stream_options" not in prefill.json
        assert prefill.json["kv_transfer_params"]["do_remote_decode"] is True
        assert decode.json["kv_transfer_params"]["do_remote_prefill"] is True
        assert (decode.json["max_tokens"], decode.json["min_tokens"]) == (30, 2)
        (record,) = await gateway.usage()
        assert (record.mode, record.status) == ("disaggregated", "ok")


@pytest.mark.parametrize(
    "broken", [drop, status(500), status(503), status(401), no_transfer_params]
)
async def test_when_prefill_fails_decode_serves_the_clients_own_request(broken):
    async with a_pair(prefill=[broken]) as gateway:
        answer = await gateway.post(stream=True, max_tokens=9)
        assert answer.content == TOKENS + DONE
        assert answer.headers["x-modelyard-mode"] == "degraded"
        assert answer.headers["x-modelyard-workers"] == "decode=m-decode-0"
        (call,) = gateway.decodes[0].calls
        assert "kv_transfer_params" not in call.json
        assert call.json["max_tokens"] == 9
        assert gateway.sample("modelyard_degraded_total", model="m", variant="default") == 1


async def test_one_other_prefill_is_tried_first():
    async with a_pair(prefill=[once(drop), once(drop)]) as gateway:
        await gateway.post()  # both drop it
        assert sum(len(prefill.calls) for prefill in gateway.prefills) == 2
    model = a_declared(topology=DISAGGREGATED, routing={"policy": "round_robin"})
    async with a_pair(prefill=[status(500), good], model=model) as gateway:
        answer = await gateway.post()
        assert answer.headers["x-modelyard-workers"] == "prefill=m-prefill-1, decode=m-decode-0"


async def test_a_prefill_that_refuses_the_request_decides_for_both():
    async with a_pair(prefill=[status(400, code=400, param="max_tokens")]) as gateway:
        answer = await gateway.post()
        assert answer.status_code == 400
        assert answer.json()["error"] == {
            "message": "as said",
            "type": "BadRequestError",
            "param": "max_tokens",
            "code": 400,
        }
        assert gateway.decodes[0].calls == []


@pytest.mark.parametrize("broken", [status(500), no_transfer_params])
async def test_when_decode_fails_before_its_first_byte_a_whole_new_pair_is_asked(broken):
    failing = status(500) if broken is no_transfer_params else broken
    async with a_pair(decode=[once(failing)]) as gateway:
        answer = await gateway.post(stream=True)
        assert answer.content == TOKENS + DONE
        assert answer.headers["x-modelyard-mode"] == "disaggregated"
        assert len(gateway.prefills[0].calls) == 2  # transfer parameters are used once
        assert len(gateway.decodes[0].calls) == 2


async def test_an_error_event_as_decodes_first_is_a_failure_before_the_first_byte():
    async def failing(call):
        await call.begin_stream()
        await call.chunk(event({"error": {"message": "KV load failed", "code": 500}}))
        await call.chunk(DONE)
        await call.end_stream()

    async with a_pair(decode=[once(failing)]) as gateway:
        assert (await gateway.post(stream=True)).content == TOKENS + DONE


async def test_a_kept_connection_that_closes_under_decode_prefills_again():
    """Nobody knows whether decode has seen the transfer's parameters: they are used once."""
    used = set()

    async def closes(call):
        if call.writer in used:
            raise ConnectionResetError
        used.add(call.writer)
        await good(call)

    async with a_pair(decode=[closes]) as gateway:
        for _ in range(3):
            answer = await gateway.post(stream=True)
            assert answer.headers["x-modelyard-mode"] == "disaggregated"
            await gateway.assert_quiet()
        assert len(gateway.decodes[0].calls) == len(gateway.prefills[0].calls) == 3 + 2


async def test_a_decode_that_is_gone_is_replaced_by_another_with_a_new_prefill():
    async with a_pair(decode=[drop, good]) as gateway:
        for _ in range(6):
            answer = await gateway.post()
            assert answer.status_code == 200
            assert answer.headers["x-modelyard-mode"] == "disaggregated"
        assert len(gateway.decodes[1].calls) == 6


async def test_a_decode_that_keeps_failing_is_told_after_three_tries():
    async with a_pair(decode=[status(500)]) as gateway:
        answer = await gateway.post()
        assert answer.status_code == 502
        assert len(gateway.decodes[0].calls) == 3
        (record,) = await gateway.usage()
        assert record.status == "error"


async def test_without_prefill_decode_serves_alone_and_without_decode_prefill_does():
    async with FakeWorker(good) as worker, Gateway() as gateway:
        model = a_declared(topology=DISAGGREGATED)
        for role in ("decode", "prefill"):
            fleet = a_fleet(model, **{role: [worker.url]})
            gateway.plane.table = a_table(models=[model], workers=fleet)
            answer = await gateway.post()
            assert answer.status_code == 200
            assert answer.headers["x-modelyard-mode"] == "degraded"
            assert answer.headers["x-modelyard-workers"] == f"{role}=m-{role}-0"
            assert "degraded" in (await gateway.client.get("/readyz")).text
        assert all("kv_transfer_params" not in call.json for call in worker.calls)


async def test_a_prefill_address_nobody_listens_on_costs_no_answer():
    async with FakeWorker(good) as worker, Gateway() as gateway:
        model = a_declared(topology=DISAGGREGATED)
        fleet = a_fleet(model, prefill=[closed_port_url()], decode=[worker.url])
        gateway.plane.table = a_table(models=[model], workers=fleet)
        for _ in range(3):
            assert (await gateway.post()).headers["x-modelyard-mode"] == "degraded"


@pytest.mark.parametrize(
    ("fields", "mode"),
    [
        ({"prompt": "short"}, "bypass"),
        ({"prompt": "long " * 100}, "disaggregated"),
        ({"prompt": [1, 2, 3]}, "bypass"),
        ({"prompt": list(range(64))}, "disaggregated"),
        ({"prompt": list(range(63))}, "bypass"),
        ({"prompt": ["long " * 100, "long " * 100]}, "bypass"),
        ({"prompt": [list(range(100)), list(range(100))]}, "bypass"),
        ({"prompt": "long " * 100, "n": 2}, "bypass"),
        ({"prompt": "long " * 100, "n": 1, "best_of": None}, "disaggregated"),
        ({"prompt": "long " * 100, "best_of": 2}, "bypass"),
        ({"prompt": "long " * 100, "echo": True}, "bypass"),
        ({"messages": [{"role": "user", "content": "hi"}]}, "bypass"),
        ({"messages": [{"role": "user", "content": "long " * 100}]}, "disaggregated"),
    ],
)
async def test_short_prompts_and_what_a_pair_cannot_carry_go_to_decode_alone(fields, mode):
    topology = {**DISAGGREGATED, "bypass": {"max_prompt_tokens": 64}}
    async with a_pair(model=a_declared(topology=topology)) as gateway:
        path = "/v1/chat/completions" if "messages" in fields else "/v1/completions"
        answer = await gateway.client.post(path, json={"model": "m", **fields})
        assert answer.headers["x-modelyard-mode"] == mode
        assert len(gateway.prefills[0].calls) == (mode == "disaggregated")
        assert ("kv_transfer_params" in gateway.decodes[0].calls[0].json) == (
            mode == "disaggregated"
        )


async def test_a_pair_is_never_made_of_two_variants():
    def variant(name):
        return {"name": name, "engine": "emulator", "topology": DISAGGREGATED}

    async with FakeWorker(good) as worker, Gateway() as gateway:
        model = a_declared(variants=[variant("a"), variant("b")])
        fleet = a_fleet(model, prefill=[worker.url], decode=[worker.url])  # all of b …
        prefill, decode = fleet
        plan = msgspec.structs.replace(decode.plan, variant="a")
        fleet = [prefill, msgspec.structs.replace(decode, plan=plan)]  # … but the decode of a
        gateway.plane.table = a_table(models=[model], workers=fleet)
        modes = {(await gateway.post()).headers["x-modelyard-mode"] for _ in range(8)}
        assert modes == {"degraded"}
