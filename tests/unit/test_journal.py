"""What a stream has said, as the gateway keeps it."""

import json

import pytest
from gateway_world import event

from gateway.proxy import journal
from gateway.proxy.journal import Journal


def chat(content=None, *, finish=None, name="c-1", **delta):
    if content is not None:
        delta["content"] = content
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return event({"id": name, "object": "chat.completion.chunk", "created": 5, "choices": [choice]})


def plain(text, **choice):
    return event({"id": "c-1", "choices": [{"index": 0, "text": text, **choice}]})


def kept(*events):
    out = Journal()
    for each in events:
        out.add(each)
    return out


ROLE = chat("", role="assistant")


def test_text_is_put_together_again_and_each_chunk_of_it_is_a_token():
    said = kept(ROLE, chat("Héron"), chat(' "x"\n') + chat("🙂"))
    assert said.text() == 'Héron "x"\n🙂'
    assert (said.whole, said.tokens, said.finish_reason) == (True, 3, None)
    said.add(chat("!", finish="length"))
    assert said.text() == 'Héron "x"\n🙂!'
    assert (said.tokens, said.finish_reason) == (4, "length")


def test_completions_are_text_too():
    said = kept(plain("a"), plain("b"))
    assert (said.text(), said.tokens) == ("ab", 2)


def test_the_parts_of_a_character_are_tokens_once_it_is_whole():
    said = kept(ROLE, chat("a"), chat(""), chat(""))
    assert (said.text(), said.tokens) == ("a", 1)
    said.add(chat("🙂"))
    assert (said.text(), said.tokens) == ("a🙂", 4)


def test_an_end_without_text_is_a_token_where_the_engine_chose_it():
    assert kept_tokens(chat("", finish="stop")) == 2
    assert kept_tokens(chat("", finish="length")) == 1


def kept_tokens(end):
    said = kept(ROLE, chat("a"), end)
    said.fold()
    return said.tokens


def test_the_head_is_the_first_chunk_with_an_id():
    said = kept(chat("", name="", role="assistant"), chat("a", name="c-7"), chat("b", name="c-8"))
    said.fold()
    assert (said.head.id, said.head.created) == ("c-7", 5)


def test_the_usage_of_the_whole_is_noticed_and_that_of_a_chunk_is_not():
    said = kept(event({"choices": [{"index": 0, "text": "a"}], "usage": {"completion_tokens": 1}}))
    said.fold()
    assert not said.told_usage
    said.add(event({"choices": [], "usage": {"completion_tokens": 1}}))
    said.fold()
    assert said.told_usage


def test_escapes_line_ends_and_comments_are_understood():
    data = chat("🙂 A\r\n").replace(b"\n\n", b"\r\n\r\n")
    assert b"\\ud83d" in data
    said = kept(b": still here\n\n", data, b"event: message\n" + chat("b"))
    assert said.text() == "🙂 A\r\nb"
    assert said.whole


@pytest.mark.parametrize(
    "more",
    [
        chat(tool_calls=[{"index": 0}]),
        chat(function_call={"name": "f"}),
        chat(reasoning="hm"),
        chat(reasoning_content="hm"),
        chat(refusal="no"),
        chat(audio={"data": ""}),
        plain("a", logprobs={"tokens": ["a"]}),
        event({"choices": [{"index": 1, "text": "b"}]}),
        event({"choices": [{"index": 0, "text": ["b"]}]}),
        event(b'{"choices": [{"index": 0, "text": "\\ud83d"}]}'),
        event(b"nonsense"),
        event([]),
    ],
)
def test_whatever_is_more_than_text_cannot_be_handed_on(more):
    said = kept(ROLE, chat("a"), more, chat("b"))
    said.fold()
    assert not said.whole


def test_empty_forms_of_more_are_nothing():
    nothing = {"tool_calls": [], "reasoning": None, "refusal": None, "reasoning_content": ""}
    said = kept(chat("a", **nothing))
    assert (said.text(), said.whole) == ("a", True)


def test_a_long_stream_is_folded_on_the_way(monkeypatch):
    monkeypatch.setattr(journal, "_FOLD_BYTES", 1000)
    said = Journal()
    for number in range(500):
        said.add(chat(f"{number} "))
        assert said._size <= 1000
    assert said.text() == "".join(f"{number} " for number in range(500))
    assert said.tokens == 500


def test_a_text_over_the_limit_is_let_go(monkeypatch):
    monkeypatch.setattr(journal, "_FOLD_BYTES", 1000)
    monkeypatch.setattr(journal, "TEXT_CHARS_MAX", 5000)
    said = Journal()
    for _ in range(100):
        said.add(chat("x" * 100))
    assert not said.whole
    assert not said._texts
    assert said._size <= 1000


def test_json_of_any_spacing_is_read():
    data = json.dumps({"choices": [{"index": 0, "delta": {"content": "a"}}]}, indent=None)
    assert kept(b"data:" + data.encode() + b"\n\n").text() == "a"
