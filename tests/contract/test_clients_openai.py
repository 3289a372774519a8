"""OpenAI's own Python client, as it is, against a gateway."""

import asyncio
import contextlib
import json

import httpx
import openai
import pytest
from dialects import WORDS, breaks_off, speaks
from gateway_world import SECRET, a_declared, a_gateway

TEXT = "".join(WORDS)
CHAT = [{"role": "user", "content": "hi"}]
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
SCHEMA = {
    "type": "json_schema",
    "json_schema": {"name": "city", "schema": {"type": "object"}, "strict": True},
}


@contextlib.asynccontextmanager
async def a_client(behaviour=speaks, *, secret=SECRET, model=None, **options):
    async with (
        a_gateway(behaviour, model=model) as gateway,
        openai.AsyncOpenAI(
            base_url=gateway.url + "/v1", api_key=secret, max_retries=0, **options
        ) as client,
    ):
        client.gateway = gateway
        yield client


def sent(client):
    return client.gateway.workers[0].calls[-1].json


async def test_a_chat():
    async with a_client() as client:
        answer = await client.chat.completions.create(model="m", messages=CHAT)
        assert answer.choices[0].message.content == TEXT
        assert answer.usage.total_tokens == 10


async def test_a_chat_with_several_answers_and_logprobs():
    async with a_client() as client:
        answer = await client.chat.completions.create(
            model="m", messages=CHAT, n=3, logprobs=True, top_logprobs=2
        )
        assert [choice.index for choice in answer.choices] == [0, 1, 2]
        assert len(answer.choices[2].logprobs.content[0].top_logprobs) == 2
        assert sent(client)["top_logprobs"] == 2


async def test_a_chat_with_tools():
    async with a_client() as client:
        answer = await client.chat.completions.create(
            model="m", messages=CHAT, tools=[TOOL], tool_choice="auto", parallel_tool_calls=False
        )
        (call,) = answer.choices[0].message.tool_calls
        assert (call.function.name, json.loads(call.function.arguments)) == (
            "weather",
            {"city": "Paris"},
        )
        assert sent(client)["tools"] == [TOOL]
        assert sent(client)["parallel_tool_calls"] is False


async def test_structured_outputs_in_every_form_reach_the_engine_as_they_are():
    more = {"structured_outputs": {"choice": ["a"]}, "guided_json": {"type": "object"}}
    async with a_client() as client:
        answer = await client.chat.completions.create(
            model="m", messages=CHAT, response_format=SCHEMA, extra_body=more
        )
        assert json.loads(answer.choices[0].message.content) == {"city": "Paris"}
        assert sent(client)["response_format"] == SCHEMA
        assert {name: sent(client)[name] for name in more} == more


@pytest.mark.parametrize("usage", [True, False])
async def test_a_streamed_chat(usage):
    async with a_client() as client:
        options = {"stream_options": {"include_usage": True}} if usage else {}
        stream = await client.chat.completions.create(
            model="m", messages=CHAT, stream=True, **options
        )
        chunks = [chunk async for chunk in stream]
    text = [c.choices[0].delta.content for c in chunks if c.choices]
    assert "".join(part or "" for part in text) == TEXT
    assert [c.usage.completion_tokens for c in chunks if c.usage] == ([3] if usage else [])


async def test_a_chat_streamed_by_the_helper():
    async with (
        a_client() as client,
        client.chat.completions.stream(model="m", messages=CHAT) as stream,
    ):
        answer = await stream.get_final_completion()
    assert answer.choices[0].message.content == TEXT


async def test_a_completion_and_its_stream():
    async with a_client() as client:
        answer = await client.completions.create(model="m", prompt="hi")
        assert answer.choices[0].text == TEXT
        stream = await client.completions.create(model="m", prompt="hi", stream=True)
        assert "".join([chunk.choices[0].text async for chunk in stream]) == TEXT


async def test_a_response():
    async with a_client() as client:
        answer = await client.responses.create(
            model="m",
            input="hi",
            instructions="be brief",
            tools=[{"type": "function", "name": "f", "parameters": {}, "strict": False}],
            reasoning={"effort": "low"},
        )
        assert answer.output_text == TEXT
        assert (answer.status, answer.usage.output_tokens) == ("completed", 3)
        assert sent(client)["reasoning"] == {"effort": "low"}
        assert sent(client)["store"] is False


async def test_a_streamed_response():
    async with a_client() as client:
        stream = await client.responses.create(model="m", input="hi", stream=True)
        events = [event async for event in stream]
        async with client.responses.stream(model="m", input="hi") as helper:
            answer = await helper.get_final_response()
    said = "".join(e.delta for e in events if e.type == "response.output_text.delta")
    assert (said, answer.output_text) == (TEXT, TEXT)
    assert [e.sequence_number for e in events] == list(range(len(events)))
    assert events[-1].type == "response.completed"
    assert events[-1].response.usage.input_tokens == 7


