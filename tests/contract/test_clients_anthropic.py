"""Anthropic's own Python client, as it is, against a gateway."""

import asyncio
import contextlib

import anthropic
import pytest
from dialects import WORDS, breaks_off, message, speaks
from gateway_world import SECRET, a_declared, a_gateway, a_table

TEXT = "".join(WORDS)
CHAT = [{"role": "user", "content": "hi"}]


@contextlib.asynccontextmanager
async def a_client(behaviour=speaks, *, secret=SECRET, model=None):
    async with (
        a_gateway(behaviour, model=model) as gateway,
        anthropic.AsyncAnthropic(base_url=gateway.url, api_key=secret, max_retries=0) as client,
    ):
        client.gateway = gateway
        yield client


def create(client, **more):
    return client.messages.create(**{"model": "m", "max_tokens": 9, "messages": CHAT, **more})


async def test_a_message():
    async with a_client() as client:
        answer = await create(
            client, system="be brief", stop_sequences=["x"], metadata={"user_id": "u"}
        )
        assert answer.content[0].text == TEXT
        assert (answer.usage.input_tokens, answer.usage.output_tokens) == (7, 3)
        assert answer.stop_reason == "end_turn"
        assert answer._request_id
        (call,) = client.gateway.workers[0].calls
        assert call.json["stop_sequences"] == ["x"]
        assert SECRET not in str(call.headers)


async def test_a_message_with_tools():
    used = {"type": "tool_use", "id": "t", "name": "weather", "input": {"city": "Paris"}}

    async def uses(call):
        await call.answer(body=message(content=[used], stop_reason="tool_use"))

    tools = [{"name": "weather", "description": "d", "input_schema": {"type": "object"}}]
    async with a_client(uses) as client:
        answer = await create(client, tools=tools, tool_choice={"type": "any"})
        assert (answer.stop_reason, answer.content[0].input) == ("tool_use", {"city": "Paris"})
        result = {"type": "tool_result", "tool_use_id": "t", "content": "sunny"}
        turns = [
            *CHAT,
            {"role": "assistant", "content": [used]},
            {"role": "user", "content": [result]},
        ]
        await create(client, tools=tools, messages=turns)
        assert client.gateway.workers[0].calls[-1].json["messages"] == turns
        assert client.gateway.workers[0].calls[-1].json["tools"] == tools


async def test_a_streamed_message():
    async with a_client() as client:
        events = [event async for event in await create(client, stream=True)]
        options = {"model": "m", "max_tokens": 9, "messages": CHAT}
        async with client.messages.stream(**options) as stream:
            text = "".join([part async for part in stream.text_stream])
            final = await stream.get_final_message()
    assert [events[0].type, events[-1].type] == ["message_start", "message_stop"]
    assert text == final.content[0].text == TEXT
    assert (final.usage.input_tokens, final.usage.output_tokens) == (7, 3)


@pytest.mark.parametrize("how", ["cut", "end", "error"])
async def test_a_message_that_breaks_off_raises(how):
    async with a_client(breaks_off(after=4, how=how)) as client:
        said = []
        stream = await create(client, stream=True)
        with pytest.raises(anthropic.APIStatusError) as broken:
            await listen(stream, said)
    assert [event.type for event in said] == [
        "message_start",
        "content_block_start",
        *2 * ["content_block_delta"],
    ]
    assert broken.value.body["error"]["type"] == "api_error"
    assert "secret" not in str(broken.value)


async def listen(stream, heard):
    async for event in stream:
        heard.append(event)


async def test_a_messages_tokens_are_counted():
    async with a_client() as client:
        count = await client.messages.count_tokens(model="m", messages=CHAT, system="s")
        assert count.input_tokens == 7


async def test_the_model_list():
    async with a_client() as client:
        models = [model async for model in client.models.list()]
        assert [(model.id, model.type, model.created_at.year) for model in models] == [
            ("m", "model", 1970)
        ]
        assert (await client.models.retrieve("m")).display_name == "m"


async def test_errors_are_the_clients_own_classes():
    async def refuse(call):
        status = int(call.json["system"])
        await call.answer(status, {"type": "error", "error": {"type": "x", "message": "no"}})

    async with a_client(refuse) as client:
        for status, kind, name in (
            ("400", anthropic.BadRequestError, "invalid_request_error"),
            ("429", anthropic.RateLimitError, "rate_limit_error"),
            ("500", anthropic.InternalServerError, "api_error"),
        ):
            with pytest.raises(kind) as caught:
                await create(client, system=status)
            assert caught.value.body["error"]["type"] == name
            assert caught.value.request_id == caught.value.body["request_id"]
        with pytest.raises(anthropic.NotFoundError):
            await create(client, model="nope")
        with pytest.raises(anthropic.BadRequestError, match="nothing here runs them"):
            await create(client, tools=[{"type": "web_search_20250305", "name": "web_search"}])
        client.gateway.plane.table = a_table(models=[a_declared()])
        with pytest.raises(anthropic.InternalServerError) as away:
            await create(client)
        assert away.value.body["error"]["type"] == "overloaded_error"
        assert away.value.response.headers["retry-after"]
    async with a_client(secret="mk-wrong") as client:
        with pytest.raises(anthropic.AuthenticationError):
            await create(client)
        with pytest.raises(anthropic.AuthenticationError):
            await client.models.list()


async def test_a_key_as_a_bearer_token_is_as_good():
    async with (
        a_gateway(speaks) as gateway,
        anthropic.AsyncAnthropic(base_url=gateway.url, auth_token=SECRET) as client,
    ):
        assert (await create(client)).content[0].text == TEXT


async def test_the_client_that_waits_in_a_thread():
    async with a_gateway(speaks) as gateway:

        def talk():
            with anthropic.Anthropic(base_url=gateway.url, api_key=SECRET) as client:
                answer = create(client)
                options = {"model": "m", "max_tokens": 9, "messages": CHAT}
                with client.messages.stream(**options) as stream:
                    return answer.content[0].text, "".join(stream.text_stream)

        assert await asyncio.to_thread(talk) == (TEXT, TEXT)
