"""What the emulator does as a server: text, timing, limits, disconnects, the process itself."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
import time

import httpx
import pytest
from emulator_process import TOKEN, emulator_process

from pipelines.engines.emulator.options import Options, OptionsError, read
from pipelines.engines.emulator.server import serve
from pipelines.engines.emulator.text import count_tokens

BODY = {"model": "emulated", "prompt": "Tell me a story.", "max_tokens": 8}
CHAT = {"messages": [{"role": "user", "content": "Tell me a story."}], "max_tokens": 8}


def client(url: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(trust_env=False, base_url=url, timeout=10)


async def complete(http: httpx.AsyncClient, **more) -> dict:
    response = await http.post("/v1/completions", json={**BODY, **more})
    assert response.status_code == 200, response.text
    return response.json()


async def chat(http: httpx.AsyncClient, **more) -> dict:
    response = await http.post("/v1/chat/completions", json={**CHAT, **more})
    assert response.status_code == 200, response.text
    return response.json()["choices"][0]


async def streamed(http: httpx.AsyncClient, path: str, body: dict) -> list:
    response = await http.post(path, json={**body, "stream": True})
    events = [event.removeprefix("data: ") for event in response.text.split("\n\n") if event]
    assert events.pop() == "[DONE]"
    return [json.loads(event) for event in events]


async def eventually(condition) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - what it waits for has no event
            await asyncio.sleep(0.005)


async def test_a_stream_says_the_same_as_a_whole_answer():
    async with serve(Options()) as emulator, client(emulator.url) as http:
        whole = (await complete(http))["choices"][0]["text"]
        events = await streamed(http, "/v1/completions", BODY)
        assert "".join(event["choices"][0]["text"] for event in events) == whole
        whole = (await chat(http))["message"]["content"]
        events = await streamed(http, "/v1/chat/completions", CHAT)
        assert "".join(event["choices"][0]["delta"]["content"] for event in events) == whole


async def test_two_emulators_with_one_seed_agree_and_with_another_do_not():
    answers = []
    for seed in (5, 5, 6):
        async with serve(Options(seed=seed, jitter=0.5)) as emulator, client(emulator.url) as http:
            answers.append((await complete(http))["choices"][0]["text"])
    assert answers[0] == answers[1] != answers[2]


async def test_a_chat_is_continued_where_it_stopped():
    async with serve(Options()) as emulator, client(emulator.url) as http:
        whole = (await chat(http, max_tokens=8))["message"]["content"]
        begun = (await chat(http, max_tokens=3))["message"]["content"]
        messages = [*CHAT["messages"], {"role": "assistant", "content": begun}]
        rest = await chat(
            http,
            messages=messages,
            max_tokens=5,
            continue_final_message=True,
            add_generation_prompt=False,
        )
        assert begun + rest["message"]["content"] == whole


async def test_a_stop_string_ends_the_text_before_it():
    async with serve(Options()) as emulator, client(emulator.url) as http:
        whole = (await complete(http, max_tokens=30))["choices"][0]["text"]
        stop = whole[20:24]
        choice = (await complete(http, max_tokens=30, stop=[stop, "not in it"]))["choices"][0]
        assert choice["text"] == whole[: whole.index(stop)]
        assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", stop)


async def test_the_first_token_and_the_others_take_the_time_they_are_given():
    options = Options(ttft_ms=60, tpot_ms=20)
    async with serve(options) as emulator, client(emulator.url) as http:
        began = time.monotonic()
        await complete(http, max_tokens=1)
        assert time.monotonic() - began >= 0.055
        began = time.monotonic()
        await complete(http, max_tokens=6)
        assert time.monotonic() - began >= 0.150


async def test_prompts_share_one_prefill_throughput():
    options = Options(prefill_tokens_per_s=1000)
    async with serve(options) as emulator, client(emulator.url) as http:
        began = time.monotonic()
        prompt = "word " * 99  # 100 tokens, 100 ms
        await asyncio.gather(*(complete(http, prompt=prompt, max_tokens=1) for _ in range(3)))
        assert time.monotonic() - began >= 0.28


async def test_generations_over_the_limit_wait_and_are_counted():
    options = Options(max_num_seqs=2, tpot_ms=20)
    async with serve(options) as emulator, client(emulator.url) as http:
        batch = emulator.engine.batch
        async with asyncio.TaskGroup() as tasks:
            for _ in range(5):
                tasks.create_task(complete(http, max_tokens=5))
            await eventually(lambda: (batch.running, batch.waiting) == (2, 3))
            text = (await http.get("/metrics")).text
            assert 'vllm:num_requests_waiting{engine="0",model_name="emulated"} 3.0' in text
        assert batch.running == batch.waiting == 0


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_ends_its_generation_at_once(stream):
    async with serve(Options(tpot_ms=50)) as emulator, client(emulator.url) as http:
        batch, counters = emulator.engine.batch, emulator.engine.counters
        task = asyncio.create_task(complete(http, max_tokens=1000, stream=stream))
        await eventually(lambda: batch.running == 1)
        task.cancel()
        await asyncio.wait([task])
        await eventually(lambda: batch.running == 0)
        assert counters.finished["abort"] == 1
        tokens = counters.generation_tokens
        await asyncio.sleep(0.1)
        assert counters.generation_tokens == tokens < 1000


async def test_a_waiting_client_that_leaves_is_forgotten():
    async with serve(Options(max_num_seqs=1, tpot_ms=20)) as emulator, client(emulator.url) as http:
        batch = emulator.engine.batch
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(complete(http, max_tokens=10))
            await eventually(lambda: batch.running == 1)
            second = tasks.create_task(complete(http, max_tokens=10))
            await eventually(lambda: batch.waiting == 1)
            second.cancel()
            await eventually(lambda: batch.waiting == 0)
        assert emulator.engine.counters.finished == {
            "stop": 0,
            "length": 1,
            "abort": 1,
            "error": 0,
        }


async def test_the_request_id_of_the_caller_is_the_answers():
    async with serve(Options()) as emulator, client(emulator.url) as http:
        headers = {"x-request-id": "abc-1"}
        response = await http.post("/v1/completions", json=BODY, headers=headers)
        assert response.json()["id"] == "cmpl-abc-1"


async def test_usage_adds_up():
    async with serve(Options()) as emulator, client(emulator.url) as http:
        usage = (await complete(http, max_tokens=9))["usage"]
        assert usage["completion_tokens"] == 9
        assert usage["prompt_tokens"] == count_tokens(BODY["prompt"])
        assert usage["total_tokens"] == usage["prompt_tokens"] + 9


async def test_the_token_guards_inference_and_faults_but_not_health():
    async with serve(Options(), token="right") as emulator, client(emulator.url) as http:
        for path in ("/v1/models", "/fault", "/v1/unknown"):
            assert (await http.get(path)).status_code == 401
            wrong = await http.get(path, headers={"authorization": "Bearer wrong"})
            assert wrong.status_code == 401
        right = {"authorization": "Bearer right"}
        assert (await http.get("/v1/models", headers=right)).status_code == 200
        assert (await http.get("/health")).status_code == 200
        assert (await http.get("/metrics")).status_code == 200


async def test_requests_on_one_connection_are_answered_in_order():
    async with serve(Options(tpot_ms=5)) as emulator:
        host, port = emulator.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        body = json.dumps(BODY).encode()
        post = b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body)
        writer.write(post + body + b"GET /nothing HTTP/1.1\r\nconnection: close\r\n\r\n")
        answers = await reader.read()
        writer.close()
        assert answers.index(b"200 OK") < answers.index(b"404 Not Found")


@pytest.mark.parametrize(
    "data",
    [b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"POST / HTTP/1.1\r\ncontent-length: x\r\n\r\n"],
)
async def test_what_is_not_http_is_refused_and_closed(data):
    async with serve(Options()) as emulator:
        host, port = emulator.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(data)
        assert (await reader.read()).startswith(b"HTTP/1.1 400")
        writer.close()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--tpot-ms", "-1"], "--tpot-ms is -1, allowed is 0 to 60000"),
        (["--tpot-ms", "fast"], "--tpot-ms: Expected `float`, got `str`"),
        (["--role", "both"], "--role: Invalid enum value 'both'"),
        (["--port", "70000"], "--port is 70000"),
        (["--jitter", "2"], "--jitter is 2"),
        (["--failure-rate", "nan"], "--failure-rate is nan"),
        (["--max-num-seqs", "0"], "--max-num-seqs is 0"),
        (["--model", ""], "--model is empty"),
    ],
)
def test_a_bad_flag_is_named_with_what_is_allowed(flags, message):
    with pytest.raises(OptionsError) as error:
        read(flags)
    assert str(error.value).startswith(message)


def test_an_unknown_flag_ends_the_process_with_two():
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.engines.emulator_server", "--tpot", "3"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "unrecognized arguments" in done.stderr


def test_the_process_serves_and_ends_on_sigterm():
    with emulator_process(seed=3) as (url, process):
        headers = {"authorization": f"Bearer {TOKEN}"}
        models = httpx.get(f"{url}/v1/models", headers=headers, trust_env=False).json()
        assert models["data"][0]["id"] == "smollm2"
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0


def test_a_process_told_to_ignores_sigterm():
    with emulator_process(**{"ignore-sigterm": True}) as (url, process):
        process.send_signal(signal.SIGTERM)
        assert httpx.get(f"{url}/health", trust_env=False).status_code == 200
        assert process.poll() is None


def test_a_taken_port_is_told_plainly():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-m", "pipelines.engines.emulator_server", "--port", port],
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.startswith("emulator: cannot listen on 127.0.0.1")
