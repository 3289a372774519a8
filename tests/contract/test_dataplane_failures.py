"""Workers that fail, lie or stall: the client gets an answer or a clear error, never silence."""

import asyncio
import json

import pytest
from gateway_world import (
    DONE,
    FakeWorker,
    Gateway,
    a_declared,
    a_fleet,
    a_gateway,
    a_table,
    closed_port_url,
    completion,
    event,
    good,
    token,
)

from gateway.access_log import AccessLog
from gateway.proxy.connection import HEAD_BYTES_MAX
from gateway.proxy.stream import EVENT_BYTES_MAX

QUICK = {"connect_s": 0.5, "first_token_s": 0.3, "between_tokens_s": 0.3, "total_s": 1.0}


def broken_off(content: bytes) -> dict:
    """The error event that must end *content*; there must be no [DONE]."""
    assert b"[DONE]" not in content
    assert content.endswith(b"\n\n")
    last = content.removesuffix(b"\n\n").rpartition(b"\n\n")[2]
    return json.loads(last.removeprefix(b"data: "))["error"]


async def drop(call):
    raise ConnectionResetError


async def hang(call):
    await call.until_closed()


async def begin_and_drop(call):
    await call.begin_stream()
    await call.chunk(token("a"))
    raise ConnectionResetError


async def test_a_worker_that_cannot_be_reached_is_replaced_before_the_first_byte():
    async with FakeWorker(good) as worker, Gateway() as gateway:
        model = a_declared(routing={"policy": "round_robin"})
        fleet = a_fleet(model, unified=[closed_port_url(), closed_port_url(), worker.url])
        gateway.plane.table = a_table(models=[model], workers=fleet)
        for _ in range(6):
            assert (await gateway.post()).status_code == 200
        # Each dead one was asked once, then set aside.
        assert gateway.sample("modelyard_retries_total", model="m", reason="connect") == 2


@pytest.mark.parametrize("stream", [False, True])
async def test_a_worker_that_resets_is_replaced(stream):
    async with FakeWorker(drop) as bad, FakeWorker(good) as fine, Gateway() as gateway:
        model = a_declared(routing={"policy": "round_robin"})
        fleet = a_fleet(model, unified=[bad.url, fine.url])
        gateway.plane.table = a_table(models=[model], workers=fleet)
        for _ in range(4):
            assert (await gateway.post(stream=stream)).status_code == 200


async def test_at_most_three_workers_are_asked():
    async with a_gateway(drop, workers=5, model=a_declared()) as gateway:
        answer = await gateway.post()
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "5"
        assert answer.json()["error"]["code"] == "model_unavailable"
        assert sum(len(worker.calls) for worker in gateway.workers) == 3
        (record,) = await gateway.usage()
        assert (record.status, record.completion_tokens) == ("error", 0)


async def test_when_the_only_worker_is_gone_it_fails_fast_and_at_no_charge():
    async with Gateway() as gateway:
        model = a_declared()
        fleet = a_fleet(model, unified=[closed_port_url()])
        gateway.plane.table = a_table(models=[model], workers=fleet)
        for _ in range(3):
            answer = await gateway.post()
            assert answer.status_code == 503
            assert "127.0.0.1" not in answer.text
        records = await gateway.usage()
        assert [(record.status, record.cost_nano) for record in records] == [("error", 0)] * 3


@pytest.mark.parametrize("status", [500, 502, 503, 504])
@pytest.mark.parametrize("stream", [False, True])
async def test_an_error_of_a_worker_is_retried_on_another(status, stream):
    async def failing(call):
        await call.answer(status, {"error": {"message": "no", "type": "x"}})

    async with FakeWorker(failing) as bad, FakeWorker(good) as fine, Gateway() as gateway:
        model = a_declared(routing={"policy": "round_robin"})
        gateway.plane.table = a_table(
            models=[model], workers=a_fleet(model, unified=[bad.url, fine.url])
        )
        for _ in range(4):
            assert (await gateway.post(stream=stream)).status_code == 200
        assert bad.calls


async def test_an_error_of_every_worker_is_told_without_their_address():
    async def failing(call):
        await call.answer(500, {"error": {"message": f"at {call.headers['host']}", "type": "x"}})

    async with a_gateway(failing, workers=4) as gateway:
        answer = await gateway.post()
        assert answer.status_code == 502
        assert "127.0.0.1" not in answer.text
        assert answer.headers["x-modelyard-workers"].startswith("unified=m-unified-")
        calls = [len(worker.calls) for worker in gateway.workers]
        assert sorted(calls) == [0, 1, 1, 1]


async def test_the_only_worker_is_not_asked_twice_for_what_it_failed_at():
    async def failing(call):
        await call.answer(500, {})

    async with a_gateway(failing) as gateway:
        assert (await gateway.post()).status_code == 502
        assert len(gateway.workers[0].calls) == 1


