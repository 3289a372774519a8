"""Going on with a text: what the next worker is asked, and its answer as one with the first."""

import json

import msgspec
import pytest
from gateway_world import event
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.answer import Usage
from gateway.api.operations import OPERATIONS
from gateway.api.request import parse_request
from gateway.proxy.errors import BrokenAnswerError
from gateway.proxy.journal import Journal
from gateway.proxy.resume import Resumption, Said
from pipelines.engines.resume import (
    TOKENIZED,
    can_resume,
    continued,
    is_behind,
    read_tokens,
    shortened,
    text_tokens_body,
    tokenize_body,
)

MESSAGES = [{"role": "user", "content": "hi"}]


def chat(**fields):
    return request("/v1/chat/completions", messages=MESSAGES, **fields)


def plain(**fields):
    return request("/v1/completions", **{"prompt": "hi", **fields})


def request(path, **fields):
    data = json.dumps({"model": "m", "stream": True, **fields}).encode()
    return parse_request(OPERATIONS[path], data).body


def plainly(body):
    return None if body is None else json.loads(msgspec.json.encode(body))


# What can be gone on with.


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"temperature": 0.5, "seed": 1, "stop": ["x"], "top_k": 3, "logit_bias": {"1": 2}},
        {"n": 1, "best_of": None, "logprobs": False, "tools": [], "tool_choice": None},
        {"response_format": {"type": "text"}},
        {"response_format": None},
        {"max_tokens": 5, "min_tokens": 2, "ignore_eos": True},
    ],
)
def test_plain_text_can_be_gone_on_with(fields):
    assert can_resume(chat(**fields))


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 2},
        {"logprobs": True},
        {"top_logprobs": 2},
        {"tools": [{"type": "function"}]},
        {"tool_choice": "auto"},
        {"response_format": {"type": "json_object"}},
        {"response_format": {"type": "text", "schema": {}}},
        {"guided_json": {}, "guided_regex": "a"},
        {"echo": True},
        {"a_field_of_the_future": 1},
    ],
)
def test_anything_else_cannot(fields):
    assert not can_resume(chat(**fields))


# What is asked.


def test_a_chat_goes_on_behind_a_partial_message():
    body = plainly(continued(chat(top_p=1), "Well"))
    assert body["messages"] == [*MESSAGES, {"role": "assistant", "content": "Well"}]
    assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)
    assert body["top_p"] == 1


def test_a_clients_own_partial_message_grows():
    own = [*MESSAGES, {"role": "assistant", "content": "We", "name": "x"}]
    body = request(
        "/v1/chat/completions",
        messages=own,
        continue_final_message=True,
        add_generation_prompt=False,
    )
    assert plainly(continued(body, "ll"))["messages"] == [*MESSAGES, own[1] | {"content": "Well"}]


@pytest.mark.parametrize(
    "fields",
    [
        {"continue_final_message": True, "messages": [{"role": "assistant", "content": [{}]}]},
        {"add_generation_prompt": False},
        {"messages": 1},
    ],
)
def test_some_chats_have_no_way_on(fields):
    body = request("/v1/chat/completions", **{"messages": MESSAGES, **fields})
    assert continued(body, "x") is None


@given(st.text(), st.text(min_size=1))
def test_a_completion_goes_on_behind_prompt_and_text(prompt, text):
    assert plainly(continued(plain(prompt=prompt), text))["prompt"] == prompt + text


def test_a_prompt_of_token_ids_goes_on_with_the_texts():
    assert plainly(continued(plain(prompt=[1, 2]), "x", (3, 4)))["prompt"] == [1, 2, 3, 4]
    assert continued(plain(prompt=[1, 2]), "x") is None


@pytest.mark.parametrize("prompt", [["a", "b"], ["a"], [[1], [2]], None])
def test_several_prompts_have_no_way_on(prompt):
    assert continued(plain(prompt=prompt), "x") is None


