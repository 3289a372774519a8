"""Failures on demand, each as a client sees it."""

import asyncio

import httpx
import pytest
from emulator_process import TOKEN, emulator_process

from pipelines.engines.emulator import EmulatorEngine
from pipelines.engines.emulator.options import Options
from pipelines.engines.emulator.server import Running, serve

BODY = {"model": "emulated", "prompt": "Tell me a story.", "max_tokens": 8}


def client(emulator: Running) -> httpx.AsyncClient:
    return httpx.AsyncClient(trust_env=False, base_url=emulator.url, timeout=5)


async def fault(http: httpx.AsyncClient, kind: str, **more) -> None:
    response = await http.post("/fault", json={"kind": kind, **more})
    assert response.status_code == 200, response.text


async def count(http: httpx.AsyncClient, number: int) -> None:
    """Waits until so many requests are on the engine."""
    async with asyncio.timeout(2):
        while True:
            found = EmulatorEngine().metrics((await http.get("/metrics")).text)
            if found.requests_running == number:
                return
            await asyncio.sleep(0.005)


async def post(http: httpx.AsyncClient, **more) -> httpx.Response:
    return await http.post("/v1/completions", json={**BODY, **more})


async def broken_stream(http: httpx.AsyncClient) -> bytes:
    """What came of a stream before its connection broke."""
    got = bytearray()
    with pytest.raises(httpx.TransportError):
        await read_stream(http, got)
    return bytes(got)


async def read_stream(http: httpx.AsyncClient, into: bytearray) -> None:
    async with http.stream("POST", "/v1/completions", json={**BODY, "stream": True}) as response:
        async for chunk in response.aiter_raw():
            into += chunk


@pytest.mark.parametrize("stream", [False, True])
async def test_the_next_n_fail_with_a_status_and_then_it_is_well(stream):
    async with serve(Options()) as emulator, client(emulator) as http:
        await fault(http, "status", count=2, status=503)
        statuses = [(await post(http, stream=stream)).status_code for _ in range(3)]
        assert statuses == [503, 503, 200]


async def test_a_stream_dies_after_so_many_tokens():
    async with serve(Options(tpot_ms=2)) as emulator, client(emulator) as http:
        await fault(http, "die", after_tokens=3)
        got = await broken_stream(http)
        assert got.count(b'"text":') == 3
        assert b"[DONE]" not in got
        assert (await post(http)).status_code == 200


@pytest.mark.parametrize("stream", [False, True])
async def test_a_connection_dies_before_any_byte(stream):
    async with serve(Options()) as emulator, client(emulator) as http:
        await fault(http, "die")
        with pytest.raises(httpx.TransportError):
            await post(http, stream=stream)


async def test_the_flag_breaks_every_stream():
    async with serve(Options(die_after_tokens=2, tpot_ms=2)) as emulator, client(emulator) as http:
        for _ in range(2):
            assert (await broken_stream(http)).count(b'"text":') == 2


@pytest.mark.parametrize("after_tokens", [0, 3])
async def test_a_hanging_answer_gives_no_byte_more_until_the_client_leaves(after_tokens):
    async with serve(Options()) as emulator, client(emulator) as http:
        await fault(http, "hang", after_tokens=after_tokens)
        got = bytearray()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(read_stream(http, got), 0.2)
        assert got.count(b'"text":') == after_tokens
        await count(http, 0)
        assert emulator.engine.counters.finished["abort"] == 1


async def test_a_request_that_hangs_counts_as_running():
    async with serve(Options()) as emulator, client(emulator) as http:
        await fault(http, "hang")
        asked = asyncio.create_task(post(http))
        await count(http, 1)
        asked.cancel()
        await count(http, 0)


async def test_a_slow_start_is_only_slow():
    async with serve(Options(ttft_ms=10)) as emulator, client(emulator) as http:
        usual = (await post(http)).json()["choices"]
        await fault(http, "slow", factor=15)
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert (await post(http)).json()["choices"] == usual
        assert loop.time() - began >= 0.15


