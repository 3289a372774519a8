"""What goes past the parser: only whole chunks of whole events in which nothing is of interest."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.proxy.stream import Relay


def event(text, **more):
    chunk = {"id": "x", "choices": [{"index": 0, "delta": {"content": text}}], **more}
    return b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n"


def chunk(data):
    return b"%x\r\n%b\r\n" % (len(data), data)


def a_relay(*, seen=("a", "b")):
    """With its template learned."""
    relay = Relay(usage_wanted=False)
    for text in seen:
        assert relay.passes(chunk(event(text)))
    return relay


@given(texts=st.lists(st.text(max_size=40), min_size=1, max_size=6))
def test_tokens_pass_and_are_counted_one_by_one_or_together(texts):
    one_by_one, together = a_relay(), a_relay()
    for text in texts:
        assert one_by_one.passes(chunk(event(text)))
    assert together.passes(b"".join(chunk(event(text)) for text in texts))
    assert one_by_one.events == together.events == len(texts) + 2


INTERESTING = [
    event("a", usage={"completion_tokens": 1}),
    b'data: {"choices":[],"usage":{"completion_tokens":1}}\n\n',
    b'data: {"error":{"message":"no"}}\n\n',
    b'data: {"object":"error","message":"no"}\n\n'.replace(b'"object"', b'"error":1,"object"'),
    b"data: [DONE]\n\n",
]


@pytest.mark.parametrize("interesting", INTERESTING)
@pytest.mark.parametrize("seen", [(), ("a", "b")])
def test_what_is_of_interest_never_passes(interesting, seen):
    relay = a_relay(seen=seen)
    assert not relay.passes(chunk(interesting))
    assert not relay.passes(chunk(event("a")) + chunk(interesting))
    assert not relay.passes(chunk(interesting) + chunk(event("a")))
    assert not relay.passes(chunk(event("a") + interesting))
    assert relay.events == len(seen)


@given(
    text=st.sampled_from(['","usage":{"completion_tokens":9},"x":"', '"}]}\n\ndata: [DONE]\n\n'])
)
def test_a_text_that_is_more_than_a_string_does_not_fit_the_template(text):
    """Bytes as a hostile worker may send them, not as JSON would have escaped them."""
    relay = a_relay()
    hostile = event("@").replace(b"@", text.encode())
    assert not relay.passes(chunk(hostile))


@pytest.mark.parametrize(
    "data",
    [
        event("a"),  # no chunk at all
        b"0x%x\r\n%b\r\n" % (len(event("a")), event("a")),
        b" %x\r\n%b\r\n" % (len(event("a")), event("a")),
        b"%x;ext\r\n%b\r\n" % (len(event("a")), event("a")),
        b"%x_0\r\n%b\r\n" % (len(event("a")), event("a")),
        b"%x\r\n%b\r\n" % (len(event("a")) + 1, event("a")),
        b"%x\r\n%b\r\n" % (len(event("a")) - 1, event("a")),
        b"%x\n%b\n" % (len(event("a")), event("a")),
        chunk(event("a"))[:-1],
        chunk(event("a")) + b"\r\n",
        chunk(event("a")) + b"0\r\n\r\n",
        chunk(b"data: half of one"),
        chunk(event("a")[:-1] + b"\r\n\r\n"),
        b"0\r\n\r\n",
        b"",
    ],
)
def test_what_is_not_whole_chunks_of_whole_events_takes_the_parsers_way(data):
    relay = a_relay()
    passed = relay.passes(data)
    assert not passed or data == b""
    assert relay.events == 2 + data.count(b"\n\n") * passed


@given(cut=st.integers(1, 300), text=st.text(max_size=20))
def test_no_part_of_a_chunk_passes(cut, text):
    relay, whole = a_relay(), chunk(event(text))
    part = whole[: min(cut, len(whole) - 1)]
    assert not relay.passes(part)
    assert not relay.passes(whole[len(part) :])


def test_nothing_passes_while_an_event_is_incomplete_or_after_the_end():
    relay = a_relay()
    relay.feed(b"data: half")
    assert not relay.passes(chunk(event("a")))
    ended = a_relay()
    ended.feed(b"data: [DONE]\n\n")
    assert not ended.passes(chunk(event("a")))
