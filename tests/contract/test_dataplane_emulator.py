"""The gateway in front of the emulator, which speaks the engines' own P/D protocol."""

import contextlib

import msgspec
import pytest
from anthropic import AsyncAnthropic
from emulator_process import TOKEN, emulator_process
from gateway_world import AGGREGATED, DISAGGREGATED, SECRET, Gateway, a_declared, a_fleet, a_table
from openai import AsyncOpenAI

from registry.spec import Role

LONG = "Tell me of the sea. " * 10


@pytest.fixture(scope="module")
def urls():
    with contextlib.ExitStack() as stack:
        yield {
            role: stack.enter_context(emulator_process(role, **{"tpot-ms": 1}))[0] for role in Role
        }


@pytest.fixture
async def gateway(urls):
    async with Gateway() as gateway:
        # The name the emulator serves under; topology tells the two tables apart.
        models = {
            "whole": a_declared("smollm2", topology=AGGREGATED),
            "apart": a_declared("smollm2", topology=DISAGGREGATED),
        }
        fleets = {
            "whole": a_fleet(models["whole"], unified=[urls[Role.UNIFIED]]),
            "apart": a_fleet(
                models["apart"], prefill=[urls[Role.PREFILL]], decode=[urls[Role.DECODE]]
            ),
        }
        gateway.tables = {
            name: a_table(
                models=[model],
                workers=[msgspec.structs.replace(w, token=TOKEN) for w in fleets[name]],
            )
            for name, model in models.items()
        }
        yield gateway


async def ask(gateway, *, stream):
    gateway_url = gateway.url + "/v1"
    async with AsyncOpenAI(base_url=gateway_url, api_key=SECRET, max_retries=0) as client:
        answer = await client.chat.completions.create(
            model="smollm2",
            messages=[{"role": "user", "content": LONG}],
            max_tokens=12,
            temperature=0,
            stream=stream,
        )
        if not stream:
            assert answer.usage.completion_tokens == 12
            return answer.choices[0].message.content
        return "".join([chunk.choices[0].delta.content or "" async for chunk in answer])


async def test_both_topologies_and_both_forms_give_the_same_answer(gateway):
    answers = set()
    for table in gateway.tables.values():
        gateway.plane.table = table
        for stream in (False, True):
            answers.add(await ask(gateway, stream=stream))
    assert len(answers) == 1
    assert len(answers.pop()) > 10
    records = await gateway.usage()
    assert [record.mode for record in records] == ["aggregated"] * 2 + ["disaggregated"] * 2
    assert {record.completion_tokens for record in records} == {12}
    assert len({record.prompt_tokens for record in records}) == 1


async def answer_a_response(gateway, *, stream):
    async with AsyncOpenAI(base_url=gateway.url + "/v1", api_key=SECRET, max_retries=0) as client:
        given = {"model": "smollm2", "input": LONG, "max_output_tokens": 12, "temperature": 0}
        if not stream:
            return (await client.responses.create(**given)).output_text
        async with client.responses.stream(**given) as events:
            return (await events.get_final_response()).output_text


async def answer_a_message(gateway, *, stream):
    async with AsyncAnthropic(base_url=gateway.url, api_key=SECRET, max_retries=0) as client:
        given = {
            "model": "smollm2",
            "messages": [{"role": "user", "content": LONG}],
            "max_tokens": 12,
            "extra_body": {"temperature": 0},  # which the client's newest versions leave out
        }
        if not stream:
            return (await client.messages.create(**given)).content[0].text
        async with client.messages.stream(**given) as events:
            return "".join([text async for text in events.text_stream])


@pytest.mark.parametrize("answer", [answer_a_response, answer_a_message])
async def test_so_do_the_clients_of_other_dialects(gateway, answer):
    answers = set()
    for table in gateway.tables.values():
        gateway.plane.table = table
        for stream in (False, True):
            answers.add(await answer(gateway, stream=stream))
    assert len(answers) == 1
    assert len(answers.pop()) > 10
    records = await gateway.usage()
    assert [record.mode for record in records] == ["aggregated"] * 2 + ["disaggregated"] * 2
    assert {record.status for record in records} == {"ok"}
    assert {record.completion_tokens for record in records} == {12}
    assert len({record.prompt_tokens for record in records}) == 1