async def test_a_truncated_stream_looks_finished_and_is_not():
    async with serve(Options()) as emulator, client(emulator) as http:
        await fault(http, "truncate", after_tokens=2)
        text = (await post(http, stream=True)).text
        assert text.count('"text":') == 2
        assert "[DONE]" not in text
        assert '"finish_reason":"' not in text


async def test_a_truncated_whole_answer_breaks_off():
    async with serve(Options()) as emulator, client(emulator) as http:
        await fault(http, "truncate")
        with pytest.raises(httpx.RemoteProtocolError):
            await post(http)


async def test_an_engine_error_in_mid_stream_is_an_event_as_vllms():
    async with serve(Options()) as emulator, client(emulator) as http:
        await fault(http, "error", after_tokens=2)
        events = (await post(http, stream=True)).text.split("\n\n")
        assert '"type":"InternalServerError"' in events[2]
        assert events[3] == "data: [DONE]"


async def test_an_engine_error_without_a_stream_is_500():
    async with serve(Options()) as emulator, client(emulator) as http:
        await fault(http, "error", after_tokens=2)
        response = await post(http)
        assert response.status_code == 500
        assert response.json()["error"]["type"] == "InternalServerError"


@pytest.mark.parametrize("stream", [False, True])
async def test_garbage_is_neither_json_nor_events(stream):
    async with serve(Options()) as emulator, client(emulator) as http:
        await fault(http, "garbage")
        response = await post(http, stream=stream)
        assert response.status_code == 200
        assert b"<html>" in response.content


async def test_an_unhealthy_engine_says_so_and_serves():
    async with serve(Options()) as emulator, client(emulator) as http:
        await fault(http, "unhealthy", count=-1)
        assert (await http.get("/health")).status_code == 503
        assert (await post(http)).status_code == 200
        await http.delete("/fault")
        assert (await http.get("/health")).status_code == 200


async def test_pending_faults_are_listed_and_can_be_cleared():
    async with serve(Options()) as emulator, client(emulator) as http:
        await fault(http, "status", count=3)
        await post(http)
        listed = (await http.get("/fault")).json()["faults"]
        assert [(each["kind"], each["count"]) for each in listed] == [("status", 2)]
        assert (await http.delete("/fault")).json() == {"faults": []}
        assert (await post(http)).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'{"kind":"explode"}',
        b'{"kind":"die","count":0}',
        b'{"kind":"die","after_tokens":-1}',
        b'{"kind":"status","status":200}',
        b'{"kind":"die","typo":1}',
        b'{"kind":"slow","after_tokens":1}',
        b'{"kind":"slow","factor":0}',
    ],
)
async def test_a_fault_it_does_not_know_is_refused(body):
    async with serve(Options()) as emulator, client(emulator) as http:
        assert (await http.post("/fault", content=body)).status_code == 400
        assert (await http.get("/fault")).json() == {"faults": []}


async def test_a_failure_rate_is_kept_and_repeats_with_its_seed():
    runs = []
    for _ in range(2):
        options = Options(failure_rate=0.3, seed=4)
        async with serve(options) as emulator, client(emulator) as http:
            runs.append([(await post(http, max_tokens=1)).status_code for _ in range(60)])
    assert runs[0] == runs[1]
    assert 8 <= runs[0].count(500) <= 28


def test_the_process_can_be_told_to_end_in_mid_stream():
    with emulator_process() as (url, process):
        headers = {"authorization": f"Bearer {TOKEN}"}
        with httpx.Client(trust_env=False, base_url=url, headers=headers) as http:
            http.post("/fault", json={"kind": "exit", "after_tokens": 2})
            with pytest.raises(httpx.TransportError):
                http.post("/v1/completions", json={**BODY, "model": "smollm2", "stream": True})
        assert process.wait(5) == 70