def test_before_any_text_the_request_is_the_clients_own():
    body = plain(prompt=["a", "b"])
    assert continued(body, "") is body


@pytest.mark.parametrize(
    ("fields", "said", "limits"),
    [
        ({}, 9, {}),
        ({"max_tokens": 10}, 4, {"max_tokens": 6}),
        ({"max_tokens": 10}, 10, None),
        ({"max_tokens": None}, 10, {"max_tokens": None}),
        ({"max_completion_tokens": 10}, 11, None),
        # The newer of the two counts.
        (
            {"max_tokens": 3, "max_completion_tokens": 10},
            4,
            {"max_tokens": 1, "max_completion_tokens": 6},
        ),
        ({"max_tokens": 30, "max_completion_tokens": 4}, 4, None),
        ({"min_tokens": 5}, 3, {"min_tokens": 2}),
        ({"min_tokens": 5}, 9, {"min_tokens": 0}),
    ],
)
def test_the_limits_of_a_chat_are_those_of_the_whole_answer(fields, said, limits):
    names = ("max_tokens", "max_completion_tokens", "min_tokens")
    body = plainly(shortened(chat(**fields), said))
    assert (body and {n: body[n] for n in names if n in body}) == limits


@pytest.mark.parametrize("fields", [{}, {"max_tokens": None}, {"max_completion_tokens": 99}])
def test_a_completion_has_a_limit_even_if_none_is_given(fields):
    assert plainly(shortened(plain(**fields), 6))["max_tokens"] == 10
    assert shortened(plain(**fields), 16) is None


# What the engine is asked for, and what it says.


def test_the_prompt_is_counted_as_the_engine_will_render_it():
    body = plainly(
        tokenize_body(continued(chat(chat_template_kwargs={"a": 1}, seed=1), "x"), TOKENIZED)
    )
    assert set(body) == {
        "model",
        "messages",
        "add_generation_prompt",
        "continue_final_message",
        "chat_template_kwargs",
    }
    assert plainly(text_tokens_body(chat(), "x")) == {
        "model": "m",
        "prompt": "x",
        "add_special_tokens": False,
    }


@pytest.mark.parametrize("answer", [b"", b"{}", b'{"tokens":["a"]}', b"[" * 9999, b'"\xff"'])
def test_an_answer_that_names_no_tokens_is_none(answer):
    assert read_tokens(answer) is None


def test_tokens_are_read():
    assert read_tokens(b'{"count":2,"tokens":[1,2],"max_model_len":9}') == (1, 2)


@pytest.mark.parametrize(
    ("longer", "behind"),
    [
        ((1, 2, 3, 10, 11), True),
        ((1, 2, 9, 11), True),  # where they meet, two became one
        ((1, 2, 3, 10, 12), True),
        ((1, 2, 3, 7, 7, 10, 11), False),  # something came between
        ((1, 9, 3, 10, 11), False),  # another prompt
        ((1, 2, 3), False),  # nothing of the text
    ],
)
def test_a_text_is_behind_its_prompt_or_it_is_not(longer, behind):
    assert is_behind(longer, (1, 2, 3), 2) == behind


# The answer.


def events_of(data):
    return [json.loads(e[6:]) for e in data.split(b"\n\n") if e and e != b"data: [DONE]"]


def chunk(delta=None, finish=None, **more):
    choice = {"index": 0, "delta": delta or {}, "logprobs": None, "finish_reason": finish}
    return event({"id": "second", "created": 9, "model": "m", "choices": [choice], **more})


def resumption(said=None, **head):
    journal = Journal()
    choices = [{"index": 0, "delta": {"role": "assistant"}}]
    head = {"id": "first", "created": 1, "object": "chat.completion.chunk", "model": "m", **head}
    journal.add(event({**head, "choices": choices}))
    journal.fold()
    return Resumption(journal, said or Said(10, 4))