@pytest.mark.parametrize("status", [400, 413, 422, 429])
async def test_a_refusal_passes_through_without_the_workers_address(status):
    async def refuse(call):
        message = f"too long, says {call.headers['host']}"
        error = {"message": message, "type": "BadRequestError", "param": "prompt", "code": status}
        await call.answer(status, {"error": error}, headers="retry-after: 7\r\n")

    async with a_gateway(refuse) as gateway:
        answer = await gateway.post(stream=True)
        assert answer.status_code == status
        assert answer.headers["retry-after"] == "7"
        assert answer.json()["error"] == {
            "message": "too long, says the worker",
            "type": "BadRequestError",
            "param": "prompt",
            "code": status,
        }
        await gateway.post()
        assert gateway.workers[0].connections == 1  # a refusal costs no connection


async def test_a_workers_own_words_for_a_refusal_are_not_logged():
    lines = []

    async def refuse(call):
        error = {"message": "m", "type": "t", "code": {"seen": "what the client said"}}
        await call.answer(400, {"error": error}, headers=f"retry-after: {'9' * 5000}\r\n")

    async with a_gateway(refuse, access_log=AccessLog(lines.append)) as gateway:
        answer = await gateway.post()
        assert (await gateway.post("/v1/completions", stream="x")).status_code == 400
    assert answer.json()["error"]["code"] == {"seen": "what the client said"}
    assert "retry-after" not in answer.headers
    logged = [json.loads(line) for line in b"".join(lines).splitlines()]
    assert [line["error"] for line in logged] == ["worker_refused", "invalid_request_error"]


@pytest.mark.parametrize("status", [301, 401, 403, 404, 405, 418, 500, 502, 504])
async def test_a_status_that_only_the_gateway_can_have_caused_is_a_502(status):
    async def answer(call):
        await call.answer(status, {"detail": "no"}, headers="location: http://10.0.0.1/\r\n")

    async with a_gateway(answer) as gateway:
        answer = await gateway.post()
        assert answer.status_code == 502
        assert answer.json()["error"]["code"] == "bad_worker_answer"
        assert "location" not in answer.headers


# Streams that go wrong after the first byte.


async def stop_early(call):
    await call.begin_stream()
    await call.chunk(token("a"))
    await call.end_stream()


async def error_event(call):
    await call.begin_stream()
    await call.chunk(token("a"))
    await asyncio.sleep(0.05)  # else the first byte is not yet out, and it is a 502
    error = {"message": f"boom at {call.headers['host']}", "type": "X", "code": 500}
    await call.chunk(event({"error": error}))
    await call.chunk(DONE)
    await call.end_stream()


async def stall(call):
    await call.begin_stream()
    await call.chunk(token("a"))
    await call.until_closed()


async def drip(call):
    await call.begin_stream()
    while True:
        await call.chunk(token("a"))
        await asyncio.sleep(0.05)


async def half_an_event(call):
    await call.begin_stream()
    await call.chunk(token("a"))
    await call.chunk(b'data: {"choices"')
    await call.end_stream()


async def garbage(call):
    await call.begin_stream()
    await call.chunk(token("a"))
    await call.chunk(b"\x00\xff<html>\n\n")
    await call.end_stream()


