"""Every operation through the gateway: unharmed in and out, and told of in its own dialect."""

import asyncio
import json

import pytest
from dialects import (
    ANSWER_TOKENS,
    BODIES,
    EVENTS,
    PROMPT_TOKENS,
    STREAMED,
    WHOLE,
    breaks_off,
    speaks,
)
from fleets import a_worker
from gateway_world import (
    AGGREGATED,
    DISAGGREGATED,
    SECRET,
    FakeWorker,
    Gateway,
    a_declared,
    a_gateway,
    a_pair,
    a_table,
    once,
)

from gateway.api import events as forms
from gateway.api.operations import BY_NAME, OPERATIONS, Dialect
from pipelines.engines.base import Pairing
from pipelines.engines.emulator import EmulatorEngine
from pipelines.engines.sglang import SglangEngine
from pipelines.topology import expand

TASKS = {"embeddings": "embed", "rerank": "rerank", "score": "rerank"}
by_path = pytest.mark.parametrize("path", OPERATIONS)
streaming = pytest.mark.parametrize("path", [BY_NAME[name].path for name in STREAMED])
UNRESUMED = [path for path, op in OPERATIONS.items() if op.streams and not op.resumes]


def a_model(path, **spec):
    task = TASKS.get(OPERATIONS[path].name, "generate")
    return a_declared(task=task, **spec)


async def ask(gateway, path, **more):
    headers = more.pop("headers", None)
    body = {"model": "m", **BODIES[OPERATIONS[path].path], **more}
    return await gateway.client.post(path, json=body, headers=headers)


def events_of(answer):
    return [event + b"\n\n" for event in answer.content.split(b"\n\n") if event]


@by_path
async def test_an_operation_is_answered_by_the_engines_own_route_of_its_name(path):
    async with a_gateway(speaks, model=a_model(path)) as gateway:
        answer = await ask(gateway, path)
        (call,) = gateway.workers[0].calls
        assert (answer.status_code, call.path) == (200, OPERATIONS[path].path)
        assert answer.json() == WHOLE[call.path](call.json)
        assert answer.headers["x-modelyard-model"] == "m"
        records = await gateway.usage()
        if not OPERATIONS[path].metered:
            assert records == []
            return
        (record,) = records
        answered = ANSWER_TOKENS if OPERATIONS[path].generates else 0
        assert (record.status, record.prompt_tokens) == ("ok", PROMPT_TOKENS)
        assert record.completion_tokens == answered


@by_path
async def test_what_the_gateway_does_not_know_of_a_body_goes_on_byte_for_byte(path):
    extra = b'"x":{"a" : [1.50, 1e400, "\\u00e9"]},"temperature":0.70'
    async with a_gateway(speaks, model=a_model(path)) as gateway:
        body = json.dumps({"model": "m", **BODIES[OPERATIONS[path].path]}).encode()
        answer = await gateway.client.post(path, content=body[:-1] + b"," + extra + b"}")
        assert answer.status_code == 200
        assert extra in gateway.workers[0].calls[0].body


@streaming
async def test_a_stream_comes_out_as_it_went_in_and_is_metered(path):
    async with a_gateway(speaks) as gateway:
        answer = await ask(gateway, path, stream=True, stream_options={"include_usage": True})
        assert answer.content == b"".join(EVENTS[path]())
        assert answer.headers["content-type"].startswith("text/event-stream")
        (record,) = await gateway.usage()
        assert (record.status, record.prompt_tokens) == ("ok", PROMPT_TOKENS)
        assert record.completion_tokens == ANSWER_TOKENS


async def test_only_openais_streams_are_asked_for_usage_and_responses_are_never_kept():
    async with a_gateway(speaks) as gateway:
        for path in EVENTS:
            await ask(gateway, path, stream=True, store=True)
        bodies = {call.path: call.json for call in gateway.workers[0].calls}
    asked = {path for path, body in bodies.items() if "stream_options" in body}
    assert asked == {"/v1/chat/completions", "/v1/completions"}
    assert bodies["/v1/responses"]["store"] is False
    assert bodies["/v1/messages"]["store"] is True  # it means nothing there


# The key, and refusals.


@by_path
async def test_a_key_may_come_as_anthropics_clients_send_it_and_is_not_passed_on(path):
    async with a_gateway(speaks, model=a_model(path)) as gateway:
        del gateway.client.headers["authorization"]
        for secret, status in ((SECRET, 200), ("wrong", 401), ("", 401)):
            answer = await ask(gateway, path, headers={"x-api-key": secret})
            assert answer.status_code == status
        (call,) = gateway.workers[0].calls
        assert SECRET not in str(call.headers)
        assert SECRET.encode() not in call.body
        assert call.headers["authorization"] == "bearer worker-token"
        assert "x-api-key" not in call.headers


ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    405: "invalid_request_error",
    413: "request_too_large",
    429: "rate_limit_error",
    502: "api_error",
    503: "overloaded_error",
}


