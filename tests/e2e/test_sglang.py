"""The whole, on real SGLang beside real vLLM: one model on both engines, and a pair over Mooncake.

One yard for the module, of `examples/sglang.yaml`. The tests run in the order they stand, and each
leaves both models ready; the last ones stop what they have.
"""

import json
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import anthropic
import httpx
import openai
import pytest
import yaml
from yard import Yard, eventually, is_alive, run_yard

from registry.settings import load

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

EXAMPLE = Path(__file__).parents[2] / "examples" / "sglang.yaml"
BOTH, PAIR = "smollm2", "smollm2-pd"
PROMPT = (
    "The capital of Germany is Berlin. The capital of Italy is Rome. The capital of Spain is "
    "Madrid. The capital of Portugal is Lisbon. The capital of France is"
)
MESSAGES = [
    {"role": "system", "content": "You answer in one short and plain sentence, always."},
    {"role": "user", "content": "What is the capital of France? Answer in one sentence."},
]
READY_S = 600.0
REPLACED_S = 300.0
ASKED_MAX = 60  # for a variant that takes half of the traffic


@pytest.fixture(scope="module")
def yard(tmp_path_factory):
    shared = load({})  # runtimes and weights are the machine's, all other state is the test's own
    models = yaml.safe_load(EXAMPLE.read_text())
    for model in models["models"]:
        model["routing"] = {"policy": "kv_events"}
    spec = tmp_path_factory.mktemp("spec") / "sglang.yaml"
    spec.write_text(yaml.safe_dump(models))
    home = tmp_path_factory.mktemp("sglang") / "home"
    for yard in run_yard(
        home, MODELYARD_RUNTIMES_DIR=str(shared.runtimes), MODELYARD_MODELS_DIR=str(shared.models)
    ):
        yard.start(spec)
        yard.wait_ready(READY_S)
        yield yard


def complete(client: httpx.Client, model: str, prompt: str = PROMPT, **more) -> httpx.Response:
    body = {"model": model, "prompt": prompt, "max_tokens": 16, "temperature": 0, **more}
    return client.post("/v1/completions", json=body)


def by_variant(
    client: httpx.Client, path: str = "/v1/completions", **body
) -> dict[str, httpx.Response]:
    """An answer of each variant to the same request, a completion where nothing is said."""
    answers: dict[str, httpx.Response] = {}
    for _ in range(ASKED_MAX):
        answer = client.post(path, json={"model": BOTH, **body}) if body else complete(client, BOTH)
        assert answer.status_code == 200, answer.text
        answers[answer.headers["x-modelyard-variant"]] = answer
        if len(answers) == 2:
            return answers
    raise AssertionError(f"{ASKED_MAX} requests went to {list(answers)} only")


def text_of(answer: httpx.Response) -> str:
    return answer.json()["choices"][0]["text"]


def worker_id(yard: Yard, model: str, **facts: str) -> str:
    return next(
        worker["id"]
        for worker in yard.ready_workers(model)
        if all(worker[name] == value for name, value in facts.items())
    )


def replaced(yard: Yard, model: str, victim: str, **facts: str) -> None:
    def other() -> bool:
        return any(
            worker["id"] != victim and all(worker[n] == value for n, value in facts.items())
            for worker in yard.ready_workers(model)
        )

    eventually("replaced", other, REPLACED_S)
    eventually("told so", lambda: yard.is_ready(model), 60)


def test_one_model_is_answered_by_both_engines(yard):
    before = {
        name: yard.generated(BOTH, worker_id(yard, BOTH, variant=name))
        for name in ("vllm", "sglang")
    }
    with yard.client(180) as client:
        answers = by_variant(client)

    assert set(answers) == {"vllm", "sglang"}
    for name, answer in answers.items():
        worker = worker_id(yard, BOTH, variant=name)
        assert answer.headers["x-modelyard-workers"] == f"unified={worker}"
        assert "Paris" in text_of(answer)
        eventually("counted", lambda n=name, w=worker: yard.generated(BOTH, w) > before[n])
    vllm, sglang = (answers[name].json()["usage"] for name in ("vllm", "sglang"))
    assert vllm["prompt_tokens"] == sglang["prompt_tokens"], "one tokenizer, one prompt"


