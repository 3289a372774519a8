"""A stream whose worker dies goes on with another: the client sees what it would have seen."""

import asyncio
import json

import pytest
from gateway_world import (
    DISAGGREGATED,
    SECRET,
    FakeWorker,
    Gateway,
    a_declared,
    a_fleet,
    a_gateway,
    a_table,
    event,
    good,
)
from teller import CHAT, PLAIN, PROMPT, STORY, Teller, a_tellers_gateway, after, ids, listen

from gateway.proxy import journal
from gateway.proxy.errors import HungError

IDS = {"prompt": ids(PROMPT), "max_tokens": 99}
OWN = {
    "messages": [*CHAT["messages"], {"role": "assistant", "content": ""}],
    "continue_final_message": True,
    "add_generation_prompt": False,
}
BODIES = {
    "chat": CHAT,
    "chat-limit": {**CHAT, "max_completion_tokens": 6, "max_tokens": 3, "min_tokens": 2},
    "plain": PLAIN,
    "plain-default-limit": {"prompt": PROMPT},
    "ids": IDS,
    "own-continuation": OWN,
}
LONG = "word and " * 9  # more than the tokens that a completion has by default


async def uncut(body, **teller):
    async with a_tellers_gateway(Teller(**teller)) as gateway:
        return (await listen(gateway, body)).facts()


def stream_of(body, **teller):
    asked = {"model": "m", "stream_options": {"include_usage": True}, **body}
    return Teller(**teller).payload(asked)


def is_told(heard):  # by an error event at the end, and there is no other end
    return heard.error is not None and not heard.done and not heard.finish


def stuck_worker():
    """A worker that answers nothing; when it was asked, when it was left."""
    reached, aborted = asyncio.Event(), asyncio.Event()

    async def behaviour(call):
        reached.set()
        await call.until_closed()
        aborted.set()

    return behaviour, reached, aborted


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
async def test_wherever_a_stream_is_cut_the_client_sees_the_uncut_one(body):
    told = {"story": LONG} if body == {"prompt": PROMPT} else {}
    expected = await uncut(body, **told)
    data = stream_of(body, **told)
    ends = [at + 2 for at in range(len(data)) if data.startswith(b"\n\n", at)]
    teller = Teller(**told)
    async with a_tellers_gateway(teller, teller) as gateway:
        for cut in sorted({*ends[:-1], *range(0, len(data), 61)}):
            teller.cuts = [cut]
            heard = await listen(gateway, body)
            assert heard.facts() == expected, cut
            assert not teller.cuts
        records = await gateway.usage()
        (usage,) = expected[2]
        assert {(r.status, r.prompt_tokens, r.completion_tokens) for r in records} == {
            ("ok", usage["prompt_tokens"], usage["completion_tokens"])
        }


async def test_nobody_who_did_not_ask_is_told_the_usage():
    teller = Teller(cuts=[700])
    async with a_tellers_gateway(teller, teller) as gateway:
        heard = await listen(gateway, CHAT, stream_options=None)
        assert (heard.text, heard.usage, heard.done) == (STORY, [], 1)


@pytest.mark.parametrize("body", [CHAT, PLAIN], ids=["chat", "plain"])
async def test_one_stream_can_be_taken_over_more_than_once(body):
    teller = Teller(cuts=[600, 600])
    async with a_tellers_gateway(teller, teller, teller) as gateway:
        heard = await listen(gateway, body)
        assert heard.facts() == await uncut(body)
        texts = [json.dumps(asked) for asked in teller.asked]
        assert len(set(texts)) == 3  # each was asked for less


async def test_events_that_end_in_crlf_are_taken_over_too():
    teller = Teller(cuts=[700], crlf=True)
    async with a_tellers_gateway(teller, teller) as gateway:
        assert (await listen(gateway, CHAT)).facts() == await uncut(CHAT)


async def refuse(call):
    await call.answer(404, {"detail": "Not Found"})


async def babble(call):
    await call.answer(body={"tokens": ["a", None]})


async def say_nothing(call):
    await call.until_closed()


@pytest.mark.parametrize("tokenize", [refuse, babble, say_nothing])
@pytest.mark.parametrize("body", [CHAT, PLAIN], ids=["chat", "plain"])
async def test_where_the_engine_does_not_count_each_chunk_is_a_token(body, tokenize):
    teller = Teller(cuts=[700], tokenize=tokenize)
    limits = {"between_tokens_s": 0.4, "queued_s": 0.05}
    async with a_tellers_gateway(teller, teller, limits=limits) as gateway:
        heard = await listen(gateway, body)
        whole = await uncut(body)
        assert (heard.text, heard.finish, heard.done) == (whole[0], whole[1], 1)
        (usage,), (expected,) = heard.usage, whole[2]
        assert usage["completion_tokens"] == expected["completion_tokens"]