def assert_told(answer, path, status):
    assert answer.status_code == status, answer.text
    body = answer.json()
    operation = OPERATIONS.get(path)
    if operation is not None and operation.dialect is Dialect.ANTHROPIC:
        assert body.keys() == {"type", "error", "request_id"}
        assert body["type"] == "error"
        assert body["error"]["type"] == ANTHROPIC_TYPES[status]
        assert body["request_id"] == answer.headers["request-id"]
        assert body["error"]["message"]
    else:
        assert body["error"].keys() == {"message", "type", "param", "code"}
        assert "request-id" not in answer.headers
    assert "x-request-id" in answer.headers


@by_path
async def test_every_refusal_is_told_in_the_clients_dialect(path):
    limits = {"queued": 1, "body_bytes": 2000, "in_flight_per_worker": 1}
    async with a_gateway(speaks, model=a_model(path, limits=limits)) as gateway:
        assert_told(await ask(gateway, path, model=""), path, 400)
        assert_told(await ask(gateway, path, model="nope"), path, 404)
        assert_told(await ask(gateway, path, x="x" * 3000), path, 413)
        assert_told(await ask(gateway, path, headers={"authorization": "Bearer no"}), path, 401)
        assert_told(await gateway.client.get(path), path, 405)
        gateway.plane.table = a_table(models=[a_model(path, limits=limits)])
        assert_told(await ask(gateway, path), path, 503)
        assert gateway.workers[0].calls == []


@by_path
@pytest.mark.parametrize(
    "said",
    [
        {"error": {"message": "no", "type": "BadRequestError", "param": "x", "code": 400}},
        {"type": "error", "error": {"type": "BadRequestError", "message": "no"}},
        {"object": "error", "message": "no", "type": "BadRequest", "param": None, "code": 400},
        {"detail": "no"},
    ],
)
async def test_a_workers_own_refusal_is_told_again_in_the_clients_dialect(path, said):
    async def refuse(call):
        await call.answer(400, said)

    async with a_gateway(refuse, model=a_model(path)) as gateway:
        answer = await ask(gateway, path)
        assert_told(answer, path, 400)
        assert answer.json()["error"]["message"] == "no"


async def test_a_route_that_is_none_is_told_in_the_dialect_the_client_says_it_speaks():
    async with a_gateway(speaks) as gateway:
        for path, headers in (
            ("/v1/messages/batches", {}),
            ("/v1/complete", {"anthropic-version": "2023-06-01"}),
        ):
            answer = await gateway.client.post(path, json={}, headers=headers)
            assert (answer.status_code, answer.json()["type"]) == (404, "error")
        answer = await gateway.client.post("/v1/complete", json={})
        assert answer.json()["error"]["code"] == "unknown_url"
        for operation in BY_NAME.values():
            assert f"POST {operation.path}" in answer.json()["error"]["message"]


async def test_the_model_list_has_anthropics_form_for_who_says_so():
    async with a_gateway(speaks) as gateway:
        headers = {"anthropic-version": "2023-06-01"}
        page = (await gateway.client.get("/v1/models", headers=headers)).json()
        card = (await gateway.client.get("/v1/models/m", headers=headers)).json()
        missing = await gateway.client.get("/v1/models/x", headers=headers)
        openai = (await gateway.client.get("/v1/models/m")).json()
    created = "1970-01-01T00:16:40Z"
    assert card == {"id": "m", "display_name": "m", "created_at": created, "type": "model"}
    assert page == {"data": [card], "first_id": "m", "last_id": "m", "has_more": False}
    assert (missing.status_code, missing.json()["error"]["type"]) == (404, "not_found_error")
    assert openai["object"] == "model"


# What a model does not answer.


@by_path
async def test_a_model_of_another_task_refuses_with_what_it_answers(path):
    operation = OPERATIONS[path]
    tasks = [
        task for task in ("generate", "embed", "rerank") if operation.name not in answers(task)
    ]
    for task in tasks:
        async with a_gateway(speaks, model=a_declared(task=task)) as gateway:
            answer = await ask(gateway, path)
            assert_told(answer, path, 400)
            assert gateway.workers[0].calls == []
            message = answer.json()["error"]["message"]
            assert operation.path in message
            for name in answers(task):
                assert f"POST {BY_NAME[name].path}" in message
    assert tasks or operation.name in ("tokenize", "detokenize")