async def huge_event(call):
    await call.begin_stream()
    await call.chunk(token("a"))
    for _ in range(EVENT_BYTES_MAX // 65536 + 2):
        await call.chunk(b"x" * 65536)


async def bad_framing(call):
    await call.begin_stream()
    await call.chunk(token("a"))
    await call.send(b"zzz\r\nhello\r\n")
    await call.until_closed()


@pytest.mark.parametrize(
    "behaviour",
    [
        begin_and_drop,
        stop_early,
        error_event,
        stall,
        drip,
        half_an_event,
        garbage,
        huge_event,
        bad_framing,
    ],
)
async def test_a_stream_that_breaks_off_says_so_and_never_looks_finished(behaviour):
    async with a_gateway(behaviour, model=a_declared(limits=QUICK)) as gateway:
        answer = await gateway.post(stream=True)
        assert answer.status_code == 200
        assert answer.content.startswith(token("a"))
        error = broken_off(answer.content)
        assert set(error) == {"message", "type", "param", "code"}
        assert "127.0.0.1" not in error["message"]
        await gateway.assert_quiet()
        (record,) = await gateway.usage()
        assert record.status == "error"
        labels = {"model": "m", "variant": "default", "mode": "aggregated"}
        assert gateway.sample("modelyard_requests_total", **labels, status="broken_stream") == 1


# Answers that are none.


async def endless_head(call):
    await call.send(b"HTTP/1.1 200 OK\r\n")
    for number in range(2 * HEAD_BYTES_MAX // 1000):
        await call.send(b"x-%d: %b\r\n" % (number, b"y" * 1000))


async def endless_header(call):
    await call.send(b"HTTP/1.1 200 OK\r\nx: ")
    for _ in range(2 * HEAD_BYTES_MAX // 1000):
        await call.send(b"y" * 1000)


async def not_http(call):
    await call.send(b"SSH-2.0-OpenSSH_9.2\r\n")


async def html(call):
    await call.answer(200, b"<html>welcome</html>", "text/html")


async def html_as_json(call):
    await call.answer(200, b"<html>welcome</html>")


async def no_choices(call):
    await call.answer(200, {"detail": "fine"})


async def too_short(call):
    await call.send(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 999\r\n\r\n{}"
    )
    raise ConnectionResetError


async def two_lengths(call):
    await call.send(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n"
        b"content-length: 3\r\n\r\n{}"
    )


async def length_and_chunked(call):
    await call.send(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n"
        b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    )


async def gzip(call):
    await call.answer(200, completion(), headers="content-encoding: gzip\r\n")


async def switching(call):
    await call.send(b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n")


async def interim_flood(call):
    for _ in range(100):
        await call.send(b"HTTP/1.1 102 Processing\r\n\r\n")


@pytest.mark.parametrize(
    "behaviour",
    [
        endless_head,
        endless_header,
        not_http,
        html,
        html_as_json,
        no_choices,
        too_short,
        two_lengths,
        length_and_chunked,
        gzip,
        switching,
        interim_flood,
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_what_is_no_answer_is_a_502(behaviour, stream):
    async with a_gateway(behaviour, model=a_declared(limits=QUICK)) as gateway:
        answer = await gateway.post(stream=stream)
        assert answer.status_code == 502
        assert answer.json()["error"]["code"] == "bad_worker_answer"
        await gateway.assert_quiet()


async def test_an_interim_answer_is_passed_over():
    async def early(call):
        await call.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await good(call)

    async with a_gateway(early) as gateway:
        assert (await gateway.post()).json() == completion()


async def test_bytes_behind_an_answer_cost_the_connection_and_reach_nobody():
    async def surplus(call):
        await good(call)
        await call.send(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil")

    async with a_gateway(surplus) as gateway:
        for _ in range(4):
            assert (await gateway.post()).json() == completion()
            await asyncio.sleep(0.05)
        assert gateway.workers[0].connections == 4


async def test_an_answer_that_ends_with_its_connection_is_whole():
    async def old(call):
        body = json.dumps(completion()).encode()
        await call.send(b"HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n" + body)
        call.writer.close()
        raise ConnectionResetError

    async with a_gateway(old) as gateway:
        assert (await gateway.post()).json() == completion()


@pytest.mark.parametrize(
    "usage", [None, 7, {"prompt_tokens": -5}, {"prompt_tokens": "x"}, {"completion_tokens": 1e300}]
)
async def test_nonsense_about_usage_counts_as_nothing(usage):
    async def lie(call):
        await call.answer(200, {"choices": [], "usage": usage})

    async with a_gateway(lie) as gateway:
        assert (await gateway.post()).status_code == 200
        (record,) = await gateway.usage()
        assert (record.prompt_tokens, record.completion_tokens) == (0, 0)


# Deadlines.


async def headers_only(call):
    await call.begin_stream()
    await call.until_closed()


@pytest.mark.parametrize("behaviour", [hang, headers_only])
async def test_no_first_token_in_time_is_a_504_and_stops_the_worker(behaviour):
    async def watched(call):
        await behaviour(call)
        stopped.set()

    stopped = asyncio.Event()
    async with a_gateway(watched, model=a_declared(limits=QUICK)) as gateway:
        answer = await gateway.post(stream=True)
        assert answer.status_code == 504
        assert answer.json()["error"]["code"] == "deadline_exceeded"
        await asyncio.wait_for(stopped.wait(), 1)


async def test_a_stream_may_take_longer_than_any_of_its_gaps():
    async def steady(call):
        await call.begin_stream()
        for _ in range(8):
            await call.chunk(token("a"))
            await asyncio.sleep(0.08)
        await call.chunk(DONE)
        await call.end_stream()

    limits = {**QUICK, "total_s": 30.0}
    async with a_gateway(steady, model=a_declared(limits=limits)) as gateway:
        assert (await gateway.post(stream=True)).content == token("a") * 8 + DONE


async def test_a_whole_answer_has_the_total_time_for_its_first_byte():
    async def slow(call):
        await asyncio.sleep(0.6)
        await good(call)

    async with a_gateway(slow, model=a_declared(limits=QUICK)) as gateway:
        assert (await gateway.post()).status_code == 200
    async with a_gateway(hang, model=a_declared(limits=QUICK)) as gateway:
        assert (await gateway.post()).status_code == 504
        (record,) = await gateway.usage()
        assert record.status == "error"


async def test_a_worker_that_sends_too_much_too_fast_is_held_back():
    """The client reads slowly: what waits for it stays small, in the gateway too."""

    async def pour(call):
        await call.begin_stream()
        for _ in range(400):
            await call.chunk(event(b'"' + b"x" * 65536 + b'"'))
            sent.append(1)
        await call.chunk(DONE)
        await call.end_stream()

    sent = []
    async with a_gateway(pour) as gateway:
        request = gateway.client.stream(
            "POST", "/v1/completions", json={"model": "m", "stream": True}
        )
        async with request as answer:
            parts = answer.aiter_bytes()
            await anext(parts)
            await asyncio.sleep(0.3)
            assert len(sent) < 300  # 26 MB would be all of it
            received = b"".join([part async for part in parts])
        assert received.endswith(DONE)
