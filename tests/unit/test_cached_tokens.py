"""How much of a prompt was in a worker's cache, in each dialect's own words."""

import json

import pytest

from gateway.api.answer import NO_USAGE, Usage, read_answer, read_usage
from gateway.api.events import EVENTS
from gateway.api.operations import CHAT, MESSAGES, RESPONSES
from gateway.proxy.stream import Relay

CHAT_USAGE = {"prompt_tokens": 9, "completion_tokens": 2}


@pytest.mark.parametrize(
    ("operation", "answer", "usage"),
    [
        (
            CHAT,
            {"choices": [], "usage": CHAT_USAGE | {"prompt_tokens_details": {"cached_tokens": 4}}},
            Usage(9, 2, 4),
        ),
        (CHAT, {"choices": [], "usage": CHAT_USAGE | {"prompt_tokens_details": 7}}, Usage(9, 2)),
        (
            CHAT,
            {"choices": [], "usage": CHAT_USAGE | {"prompt_tokens_details": {"cached_tokens": -1}}},
            Usage(9, 2),
        ),
        (
            CHAT,  # as LiteLLM tells it: prompt_tokens are all, what was cached is told once more
            {
                "choices": [],
                "usage": CHAT_USAGE
                | {"cache_read_input_tokens": 4, "cache_creation_input_tokens": 3},
            },
            Usage(9, 2, 4),
        ),
        (
            RESPONSES,
            {
                "output": [],
                "usage": {
                    "input_tokens": 9,
                    "output_tokens": 2,
                    "input_tokens_details": {"cached_tokens": 4},
                },
            },
            Usage(9, 2, 4),
        ),
        (
            MESSAGES,
            {
                "content": [],
                "usage": {"input_tokens": 5, "output_tokens": 2, "cache_read_input_tokens": 4},
            },
            Usage(9, 2, 4),
        ),
    ],
)
def test_it_is_read_of_a_whole_answer(operation, answer, usage):
    body = json.dumps(answer).encode()
    assert read_answer(body, operation) == read_usage(body) == usage


def test_what_is_no_answer_has_none():
    for body in (b"", b"[]", b'{"usage": 3}', b"\xff", b'{"usage":' + b"[" * 5000):
        assert read_usage(body) == NO_USAGE


def test_a_stream_that_tells_its_prompt_first_keeps_it():
    relay = Relay(EVENTS["messages"], usage_wanted=True)
    start = {"type": "message_start", "message": {"usage": {"input_tokens": 5}}}
    start["message"]["usage"]["cache_read_input_tokens"] = 4
    for kind in (
        start,
        {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 2}},
        {"type": "message_stop"},
    ):
        relay.feed(f"event: {kind['type']}\ndata: {json.dumps(kind)}\n\n".encode())
    assert relay.usage == Usage(9, 2, 4)