def answers(task):
    row = a_table(models=[a_declared(task=task)]).models["m"]
    return row.operations


@pytest.mark.parametrize("status", [404, 405, 501])
async def test_what_a_worker_does_not_have_is_said_and_not_held_against_it(status):
    async def lacks(call):
        if call.path == "/v1/completions":
            await speaks(call)
        else:
            await call.answer(status, {"detail": "Not Found"})

    async with a_gateway(lacks, workers=2) as gateway:
        for path in ("/v1/responses", "/v1/messages", "/tokenize", "/v1/messages/count_tokens"):
            for stream in (False, True) if OPERATIONS[path].streams else (False,):
                answer = await ask(gateway, path, stream=stream)
                assert_told(answer, path, 400)
                assert "Not Found" in answer.json()["error"]["message"]
        assert not gateway.plane.router.health.aside(gateway.plane._clock())
        assert (await ask(gateway, "/v1/completions")).status_code == 200


async def test_a_variant_that_cannot_is_passed_over_for_one_that_can(monkeypatch):
    monkeypatch.setattr(SglangEngine, "operations", frozenset({"completions"}))
    async with FakeWorker(speaks) as fake, Gateway() as gateway:
        elsewhere = {"type": "external", "workers": [{"url": fake.url}]}
        model = a_declared(
            variants=[
                {"name": "a", "engine": "sglang", "topology": elsewhere},
                {"name": "b", "engine": "emulator", "topology": AGGREGATED},
            ]
        )
        plans = {plan.variant: plan for gang in expand(model) for plan in gang}
        fleet = [a_worker(plan, id=name, url=fake.url) for name, plan in plans.items()]
        gateway.plane.table = a_table(models=[model], workers=fleet)
        seen = {"/v1/completions": set(), "/v1/messages": set()}
        for path in 12 * [*seen]:
            answer = await ask(gateway, path)
            seen[path].add(answer.headers["x-modelyard-variant"])
        assert seen == {"/v1/completions": {"a", "b"}, "/v1/messages": {"b"}}
        gateway.plane.table = a_table(models=[model], workers=fleet[:1])
        answer = await ask(gateway, "/v1/messages")
        assert_told(answer, "/v1/messages", 503)  # it will, once that one is back


# Streams that go wrong.


# Where it breaks off, with two tokens said, and how many events till then are none.
AFTER = {
    "/v1/chat/completions": 3,
    "/v1/completions": 2,
    "/v1/responses": 6,
    "/v1/messages": 4,
}
FRAMING = {path: forms.EVENTS[OPERATIONS[path].name].framing for path in AFTER}


def last_event(answer):
    event = events_of(answer)[-1]
    name, _, data = event.rpartition(b"data: ")
    return name, json.loads(data)


@streaming
@pytest.mark.parametrize("how", ["cut", "end", "error"])
async def test_a_stream_that_breaks_off_ends_with_an_error_event_in_its_dialect(path, how):
    operation, after = OPERATIONS[path], AFTER[path]
    alone = {"logprobs": True} if operation.resumes else {}  # which nobody can go on with
    async with a_gateway(breaks_off(after=after, how=how)) as gateway:
        answer = await ask(gateway, path, stream=True, **alone)
        name, error = last_event(answer)
        (record,) = await gateway.usage()
    assert answer.status_code == 200
    assert b"secret" not in answer.content
    assert events_of(answer)[:-1] == EVENTS[path]()[:after]
    if operation.dialect is Dialect.OPENAI:
        assert (name, error["error"]["type"]) == (b"", "api_error")
    elif operation.dialect is Dialect.RESPONSES:
        assert name == b"event: error\n"
        assert error.keys() == {"type", "code", "message", "param", "sequence_number"}
        assert (error["type"], error["sequence_number"]) == ("error", after)
    else:
        assert name == b"event: error\n"
        assert (error["type"], error["error"]["type"]) == ("error", "api_error")
    assert (record.status, record.completion_tokens) == ("error", after - FRAMING[path])
    for end in (b"[DONE]", b"response.completed", b"message_stop"):
        assert end not in answer.content


@pytest.mark.parametrize("path", UNRESUMED)
@pytest.mark.parametrize("how", ["cut", "end", "error"])
async def test_until_the_first_token_another_worker_begins_anew(path, how):
    early = 2 if path == "/v1/responses" else 1
    for after in range(early + 1):
        async with a_gateway(once(breaks_off(after=after, how=how), speaks), workers=2) as gateway:
            gateway.workers[1].behaviour = gateway.workers[0].behaviour
            answer = await ask(gateway, path, stream=True)
            assert answer.content == b"".join(EVENTS[path]())
            assert sum(len(fake.calls) for fake in gateway.workers) == 2
            (record,) = await gateway.usage()
            assert (record.status, record.completion_tokens) == ("ok", ANSWER_TOKENS)