async def test_token_ids_are_not_gone_on_with_where_the_engine_does_not_give_the_texts():
    teller = Teller(cuts=[700], tokenize=refuse)
    async with a_tellers_gateway(teller, teller) as gateway:
        assert is_told(await listen(gateway, IDS))


async def test_a_template_that_strips_messages_costs_no_white_space_and_doubles_none():
    expected = await uncut(CHAT, strips=True)
    assert expected[0] == STORY
    data = stream_of(CHAT)
    ends = [at + 2 for at in range(len(data)) if data.startswith(b"\n\n", at)]
    teller = Teller(strips=True)
    async with a_tellers_gateway(teller, teller) as gateway:
        for cut in ends[:-3]:
            teller.cuts = [cut]
            assert (await listen(gateway, CHAT)).facts() == expected, cut


async def test_a_template_that_puts_thoughts_before_the_text_ends_the_stream_with_an_error():
    teller = Teller(cuts=[700], thinks=True)
    async with a_tellers_gateway(teller, teller) as gateway:
        heard = await listen(gateway, CHAT)
        assert is_told(heard)
        assert STORY.startswith(heard.text)
        assert len(teller.asked) == 1


@pytest.mark.parametrize(
    "field",
    [
        {"tools": [{"type": "function"}]},
        {"logprobs": True},
        {"n": 2},
        {"response_format": {"type": "json_object"}},
        {"guided_regex": "a+"},
        {"add_generation_prompt": False},
    ],
)
async def test_an_answer_that_is_more_than_text_ends_with_an_error(field):
    teller = Teller(cuts=[700])
    async with a_tellers_gateway(teller, teller) as gateway:
        heard = await listen(gateway, CHAT, **field)
        assert is_told(heard)
        assert heard.text
        assert len(teller.asked) == 1


async def test_an_engine_that_cannot_go_on_with_a_text_is_not_asked_to():
    teller = Teller(cuts=[700])
    external = {"type": "external", "workers": [{"url": "http://a"}, {"url": "http://b"}]}
    async with a_tellers_gateway(teller, teller, engine="openai", topology=external) as gateway:
        assert is_told(await listen(gateway, CHAT))
        assert len(teller.asked) == 1


async def test_reasoning_cannot_be_handed_on():
    async def think(call):
        await call.begin_stream()
        delta = {"reasoning": "hm"}
        await call.chunk(
            b"data: %b\n\n" % json.dumps({"choices": [{"index": 0, "delta": delta}]}).encode()
        )
        raise ConnectionResetError

    async with a_tellers_gateway(think, think) as gateway:
        assert is_told(await listen(gateway, CHAT))
        assert sum(len(worker.calls) for worker in gateway.workers) == 1


async def test_a_worker_that_goes_on_with_thoughts_is_not_believed():
    teller, calls = Teller(), []

    async def think(call):
        calls.append(call.path)
        if call.path == "/tokenize":
            await teller(call)
            return
        data = teller.payload(call.json)
        await call.begin_stream()
        if len(calls) == 1:
            await call.chunk(data[:700])
        else:
            await call.chunk(data.replace(b'"content"', b'"reasoning_content"'))
        raise ConnectionResetError

    async with a_tellers_gateway(think, think, think) as gateway:
        heard = await listen(gateway, CHAT)
        assert is_told(heard)
        assert STORY.startswith(heard.text)


async def test_a_worker_that_refuses_the_longer_prompt_ends_the_stream_with_its_words():
    teller = Teller(cuts=[700])

    async def too_long(call):
        if call.path == "/tokenize" or not teller.asked:
            await teller(call)
        else:
            await call.answer(400, {"error": {"message": "too long", "type": "BadRequestError"}})

    async with a_tellers_gateway(too_long, too_long) as gateway:
        heard = await listen(gateway, CHAT)
        assert is_told(heard)
        assert heard.error["message"] == "too long"


async def test_when_all_tries_break_off_the_usage_is_what_was_heard():
    teller = Teller(cuts=[600, 600, 600])
    async with a_tellers_gateway(*[teller] * 4) as gateway:
        heard = await listen(gateway, PLAIN)
        assert is_told(heard)
        assert STORY.startswith(heard.text)
        (record,) = await gateway.usage()
        assert record.status == "error"
        assert 0 <= len(ids(heard.text)) - record.completion_tokens <= 1
        assert record.prompt_tokens == len(ids(PROMPT))


async def test_takeovers_beyond_the_budget_wait_for_their_turn():
    """A fifth of what is under way, and at least three: until the next worker answers."""
    requests, here = 8, asyncio.Event()
    waiting, going_on, most = [], 0, 0

    async def dies_with_the_others(call):
        nonlocal going_on, most
        if call.path == "/tokenize":
            await teller(call)
        elif here.is_set():
            going_on += 1
            most = max(most, going_on)
            await asyncio.sleep(0.03)
            going_on -= 1
            await teller(call)
        else:
            await call.begin_stream()
            await call.chunk(teller.payload(call.json)[:700])
            waiting.append(call)
            if len(waiting) == requests:
                here.set()
            await here.wait()
            raise ConnectionResetError

    teller = Teller()
    async with a_tellers_gateway(dies_with_the_others, dies_with_the_others) as gateway:
        heard = await asyncio.gather(*(listen(gateway, CHAT) for _ in range(requests)))
        assert {one.text for one in heard} == {STORY}
        assert most == 3