def test_both_engines_tell_what_their_caches_hold(yard):
    """SGLang's own events go into the index; its pages are longer than a token for that."""
    with yard.client(180) as client:
        by_variant(client)
        complete(client, PAIR)
    eventually("told", lambda: yard.metric("modelyard_kv_events_total", kind="applied") >= 3)
    assert yard.metric("modelyard_kv_events_total", kind="bad") == 0


def test_a_pair_answers_as_one_worker_does_with_kv_that_really_moved(yard):
    before = yard.kv_transfers(PAIR)
    with yard.client(180) as client:
        whole = by_variant(client)["sglang"]
        apart = complete(client, PAIR)

    assert (apart.status_code, apart.headers["x-modelyard-mode"]) == (200, "disaggregated")
    assert text_of(apart) == text_of(whole)
    assert apart.json()["usage"]["prompt_tokens"] == whole.json()["usage"]["prompt_tokens"]
    eventually("counted", lambda: yard.kv_transfers(PAIR) > before)
    (variant,) = yard.describe(PAIR)["variants"]
    assert variant["transfer"] == "mooncake"
    assert {item["role"] for item in variant["workers"]} == {"prefill", "decode"}


@pytest.mark.parametrize("model", [BOTH, PAIR])
def test_the_openai_client_drives_it(yard, model):
    with openai.OpenAI(
        base_url=f"http://127.0.0.1:{yard.port}/v1", api_key=yard.key, timeout=180, max_retries=0
    ) as client:
        ask = {"model": model, "messages": MESSAGES, "temperature": 0, "max_tokens": 24}
        whole = client.chat.completions.create(**ask)
        chunks = list(
            client.chat.completions.create(
                **ask, stream=True, stream_options={"include_usage": True}
            )
        )

    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert "Paris" in (whole.choices[0].message.content or "")
    assert "Paris" in text
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] in {"stop", "length"}
    assert whole.usage.prompt_tokens == chunks[-1].usage.prompt_tokens > 20
    assert 0 < chunks[-1].usage.completion_tokens <= 24


def test_each_dialect_is_answered_by_both_engines_and_refused_by_a_pair_of_sglang(yard):
    question = MESSAGES[1:]
    asked = {
        "/v1/messages": {"messages": question, "max_tokens": 16},
        "/v1/responses": {"input": question[0]["content"], "max_output_tokens": 16},
        "/v1/messages/count_tokens": {"messages": question},
        "/detokenize": {"tokens": [28120, 905]},
    }
    with yard.client(180) as client:
        said = {path: by_variant(client, path, **body) for path, body in asked.items()}
        refused = client.post("/v1/messages", json={"model": PAIR, **asked["/v1/messages"]})

    for path, kind in (("/v1/messages", "message"), ("/v1/responses", "response")):
        for answer in (answer.json() for answer in said[path].values()):
            assert kind in {answer.get("type"), answer.get("object")}
            assert answer["usage"]["input_tokens"] > 10
            assert 0 < answer["usage"]["output_tokens"] <= 16
    counts = {
        answer.json()["input_tokens"] for answer in said["/v1/messages/count_tokens"].values()
    }
    assert len(counts) == 1, "one tokenizer, one prompt"
    told = {name: answer.json() for name, answer in said["/detokenize"].items()}
    assert told == {"vllm": {"prompt": "hello world"}, "sglang": {"text": "hello world"}}
    assert refused.status_code == 400
    assert refused.json()["error"]["type"] == "invalid_request_error"
    assert "/v1/chat/completions" in refused.json()["error"]["message"]


def test_the_anthropic_client_is_streamed_to_by_both_engines(yard):
    seen: dict[str, anthropic.types.Message] = {}
    with anthropic.Anthropic(
        base_url=f"http://127.0.0.1:{yard.port}", api_key=yard.key, timeout=180, max_retries=0
    ) as client:
        for _ in range(ASKED_MAX):
            ask = client.messages.stream(model=BOTH, max_tokens=16, messages=MESSAGES[1:])
            with ask as stream:
                text = "".join(stream.text_stream)
                message = stream.get_final_message()
                seen[stream.response.headers["x-modelyard-variant"]] = message
            assert text
            assert message.stop_reason in {"end_turn", "max_tokens"}
            assert 0 < message.usage.output_tokens <= 16
            if len(seen) == 2:
                break
    assert set(seen) == {"vllm", "sglang"}