@pytest.mark.parametrize("path", UNRESUMED)
async def test_who_is_told_an_error_in_place_of_a_stream_has_used_no_tokens(path):
    early = 2 if path == "/v1/responses" else 1
    async with a_gateway(breaks_off(after=early, how="end")) as gateway:
        answer = await ask(gateway, path, stream=True)
        (record,) = await gateway.usage()
    assert (answer.status_code, record.status) == (502, "error")
    assert (record.prompt_tokens, record.completion_tokens) == (0, 0)


@pytest.mark.parametrize("path", UNRESUMED)
async def test_nothing_says_that_it_has_begun_before_it_has(path):
    """`response.created` and `message_start` come before anything was computed."""
    hold = asyncio.Event()
    early = 2 if path == "/v1/responses" else 1

    async def waits(call):
        await call.begin_stream()
        for number, data in enumerate(EVENTS[path]()):
            if number == early:
                await hold.wait()
            await call.chunk(data)
        await call.end_stream()

    async with a_gateway(waits) as gateway:
        asking = asyncio.create_task(ask(gateway, path, stream=True))
        await asyncio.sleep(0.1)
        (route,) = gateway.plane.router.in_flight
        assert route
        assert not asking.done()
        hold.set()
        answer = await asking
        assert answer.content == b"".join(EVENTS[path]())


# Pairs.

PAIRED = [BY_NAME[name].path for name in STREAMED]


@pytest.mark.parametrize("path", PAIRED)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_pair_answers_with_the_kv_moved(path, stream):
    limit = {"/v1/responses": "max_output_tokens"}.get(path, "max_tokens")
    async with a_pair(prefill=[speaks], decode=[speaks]) as gateway:
        answer = await ask(gateway, path, stream=stream, **{limit: 40})
        assert answer.headers["x-modelyard-mode"] == "disaggregated"
        (prefill,), (decode,) = gateway.prefills[0].calls, gateway.decodes[0].calls
        assert (prefill.path, decode.path) == (path, path)
        assert (prefill.json[limit], prefill.json["stream"]) == (1, False)
        assert prefill.json["kv_transfer_params"]["do_remote_decode"] is True
        assert "stream_options" not in prefill.json
        assert decode.json[limit] == 40
        assert decode.json["kv_transfer_params"]["remote_engine_id"] == "e"
        assert answer.status_code == 200
        if stream:
            shown = [e for e in EVENTS[path]() if b'"choices":[]' not in e]
            assert answer.content == b"".join(shown)


@pytest.mark.parametrize("path", ["/tokenize", "/detokenize", "/v1/messages/count_tokens"])
async def test_what_generates_nothing_asks_one_half_of_a_pair(path):
    async with a_pair(prefill=[speaks], decode=[speaks]) as gateway:
        answer = await ask(gateway, path)
        assert (answer.status_code, answer.headers["x-modelyard-mode"]) == (200, "bypass")
        assert gateway.prefills[0].calls == []


@pytest.mark.parametrize(
    ("path", "more"),
    [
        ("/v1/responses", {"truncation": "auto"}),
        ("/v1/completions", {"truncate_prompt_tokens": -1}),
        ("/v1/chat/completions", {"n": 2}),
        ("/v1/messages", {"tool_choice": {"type": "tool", "name": "f"}}),
    ],
)
async def test_what_a_pair_cannot_carry_decode_answers_alone(path, more):
    async with a_pair(prefill=[speaks], decode=[speaks]) as gateway:
        answer = await ask(gateway, path, **more)
        assert answer.headers["x-modelyard-mode"] == "bypass"
        assert gateway.prefills[0].calls == []


async def test_a_pair_that_has_no_kv_for_an_operation_leaves_it_to_decode(monkeypatch):
    monkeypatch.setattr(EmulatorEngine, "paired_operations", frozenset({"completions"}))
    async with a_pair(prefill=[speaks], decode=[speaks]) as gateway:
        modes = {
            path: (await ask(gateway, path)).headers["x-modelyard-mode"]
            for path in ("/v1/completions", "/v1/messages")
        }
    assert modes == {"/v1/completions": "disaggregated", "/v1/messages": "bypass"}