async def post_raw(gateway, body, path="/v1/chat/completions"):
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port, limit=1024)
    data = json.dumps({"model": "m", "stream": True, **body}).encode()
    writer.write(
        f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {SECRET}\r\n"
        f"content-length: {len(data)}\r\n\r\n".encode()
        + data
    )
    return reader, writer


@pytest.mark.parametrize("where", ["tokenize", "leg"])
async def test_a_client_that_leaves_during_a_takeover_leaves_nothing_behind(where):
    teller = Teller(cuts=[700])
    waits, reached, aborted = stuck_worker()

    async def stuck(call):
        if where == "leg" and teller.asked and call.path != "/tokenize":
            await waits(call)
        else:
            await teller(call)

    if where == "tokenize":
        teller.tokenize = waits
    async with a_tellers_gateway(stuck, stuck) as gateway:
        _, writer = await post_raw(gateway, CHAT)
        await asyncio.wait_for(reached.wait(), 2)
        writer.close()
        await asyncio.wait_for(aborted.wait(), 1)
        await gateway.assert_quiet()
        (record,) = await gateway.usage()
        assert record.status == "cancelled"


async def test_a_client_that_stalled_before_the_takeover_is_not_written_to_without_end():
    sent = []  # bytes, by each call

    async def pour(call):
        if call.path == "/tokenize":
            await refuse(call)
            return
        sent.append(0)
        number = len(sent) - 1
        await call.begin_stream()
        while True:
            await call.chunk(much)
            sent[number] += len(much)

    much = event({"choices": [{"index": 0, "text": "x"}], "more": "x" * 65536})
    limits = {"between_tokens_s": 0.4}
    async with a_gateway(pour, workers=2, model=a_declared(limits=limits)) as gateway:
        reader, writer = await post_raw(gateway, PLAIN, "/v1/completions")
        await reader.readline()
        before = -1
        while before != sent[0]:
            before = sent[0]
            await asyncio.sleep(0.05)
        for worker in ("m-unified-0", "m-unified-1"):
            gateway.plane.upstream.fail(worker, HungError())
        await gateway.assert_quiet()
        (record,) = await gateway.usage()
        assert record.status == "cancelled"
        assert sent[1] < 10_000_000
        writer.transport.abort()


async def test_a_long_stream_is_taken_over():
    story = "word and 🙂 " * 300
    size = len(stream_of(CHAT, story=story))
    assert size > 100_000
    teller = Teller(story=story, cuts=[size - 2000])
    async with a_tellers_gateway(teller, teller) as gateway:
        assert (await listen(gateway, CHAT)).facts() == await uncut(CHAT, story=story)


async def test_a_stream_too_long_to_keep_flows_on_but_is_not_taken_over(monkeypatch):
    monkeypatch.setattr(journal, "TEXT_CHARS_MAX", 100)
    story = "word and 🙂 " * 300
    teller = Teller(story=story, cuts=[None, 90_000])
    async with a_tellers_gateway(teller, teller) as gateway:
        assert (await listen(gateway, CHAT)).text == story
        heard = await listen(gateway, CHAT)
        assert is_told(heard)
        assert len(heard.text) > 1000


@pytest.mark.parametrize("body", [CHAT, PLAIN], ids=["chat", "plain"])
async def test_a_pair_is_followed_by_a_new_pair_that_prefills_the_longer_prompt(body):
    teller = Teller()

    async def decode(call):
        if call.path != "/tokenize":
            transfers.append(call.json["kv_transfer_params"]["remote_request_id"])
        await teller(call)

    transfers = []
    async with (
        FakeWorker(good) as prefill,
        FakeWorker(decode) as one,
        FakeWorker(decode) as other,
        Gateway() as gateway,
    ):
        model = a_declared(variants=[{"engine": "vllm", "topology": DISAGGREGATED}])
        fleet = a_fleet(model, prefill=[prefill.url], decode=[one.url, other.url])
        gateway.plane.table = a_table(models=[model], workers=fleet)
        expected = await uncut(body)
        data = stream_of(body)
        first = after(data, b'"role"') if body is CHAT else 0
        for tried, cut in enumerate((0, first, after(data, b"on"), len(data) - 20), 1):
            prefill.calls.clear()
            teller.cuts = [cut]
            assert (await listen(gateway, body)).facts() == expected, cut
            if tried < 4:
                begun, longer = prefill.calls
                assert (len(longer.body) > len(begun.body)) == (cut > first)
                assert longer.json["max_tokens"] == 1