def test_several_requests_at_once_each_find_their_room(yard):
    before = yard.kv_transfers(PAIR)
    with yard.client(180) as client, ThreadPoolExecutor(4) as pool:
        prompts = [f"{number}. {PROMPT}" for number in range(8)]
        answers = list(pool.map(lambda prompt: complete(client, PAIR, prompt), prompts))

    assert [answer.status_code for answer in answers] == [200] * 8
    assert all("Paris" in text_of(answer) for answer in answers)
    eventually("counted", lambda: yard.kv_transfers(PAIR) >= before + 8)


def test_the_key_is_neither_on_the_command_line_nor_in_the_log(yard):
    worker = worker_id(yard, BOTH, variant="sglang")
    launch = json.loads((yard.home / "workers" / worker / "launch.json").read_bytes())
    assert launch["token"]
    for process in yard.engine_processes(worker):
        assert not any(launch["token"] in word for word in process.cmdline())
    log = (yard.home / "workers" / worker / "engine.log").read_text()
    assert "server_args" in log
    assert launch["token"] not in log


def test_a_prefill_killed_in_mid_request_is_told_at_once_and_replaced(yard):
    """It was the only one, and decode cannot do its work: an error, and no hanging for it."""
    victim = worker_id(yard, PAIR, role="prefill")
    statuses: Counter[int] = Counter()
    with yard.client(180) as client, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(complete, client, PAIR, PROMPT * 20)
        time.sleep(0.3)
        for process in yard.engine_processes(victim):
            process.kill()
        killed_at = time.monotonic()
        answer = asked.result()
        assert time.monotonic() - killed_at < 60
        statuses[answer.status_code] += 1
        if answer.status_code != 200:
            assert answer.status_code in {502, 503, 504}
            assert answer.json()["error"]["message"]

        replaced(yard, PAIR, victim, role="prefill")
        before = yard.kv_transfers(PAIR)
        again = eventually("disaggregated again", lambda: _answered(client), 60)
    assert "Paris" in text_of(again)
    eventually("counted", lambda: yard.kv_transfers(PAIR) > before)


def _answered(client: httpx.Client) -> httpx.Response | None:
    answer = complete(client, PAIR)
    return answer if answer.status_code == 200 else None


def test_a_stream_that_vllm_began_is_completed_by_sglang(yard):
    """Whose words they are, the client cannot tell: one id, one role, the usage of one answer."""
    victim = worker_id(yard, BOTH, variant="vllm")
    messages = [{"role": "user", "content": f"{PROMPT}? Tell me all you know about that city."}]
    said, chunks, cut_at = "", [], 0
    ask = {
        "model": BOTH,
        "messages": messages,
        "temperature": 0,
        "max_tokens": 100,
        "extra_body": {"ignore_eos": True},
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    with openai.OpenAI(
        base_url=f"http://127.0.0.1:{yard.port}/v1", api_key=yard.key, timeout=180, max_retries=0
    ) as client:
        for _ in range(ASKED_MAX):
            with client.chat.completions.with_streaming_response.create(**ask) as answer:
                if answer.headers["x-modelyard-variant"] != "vllm":
                    continue
                for chunk in answer.parse():
                    chunks.append(chunk)
                    said += (chunk.choices[0].delta.content or "") if chunk.choices else ""
                    if not cut_at and len(chunks) > 20:
                        cut_at = len(said)
                        for process in yard.engine_processes(victim):
                            process.kill()
                break

    assert len({chunk.id for chunk in chunks}) == 1
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "length"
    assert len([c for c in chunks if c.choices and c.choices[0].delta.role]) == 1
    assert 0 < cut_at < len(said)
    assert chunks[-1].usage.completion_tokens == 100
    assert yard.upstream_failures() & {"cut_off", "error_event"}


def test_ctrl_c_leaves_no_process(yard):
    engines = [
        process
        for model in (BOTH, PAIR)
        for worker in yard.ready_workers(model)
        for process in yard.engine_processes(worker["id"])
    ]
    assert len(engines) >= 9, "of three SGLang workers at least, three processes each"

    assert yard.stop() == 0

    assert yard.processes() == []
    assert not [engine for engine in engines if is_alive(engine)]
