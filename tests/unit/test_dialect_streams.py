"""Streams of every dialect through the relay: the same events out, however the bytes came in."""

from itertools import pairwise

import pytest
from dialects import (
    ANSWER_TOKENS,
    PROMPT_TOKENS,
    WORDS,
    chat_events,
    message_events,
    named,
    response,
    response_events,
)
from gateway_world import DONE, USAGE_EVENT, token
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.api.answer import Usage
from gateway.api.events import EVENTS
from gateway.proxy.stream import Relay

STREAMS = {
    "chat.completions": chat_events(),
    "completions": [*map(token, WORDS), USAGE_EVENT, DONE],
    "responses": response_events(),
    "messages": message_events(),
}
BROKEN = {
    "chat.completions": chat_events(end=False),
    "completions": [*map(token, WORDS)],
    "responses": response_events(end=""),
    "messages": message_events(end=False),
}
ERRORS = [
    b'data: {"error":{"message":"m","type":"t","code":500}}\n\n',
    b'data: {"object":"error","message":"m"}\n\n',
]
OF_DIALECT = {
    "responses": [
        named("error", {"type": "error", "code": None, "message": "m", "sequence_number": 3}),
        named("response.failed", {"type": "response.failed", "response": response("failed")}),
        named("response.cancelled", {"type": "response.cancelled", "response": response()}),
        *(
            named(
                "response.completed", {"type": "response.completed", "response": response(status)}
            )
            for status in ("failed", "cancelled")  # as an engine tells of one that it has aborted
        ),
    ],
    "messages": [named("error", {"type": "error", "error": {"type": "t", "message": "m"}})],
}
by_dialect = pytest.mark.parametrize("name", STREAMS)


def chunk(data):
    return b"%x\r\n%b\r\n" % (len(data), data)


def fed(name, pieces):
    relay = Relay(EVENTS[name], usage_wanted=True)
    return relay, b"".join(relay.feed(piece) for piece in pieces)


def outcome(relay, out):
    return out, relay.done, relay.failed, relay.usage, relay.events


@by_dialect
@given(data=st.data())
@settings(deadline=None)
def test_any_chunking_gives_the_same_bytes_and_the_same_end(name, data):
    stream = b"".join(STREAMS[name])
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=12))
    pieces = [stream[a:b] for a, b in pairwise([0, *sorted(cuts), len(stream)])]
    expected = stream, True, False, Usage(PROMPT_TOKENS, ANSWER_TOKENS), len(STREAMS[name]) - 1
    assert outcome(*fed(name, pieces)) == expected
    assert outcome(*fed(name, [bytes([byte]) for byte in stream])) == expected
    assert outcome(*fed(name, STREAMS[name])) == expected


@by_dialect
def test_what_follows_the_end_is_not_passed_on(name):
    stream = b"".join(STREAMS[name])
    for more in (stream, DONE, b"data: x\n\n"):
        assert fed(name, [stream + more])[1] == stream
        assert fed(name, [stream, more])[1] == stream


@by_dialect
def test_a_stream_that_breaks_off_has_no_end(name):
    relay, out = fed(name, BROKEN[name])
    assert (relay.done, relay.failed) == (False, False)
    assert out == b"".join(BROKEN[name])


@pytest.mark.parametrize(
    ("name", "error"),
    [(name, error) for name in STREAMS for error in (*ERRORS, *OF_DIALECT.get(name, ()))],
)
def test_a_workers_error_ends_the_stream_and_is_not_passed_on(name, error):
    for pieces in ([*BROKEN[name], error, DONE], [b"".join(BROKEN[name]) + error]):
        relay, out = fed(name, pieces)
        assert (relay.done, relay.failed) == (False, True)
        assert out == b"".join(BROKEN[name])


def test_a_response_cut_short_by_its_limit_has_ended_too():
    stream = b"".join(response_events(end="response.incomplete"))
    relay, out = fed("responses", [stream])
    assert (relay.done, out) == (True, stream)
    assert relay.usage == Usage(PROMPT_TOKENS, ANSWER_TOKENS)


def test_of_a_message_cut_off_the_prompts_tokens_are_known():
    relay, _ = fed("messages", BROKEN["messages"])
    assert relay.usage == Usage(PROMPT_TOKENS, 0)


def test_what_a_message_says_of_its_tokens_before_the_first_one_does_not_count():
    begun, *more = BROKEN["messages"]
    begun = begun.replace(b'"output_tokens":0', b'"output_tokens":1')
    relay, _ = fed("messages", [begun, *more])
    assert relay.usage == Usage(PROMPT_TOKENS, 0)


def test_of_a_message_the_cached_part_of_the_prompt_counts_as_prompt():
    usage = {"input_tokens": 2, "cache_read_input_tokens": 5, "output_tokens": 4}
    end = named("message_delta", {"type": "message_delta", "delta": {}, "usage": usage})
    relay, _ = fed("messages", [*BROKEN["messages"], end])
    assert relay.usage == Usage(7, 4, cached_tokens=5)


HOSTILE_TEXTS = (
    '{"type":"response.completed","response":{}}',
    '","type":"response.completed","response":{"x":"',
    "event: message_stop\ndata: {}\n\n",
    '{"type": "message_stop"}',
    '"error":{"message":"no"}',
    "[DONE]",
    '"usage":{"input_tokens":999,"output_tokens":999}',
)


@by_dialect
@pytest.mark.parametrize("text", HOSTILE_TEXTS)
def test_no_text_that_a_model_says_ends_a_stream_or_counts_as_usage(name, text):
    events = {
        "chat.completions": lambda: chat_events((text,), end=False),
        "completions": lambda: [token(text)],
        "responses": lambda: response_events((text,), end=""),
        "messages": lambda: message_events((text,), end=False),
    }[name]()
    relay, out = fed(name, events)
    assert out == b"".join(events)
    assert (relay.done, relay.failed) == (False, False)
    assert relay.usage.completion_tokens == 0
    through = Relay(EVENTS[name], usage_wanted=True)
    for event in events:
        if not through.passes(chunk(event)):
            assert through.feed(event) == event
    assert (through.done, through.failed, through.events) == (False, False, len(events))


@by_dialect
def test_tokens_pass_by_and_what_is_of_interest_does_not(name):
    relay = Relay(EVENTS[name], usage_wanted=True)
    tokens = set(BROKEN[name][EVENTS[name].framing :])
    for event in BROKEN[name]:
        passed = relay.passes(chunk(event))
        assert passed or event not in tokens
        if not passed:
            assert relay.feed(event) == event
    assert not relay.passes(chunk(STREAMS[name][-1]))


@by_dialect
def test_as_many_events_come_before_the_first_token_as_the_form_says(name):
    form, words = EVENTS[name], {word.encode() for word in WORDS}
    firsts = [any(word in event for word in words) for event in STREAMS[name]]
    assert form.early <= firsts.index(True)
    assert form.framing == firsts.index(True)


@pytest.mark.parametrize("name", ["messages", "chat.completions"])
@given(text=st.text(max_size=30))
@settings(deadline=None)
def test_a_stream_of_like_events_is_known_by_its_template(name, text):
    make = {"messages": message_events, "chat.completions": chat_events}[name]
    relay = Relay(EVENTS[name], usage_wanted=True)
    assert relay.passes(chunk(make(("a",), end=False)[-1]))
    event = make((text,), end=False)[-1]
    assert relay.passes(chunk(event)) or relay.feed(event) == event
    assert relay.events == 2