async def test_a_response_that_breaks_off_ends_with_an_error_event_and_not_as_completed():
    async with a_client(breaks_off(after=6)) as client:
        stream = await client.responses.create(model="m", input="hi", stream=True)
        events = []
        with contextlib.suppress(openai.APIError):
            async for event in stream:
                events.append(event)  # noqa: PERF401 - what came before an error counts
    assert events[-1].type == "error"
    assert "broke off" in events[-1].message
    assert all(event.type != "response.completed" for event in events)


async def test_a_chat_that_breaks_off_raises():
    async with a_client(breaks_off(after=3)) as client:
        stream = await client.chat.completions.create(
            model="m", messages=CHAT, stream=True, logprobs=True
        )
        with pytest.raises(openai.APIError, match="broke off"):
            async for _ in stream:
                pass


@pytest.mark.parametrize("encoding", [None, "float", "base64"])
async def test_embeddings(encoding):
    async with a_client(model=a_declared(task="embed")) as client:
        given = {"encoding_format": encoding} if encoding else {}
        answer = await client.embeddings.create(model="m", input=["a", "b"], **given)
        vectors = [item.embedding for item in answer.data]
        if encoding != "base64":  # without one the client asks for base64 and reads it
            assert vectors == [[0.25, -0.5, 1.0]] * 2
        assert sent(client)["encoding_format"] == (encoding or "base64")
        assert answer.usage.prompt_tokens == 7


async def test_the_model_list():
    async with a_client() as client:
        models = [model async for model in client.models.list()]
        assert [(model.id, model.created) for model in models] == [("m", 1000)]
        assert (await client.models.retrieve("m")).owned_by == "modelyard"
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("nope")


async def test_errors_are_the_clients_own_classes():
    async def refuse(call):
        status = {"bad": 400, "busy": 429}[call.json["user"]]
        await call.answer(status, {"error": {"message": "no", "type": "t", "code": "c"}})

    async with a_client(refuse) as client:

        def chat(**more):
            return client.chat.completions.create(**{"model": "m", "messages": CHAT, **more})

        with pytest.raises(openai.BadRequestError) as bad:
            await chat(user="bad")
        assert (bad.value.code, bad.value.body["message"]) == ("c", "no")
        with pytest.raises(openai.RateLimitError):
            await chat(user="busy")
        with pytest.raises(openai.NotFoundError) as unknown:
            await chat(model="nope")
        assert unknown.value.code == "model_not_found"
        with pytest.raises(openai.NotFoundError):
            await client.files.list()
        with pytest.raises(openai.BadRequestError) as stateful:
            await client.responses.create(model="m", input="x", previous_response_id="resp_1")
        assert stateful.value.param == "previous_response_id"
        with pytest.raises(openai.BadRequestError) as unsupported:
            await client.embeddings.create(model="m", input="x")
        assert unsupported.value.code == "unsupported_operation"
        assert unsupported.value.request_id
    async with a_client(secret="mk-wrong") as client:
        with pytest.raises(openai.AuthenticationError) as wrong:
            await client.models.list()
        assert wrong.value.code == "invalid_api_key"


async def test_the_client_that_waits_in_a_thread():
    async with a_gateway(speaks) as gateway:

        def talk():
            with openai.OpenAI(base_url=gateway.url + "/v1", api_key=SECRET) as client:
                answer = client.chat.completions.create(model="m", messages=CHAT)
                stream = client.responses.create(model="m", input="hi", stream=True)
                with client.responses.with_streaming_response.create(model="m", input="hi") as raw:
                    request_id = raw.headers["x-request-id"]
                return answer, [event.type for event in stream][-1], request_id

        answer, last, request_id = await asyncio.to_thread(talk)
    assert (answer.choices[0].message.content, last) == (TEXT, "response.completed")
    assert request_id


async def test_rerank_score_and_the_tokenizer_which_no_client_has_are_plain_http():
    async with a_gateway(speaks, model=a_declared(task="embed")) as gateway:
        headers = {"authorization": f"Bearer {SECRET}"}
        async with httpx.AsyncClient(base_url=gateway.url, headers=headers) as client:
            body = {"model": "m", "query": "a", "documents": ["b", "c"]}
            ranked = (await client.post("/v2/rerank", json=body)).json()
            tokens = (await client.post("/tokenize", json={"model": "m", "prompt": "hi"})).json()
    assert [item["index"] for item in ranked["results"]] == [0, 1]
    assert tokens["tokens"] == [1, 2]