def test_chunks_are_dressed_as_the_first_workers():
    (one,) = events_of(resumption().rewrite(chunk({"content": "a"}, stop_reason=None)))
    assert (one["id"], one["created"], one["stop_reason"]) == ("first", 1, None)
    assert one["choices"][0]["delta"] == {"content": "a"}


def test_where_the_first_named_no_id_there_is_none():
    (one,) = events_of(resumption(id="").rewrite(chunk({"content": "a"})))
    assert "id" not in one


def test_the_role_is_not_named_again():
    again = resumption()
    assert again.rewrite(chunk({"role": "assistant", "content": ""})) == b""
    (one,) = events_of(again.rewrite(chunk({"role": "assistant", "content": "a"})))
    assert one["choices"][0]["delta"] == {"content": "a"}
    (end,) = events_of(again.rewrite(chunk({"role": "assistant"}, finish="stop")))
    assert end["choices"][0]["finish_reason"] == "stop"


def test_usage_is_of_the_whole():
    usage = {"prompt_tokens": 14, "completion_tokens": 3, "prompt_tokens_details": {"cached": 9}}
    data = resumption().rewrite(event({"id": "second", "choices": [], "usage": usage}))
    (one,) = events_of(data)
    assert one["usage"] == {"prompt_tokens": 10, "completion_tokens": 7, "total_tokens": 17}
    assert resumption().total(Usage(14, 3)) == Usage(10, 7)


def test_where_nothing_was_said_the_next_worker_counts():
    assert resumption(Said()).total(Usage(14, 3)) == Usage(14, 3)


def test_nonsense_for_usage_counts_nothing():
    (one,) = events_of(
        resumption().rewrite(event({"choices": [], "usage": {"prompt_tokens": "x"}}))
    )
    assert one["usage"]["completion_tokens"] == 4


def test_line_ends_comments_and_the_mark_of_the_end_are_understood():
    data = b": hello\r\n\r\n" + chunk({"content": "é\n"}).replace(b"\n\n", b"\r\n\r\n")
    out = resumption().rewrite(data + data + b"data: [DONE]\r\n\r\n")
    assert [e["choices"][0]["delta"]["content"] for e in events_of(out)] == ["é\n", "é\n"]
    assert out.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize(
    "data",
    [
        b"data: nonsense\n\n",
        b"data: []\n\n",
        event({"choices": [1]}),
        event({"choices": [{"index": 0, "delta": {"content": 1}}]}),
        chunk({"reasoning": "hm"}),
        chunk({"tool_calls": [{}]}),
    ],
)
def test_what_does_not_go_on_with_the_text_is_the_workers_fault(data):
    with pytest.raises(BrokenAnswerError):
        resumption().rewrite(data)


@pytest.mark.parametrize(
    ("trimmed", "said", "heard"),
    [
        ("\n\n", ["\n\n", "And"], "And"),
        ("\n\n", ["\n", "\n", "And"], "And"),
        ("\n\n", ["\n\nAnd", "\n\n"], "And\n\n"),
        ("\n\n", ["\n", "And", "\n"], "And\n"),
        ("\n", ["\n\n", "And"], "\nAnd"),
        (" ", ["And", " so"], "And so"),
        ("", [" ", "And"], " And"),
    ],
)
def test_white_space_that_is_said_again_is_not_passed_on(trimmed, said, heard):
    again = resumption(Said(10, 4, trimmed))
    out = b"".join(again.rewrite(chunk({"content": text})) for text in said)
    assert "".join(e["choices"][0]["delta"]["content"] for e in events_of(out)) == heard


def test_an_end_that_is_missing_is_made_up():
    out = resumption().ending(finish_reason="length", usage_wanted=True)
    end, usage = events_of(out)
    assert out.endswith(b"data: [DONE]\n\n")
    assert end["choices"] == [
        {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "length"}
    ]
    assert usage["usage"] == {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14}
    assert {e["id"] for e in (end, usage)} == {"first"}
    assert resumption().ending(finish_reason=None, usage_wanted=False) == b"data: [DONE]\n\n"
