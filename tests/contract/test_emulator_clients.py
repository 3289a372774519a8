"""What the emulator answers to clients of every kind, beyond the shapes that were recorded."""

import base64
import json
import math
import struct

import httpx
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.engines.emulator import forced
from pipelines.engines.emulator.forced import Tool, call_of, json_of
from pipelines.engines.emulator.options import Options, OptionsError, read
from pipelines.engines.emulator.server import serve
from pipelines.engines.emulator.text import WORDS
from registry.spec import Task

CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Paris"]}, "days": {"type": "integer"}},
    "required": ["city", "days"],
}
TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": CITY}}
MESSAGES = [{"role": "user", "content": "What is the weather?"}]


def a_client(url: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(trust_env=False, base_url=url, timeout=10)


async def post(http: httpx.AsyncClient, path: str, body: dict) -> dict:
    response = await http.post(path, json=body)
    assert response.status_code == 200, response.text
    return response.json()


async def vectors(http: httpx.AsyncClient, *texts: str, **more) -> list[list[float]]:
    answer = await post(http, "/v1/embeddings", {"input": list(texts), **more})
    assert [item["index"] for item in answer["data"]] == list(range(len(texts)))
    return [item["embedding"] for item in answer["data"]]


def cosine(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


# --- embeddings, rerank, score


async def test_texts_that_share_words_are_near_and_the_same_text_is_the_same():
    async with serve(Options(task=Task.EMBED)) as emulator, a_client(emulator.url) as http:
        cat, mat, form, again = await vectors(http, "a cat", "a cat on a mat", "tax form", "a cat")
        assert cat == again
        assert math.isclose(cosine(cat, cat), 1)
        assert cosine(cat, mat) > 0.5 > abs(cosine(cat, form))
        (alone,) = await vectors(http, "a cat")
        assert alone == cat


async def test_base64_is_the_same_vector_and_fewer_dimensions_are_its_beginning():
    options = Options(task=Task.EMBED, embedding_dimensions=32, matryoshka=True)
    async with serve(options) as emulator, a_client(emulator.url) as http:
        (whole,) = await vectors(http, "a cat on a mat in the garden")
        (packed,) = await vectors(http, "a cat on a mat in the garden", encoding_format="base64")
        (short,) = await vectors(http, "a cat on a mat in the garden", dimensions=8)
        assert (len(whole), len(short)) == (32, 8)
        assert list(struct.unpack("<32f", base64.b64decode(packed))) == pytest.approx(whole)
        length = math.sqrt(sum(value * value for value in whole[:8]))
        assert short == pytest.approx([value / length for value in whole[:8]])
        refused = await http.post("/v1/embeddings", json={"input": "a", "dimensions": 64})
        assert refused.status_code == 400


async def test_a_ranking_is_by_the_score_that_score_gives():
    documents = ["tax form", "a cat on a mat", "a cat", "dogs"]
    async with serve(Options(task=Task.RERANK)) as emulator, a_client(emulator.url) as http:
        body = {"query": "a cat", "documents": documents}
        ranked = (await post(http, "/v1/rerank", body))["results"]
        best = (await post(http, "/rerank", {**body, "top_n": 1}))["results"]
        scored = (await post(http, "/v1/score", {"text_1": "a cat", "text_2": documents}))["data"]
    assert [item["index"] for item in ranked[:2]] == [2, 1]
    assert best == ranked[:1]
    scores = {item["index"]: item["score"] for item in scored}
    assert scores == {item["index"]: item["relevance_score"] for item in ranked}


@pytest.mark.parametrize(
    ("task", "path"),
    [
        *((task, path) for task in (Task.EMBED, Task.RERANK) for path in ("chat/completions",)),
        *((task, path) for task in (Task.EMBED, Task.RERANK) for path in ("messages", "responses")),
        (Task.RERANK, "embeddings"),
        (Task.GENERATE, "embeddings"),
        (Task.GENERATE, "rerank"),
    ],
)
async def test_a_route_of_another_task_is_not_there(task, path):
    async with serve(Options(task=task)) as emulator, a_client(emulator.url) as http:
        answer = await http.post(f"/v1/{path}", json={"messages": MESSAGES, "input": "a"})
    assert (answer.status_code, answer.json()) == (404, {"detail": "Not Found"})


async def test_what_pools_takes_its_time_fails_on_demand_and_counts_prompts_alone():
    options = Options(task=Task.EMBED, prefill_tokens_per_s=100)
    async with serve(options) as emulator, a_client(emulator.url) as http:
        await vectors(http, "the river " * 5)
        counters = emulator.engine.counters
        assert (counters.prompt_tokens, counters.generation_tokens) == (11, 0)
        await http.post("/fault", json={"kind": "status", "status": 503})
        assert (await http.post("/v1/embeddings", json={"input": "a"})).status_code == 503


def test_a_model_that_pools_has_no_other_role():
    with pytest.raises(OptionsError, match=r"--task embed .* allowed is unified"):
        read(["--task", "embed", "--role", "decode"])


async def test_ids_say_again_what_they_were_made_of():
    text = " " + " ".join(WORDS)
    async with serve(Options()) as emulator, a_client(emulator.url) as http:
        ids = (await post(http, "/tokenize", {"prompt": text}))["tokens"]
        assert (await post(http, "/detokenize", {"tokens": ids})) == {"prompt": text}


# --- tools and schemas

schemas = st.recursive(
    st.sampled_from(
        [
            {"type": "string"},
            {"type": "integer", "minimum": 5},
            {"type": "number"},
            {"type": "boolean"},
            {"enum": [7, "x"]},
            {"const": [1]},
            {"$ref": "#/$defs/Named"},
            {"type": ["string", "null"]},
        ]
    ),
    lambda inner: (
        st.fixed_dictionaries({"type": st.just("array"), "items": inner})
        | st.fixed_dictionaries({"anyOf": st.lists(inner, min_size=1, max_size=2)})
        | st.dictionaries(st.text(max_size=3), inner, max_size=3).map(
            lambda fields: {"type": "object", "properties": fields, "required": list(fields)}
        )
    ),
    max_leaves=6,
)
NAMED = {"type": "object", "properties": {"a": {"type": "boolean"}}}


KINDS = {"string": str, "integer": int, "number": float, "boolean": bool}


def fits(value: object, schema: dict) -> bool:
    if "$ref" in schema:
        return fits(value, NAMED)
    if "anyOf" in schema:
        return any(fits(value, each) for each in schema["anyOf"])
    if "type" not in schema:
        return value in schema.get("enum", [schema.get("const")])
    if schema["type"] == "object":
        fields = schema["properties"]
        return set(value) == set(fields) and all(fits(value[name], fields[name]) for name in fields)
    kind = schema["type"][0] if isinstance(schema["type"], list) else schema["type"]
    if kind == "array":
        return isinstance(value, list) and all(fits(item, schema["items"]) for item in value)
    return isinstance(value, KINDS[kind]) and ("minimum" not in schema or value >= 5)


@given(schemas)
def test_what_is_forced_fits_its_schema(schema):
    assert fits(json.loads(json_of({**schema, "$defs": {"Named": NAMED}}).text), schema)


def test_a_schema_that_leads_to_itself_ends():
    looped = {
        "$ref": "#/$defs/A",
        "$defs": {"A": {"type": "array", "items": {"$ref": "#/$defs/A"}}},
    }
    assert len(json_of(looped).text) < 100


def test_a_tool_that_is_not_there_is_not_called():
    assert call_of([Tool("a", {})], "b") is None
    assert call_of([], "") is None
    assert call_of([Tool("a", {})], "") == forced.Forced("{}", "a", by_name=False)


async def test_a_message_whose_call_is_cut_is_refused_if_it_names_the_tool():
    tool = {"name": "f", "input_schema": CITY}
    ask = {"model": "emulated", "max_tokens": 1, "messages": MESSAGES, "tools": [tool]}
    async with serve(Options()) as emulator, httpx.AsyncClient(base_url=emulator.url) as http:
        named = await http.post(
            "/v1/messages", json={**ask, "tool_choice": {"type": "tool", "name": "f"}}
        )
        whichever = await http.post("/v1/messages", json={**ask, "tool_choice": {"type": "any"}})
    assert (named.status_code, named.json()["error"]["type"]) == (400, "BadRequestError")
    assert whichever.json()["content"] == [{"type": "text", "text": ""}]


async def test_the_openai_client_reads_a_forced_call_and_a_held_answer():
    async with serve(Options()) as emulator:
        client = openai.AsyncOpenAI(base_url=f"{emulator.url}/v1", api_key="k", max_retries=0)
        ask = {"model": "emulated", "messages": MESSAGES, "tools": [TOOL]}
        whole = await client.chat.completions.create(**ask, tool_choice="required")
        async with client.chat.completions.stream(**ask, tool_choice="required") as stream:
            streamed = await stream.get_final_completion()
        for answer in (whole, streamed):
            (call,) = answer.choices[0].message.tool_calls
            assert call.function.name == "get_weather"
            assert json.loads(call.function.arguments) == {"city": "Paris", "days": 1}
            assert answer.choices[0].finish_reason == "tool_calls"
        tool = {"type": "function", "name": "get_weather", "parameters": CITY, "strict": True}
        response = await client.responses.create(
            model="emulated", input="Weather?", tools=[tool], tool_choice="required"
        )
        assert json.loads(response.output[0].arguments) == {"city": "Paris", "days": 1}
        form = {"type": "json_schema", "name": "city", "schema": CITY}
        held = await client.responses.create(model="emulated", input="W?", text={"format": form})
        assert json.loads(held.output_text) == {"city": "Paris", "days": 1}
        await client.close()


# --- several choices


async def test_choices_differ_are_counted_together_and_stream_as_they_are_whole():
    body = {"model": "emulated", "messages": MESSAGES, "max_tokens": 6, "n": 3}
    async with serve(Options()) as emulator, a_client(emulator.url) as http:
        whole = await post(http, "/v1/chat/completions", body)
        stream = {"stream": True, "stream_options": {"include_usage": True}}
        lines = (await http.post("/v1/chat/completions", json={**body, **stream})).text.split(
            "\n\n"
        )
    texts = [choice["message"]["content"] for choice in whole["choices"]]
    assert len(set(texts)) == 3
    assert whole["usage"]["completion_tokens"] == 18
    events = [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]
    said = ["", "", ""]
    for event in events:
        for choice in event["choices"]:
            said[choice["index"]] += choice["delta"]["content"]
    assert said == texts
    assert whole["usage"].items() >= events[-1]["usage"].items()
    assert lines[-2:] == ["data: [DONE]", ""]


async def test_a_client_that_leaves_ends_every_choice():
    body = {"prompt": "a", "n": 3, "max_tokens": 500, "stream": True}
    async with serve(Options(tpot_ms=20)) as emulator, a_client(emulator.url) as http:
        async with http.stream("POST", "/v1/completions", json=body) as answer:
            async for _ in answer.aiter_raw():
                break
        metrics = (await http.get("/metrics")).text
        assert emulator.engine.batch.running == 0
        assert 'finished_reason="abort"} 3.0' in metrics


# --- failures of the other dialects


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/responses", {"input": "a", "max_output_tokens": 9}),
        ("/v1/messages", {"model": "emulated", "messages": MESSAGES, "max_tokens": 9}),
    ],
)
async def test_a_stream_that_fails_says_so_as_its_client_expects(path, body):
    fault = {"kind": "error", "after_tokens": 2, "count": 1}
    async with serve(Options()) as emulator, a_client(emulator.url) as http:
        await http.post("/fault", json=fault)
        got = bytearray()
        try:
            async with http.stream("POST", path, json={**body, "stream": True}) as answer:
                async for chunk in answer.aiter_raw():
                    got += chunk
        except httpx.RemoteProtocolError:
            assert path == "/v1/responses"
            assert got.count(b"output_text.delta\n") == 2
        else:
            assert path == "/v1/messages"
            assert got.rstrip().rpartition(b"\n\n")[2].startswith(b"event: error\ndata: ")
        await http.post("/fault", json={"kind": "status"})
        refused = await http.post(path, json=body)
        assert refused.status_code == 500
        assert (refused.json().get("type") == "error") == (path == "/v1/messages")
