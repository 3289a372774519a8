"""A cut answer can be carried on by another emulator, and its prompt can be counted beforehand."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
import pytest
from emulator_process import TOKEN, emulator_process

Body = dict[str, Any]
CHAT: Body = {"messages": [{"role": "user", "content": "Tell me of the sea."}]}
PLAIN: Body = {"prompt": "Once upon a time,"}


class Said(NamedTuple):
    pieces: list[str]  # the text of each token
    finish: str
    usage: dict[str, int]


@pytest.fixture(scope="module")
def http() -> Iterator[httpx.Client]:
    with (
        emulator_process(seed=3) as (url, process),
        httpx.Client(trust_env=False, base_url=url, timeout=10) as client,
    ):
        client.headers["authorization"] = f"Bearer {TOKEN}"
        assert process.poll() is None
        yield client


def path_of(body: Body) -> str:
    return "/v1/chat/completions" if "messages" in body else "/v1/completions"


def say(http: httpx.Client, body: Body) -> Said:
    asked = {**body, "stream": True, "stream_options": {"include_usage": True}}
    text = http.post(path_of(body), json=asked).text
    *chunks, done = (line.removeprefix("data: ") for line in text.split("\n\n") if line)
    assert done == "[DONE]", text
    *events, last = map(json.loads, chunks)
    choices = [event["choices"][0] for event in events]
    if "messages" in body:
        assert choices.pop(0)["delta"]["role"] == "assistant"
        pieces = [choice["delta"]["content"] for choice in choices]
    else:
        pieces = [choice["text"] for choice in choices]
    return Said(pieces, choices[-1]["finish_reason"], last["usage"])


def ids_of(http: httpx.Client, body: Body) -> list[int]:
    return http.post("/tokenize", json=body).json()["tokens"]


def carried_on(body: Body, text: str, tokens: int) -> Body:
    """The request for the rest of an answer of which *text*, *tokens* long, is there already."""
    rest = dict(body)
    if "max_tokens" in body:
        rest["max_tokens"] = body["max_tokens"] - tokens
    if "prompt" in body:
        return {**rest, "prompt": body["prompt"] + text}
    begun = {"role": "assistant", "content": text}
    rest |= {"continue_final_message": True, "add_generation_prompt": False}
    return {**rest, "messages": [*body["messages"], begun]}


def test_a_prompt_of_token_ids_is_carried_on_by_token_ids(http):
    body = {"prompt": [5, 70_000, 17], "max_tokens": 20}
    whole = say(http, body)
    begun = ids_of(http, {"prompt": "".join(whole.pieces[:7])})
    assert len(begun) == 7
    rest = say(http, {"prompt": [*body["prompt"], *begun], "max_tokens": 13})
    assert whole.pieces == whole.pieces[:7] + rest.pieces


@pytest.mark.parametrize("number", range(6))
@pytest.mark.parametrize(
    "body",
    [
        {**CHAT, "max_tokens": 30},
        CHAT,  # it ends by itself
        {**CHAT, "stop": ["the"]},
        {**PLAIN, "max_tokens": 30},
    ],
    ids=["chat-limit", "chat-end", "chat-stop", "plain-limit"],
)
def test_what_was_cut_and_what_follows_are_the_uncut_answer(http, body, number):
    body = json.loads(json.dumps(body).replace("sea", f"sea {number}").replace("time", f"{number}"))
    whole = say(http, body)
    for cut in range(1, len(whole.pieces) - 1, max(1, len(whole.pieces) // 9)):
        begun = "".join(whole.pieces[:cut])
        rest = say(http, carried_on(body, begun, cut))
        assert begun + "".join(rest.pieces) == "".join(whole.pieces)
        assert rest.finish == whole.finish
        assert cut + rest.usage["completion_tokens"] == whole.usage["completion_tokens"]
        assert cut + whole.usage["prompt_tokens"] == rest.usage["prompt_tokens"]


def test_to_continue_and_to_begin_a_message_exclude_each_other(http):
    answer = http.post(path_of(CHAT), json={**CHAT, "continue_final_message": True})
    assert answer.status_code == 400
    assert "not compatible" in answer.text


@pytest.mark.parametrize(
    "body",
    [
        PLAIN,
        CHAT,
        {"prompt": "x"},
        {"prompt": "東京 🙂 naïve" * 9},
        carried_on(CHAT, "Well then", 2),
        {**CHAT, "add_generation_prompt": False},
    ],
)
def test_tokenize_counts_as_usage_does(http, body):
    told = http.post("/tokenize", json={"model": "smollm2", **body}).json()
    assert told["count"] == len(told["tokens"])
    assert (told["max_model_len"], told["token_strs"]) == (2048, None)
    assert told["count"] == say(http, {**body, "max_tokens": 1}).usage["prompt_tokens"]


def test_prompts_that_begin_alike_have_tokens_that_begin_alike(http):
    long, longer = (ids_of(http, {"prompt": "word " * count}) for count in (40, 80))
    assert longer[: len(long) - 1] == long[:-1]
    assert len(set(long)) > 1


@pytest.mark.parametrize(
    ("body", "status"), [({"model": "other", "prompt": "x"}, 404), ({}, 400), ({"prompt": 1}, 400)]
)
def test_tokenize_refuses_as_the_others_do(http, body, status):
    assert http.post("/tokenize", json=body).status_code == status