def test_a_concurrent_pair_answers_what_it_shares_and_what_generates_nothing(monkeypatch):
    monkeypatch.setattr(EmulatorEngine, "pairing", Pairing.CONCURRENT)
    monkeypatch.setattr(EmulatorEngine, "paired_operations", frozenset({"chat.completions"}))
    row = a_table(models=[a_declared(topology=DISAGGREGATED)]).models["m"]
    assert row.operations == {"chat.completions", "count_tokens", "tokenize", "detokenize"}


# Workers that are not what they seem.


@by_path
@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"null", b'{"ok":true}', b"\xff", b"[" * 9999])
async def test_an_answer_that_is_none_is_a_502_in_the_clients_dialect(path, body):
    async def odd(call):
        await call.answer(body=body)

    async with a_gateway(odd, model=a_model(path)) as gateway:
        answer = await ask(gateway, path)
        if OPERATIONS[path].name == "rerank" and body == b"[]":
            assert answer.status_code == 200  # a bare list, as SGLang's
            return
        assert_told(answer, path, 502)


@pytest.mark.parametrize("path", UNRESUMED)
@pytest.mark.parametrize(
    "event",
    [
        b"data: " + b"x" * (3 * 1024 * 1024) + b"\n\n",
        b'event: error\ndata: {"type":"error"}\n\n',
        b'data: {"error":{"message":"secret"}}\n\n',
    ],
)
async def test_nothing_of_a_hostile_stream_looks_like_its_end(path, event):
    async def hostile(call):
        await call.begin_stream()
        for data in EVENTS[path]()[: AFTER[path]]:
            await call.chunk(data)
        await call.chunk(event)
        for data in EVENTS[path]()[AFTER[path] :]:
            await call.chunk(data)
        await call.end_stream()

    async with a_gateway(hostile) as gateway:
        answer = await ask(gateway, path, stream=True)
        name, error = last_event(answer)
    assert (name, error["type"]) == (b"event: error\n", "error")
    assert events_of(answer)[:-1] == EVENTS[path]()[: AFTER[path]]


@streaming
async def test_a_stream_in_one_piece_or_in_single_bytes_is_the_same_stream(path):
    stream = b"".join(EVENTS[path]())

    async def dribbles(call):
        await call.begin_stream()
        for byte in stream:
            await call.chunk(bytes([byte]))
        await call.end_stream()

    async def at_once(call):
        await call.begin_stream()
        await call.chunk(stream + b"data: more\n\n")
        await call.end_stream()

    for behaviour in (dribbles, at_once):
        async with a_gateway(behaviour) as gateway:
            answer = await ask(gateway, path, stream=True, stream_options={"include_usage": True})
            assert answer.content == stream
            (record,) = await gateway.usage()
            assert (record.status, record.completion_tokens) == ("ok", ANSWER_TOKENS)


async def test_half_of_a_concurrent_pair_is_asked_for_what_generates_nothing(monkeypatch):
    monkeypatch.setattr(EmulatorEngine, "pairing", Pairing.CONCURRENT)
    async with a_pair(prefill=[speaks], decode=[speaks]) as gateway:
        answer = await ask(gateway, "/tokenize")
        assert (answer.status_code, answer.headers["x-modelyard-mode"]) == (200, "bypass")
        assert gateway.prefills[0].calls == []


@pytest.mark.parametrize(
    ("path", "how"),
    [("/v1/responses", "cut"), ("/v1/responses", "end"), ("/v1/messages", "error")],
)
async def test_a_pair_whose_kv_does_not_come_is_replaced_unseen(path, how):
    """As vLLM tells it: what comes before the first token, and then nothing, or an error."""
    early = forms.EVENTS[OPERATIONS[path].name].early
    failing = once(breaks_off(after=early, how=how), speaks)
    async with a_pair(prefill=[speaks], decode=[failing]) as gateway:
        answer = await ask(gateway, path, stream=True)
        assert answer.content == b"".join(EVENTS[path]())
        assert answer.headers["x-modelyard-mode"] == "disaggregated"
        assert len(gateway.prefills[0].calls) == len(gateway.decodes[0].calls) == 2


@pytest.mark.parametrize("path", UNRESUMED)
async def test_what_was_held_back_and_thrown_away_is_not_counted(path):
    early, after = forms.EVENTS[OPERATIONS[path].name].early, AFTER[path]
    behaviour = once(breaks_off(after=early), breaks_off(after=after))
    async with a_gateway(behaviour, workers=2) as gateway:
        answer = await ask(gateway, path, stream=True)
        _, error = last_event(answer)
        (record,) = await gateway.usage()
    assert len(events_of(answer)) == after + 1
    assert error.get("sequence_number", after) == after
    assert record.completion_tokens == after - FRAMING[path]
