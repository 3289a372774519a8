"""The SSE relay: the same bytes out, however the bytes came in."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.answer import Usage
from gateway.errors import BadAnswerError
from gateway.proxy.stream import EVENT_BYTES_MAX, Relay

TOKEN = b'data: {"choices":[{"text":"a"}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3}}\n\n'
DONE = b"data: [DONE]\n\n"

fragments = st.sampled_from(
    [
        TOKEN,
        USAGE,
        USAGE.replace(b":{", b" : {").replace(b":[", b": ["),
        USAGE.replace(b"\n\n", b"\r\n\r\n"),
        DONE,
        b"data: [DONE]",
        b'data: {"error":{"message":"x"}}\n\n',
        b'data: {"choices":[{"text":"say \\"error\\" and [DONE]"}]}\n\n',
        b"data: x",
        b"\n",
        b"\n\n",
        b"\r",
        b"\r\n\r\n",
        b": ping\n\n",
        b"event: e\n",
        "data: é🎈\n\n".encode(),
        b"\xff\xfe",
    ]
)
streams = st.lists(fragments, max_size=20).map(b"".join)


def fed(pieces, *, usage_wanted=False):
    relay = Relay(usage_wanted=usage_wanted)
    return relay, b"".join(relay.feed(piece) for piece in pieces)


def outcome(relay, out):
    return out, relay.done, relay.failed, relay.usage


@given(stream=streams, cuts=st.lists(st.integers(0, 400)), usage_wanted=st.booleans())
def test_any_chunking_gives_the_same_bytes(stream, cuts, usage_wanted):
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    pieces = [stream[a:b] for a, b in pairwise(edges)]
    single = [bytes([byte]) for byte in stream]
    expected = outcome(*fed([stream], usage_wanted=usage_wanted))
    assert outcome(*fed(pieces, usage_wanted=usage_wanted)) == expected
    assert outcome(*fed(single, usage_wanted=usage_wanted)) == expected


@given(stream=streams)
def test_what_goes_out_is_whole_events_of_what_came_in(stream):
    relay, out = fed([stream], usage_wanted=True)
    assert stream.startswith(out)
    assert not out or out.endswith(b"\n")
    if not relay.done and not relay.failed:
        assert b"\n\n" not in stream[len(out) :]


@given(stream=streams, usage_wanted=st.booleans())
def test_done_is_forwarded_only_when_the_worker_said_it_and_nothing_follows(stream, usage_wanted):
    relay, out = fed([stream], usage_wanted=usage_wanted)
    if relay.done:
        lines = [line for line in out.splitlines() if line.startswith(b"data:")]
        assert lines[-1].endswith(b"[DONE]")
    assert not (relay.done and relay.failed)


def test_usage_is_kept_back_unless_wanted_and_read_either_way():
    for wanted, expected in ((True, TOKEN + USAGE + DONE), (False, TOKEN + DONE)):
        relay, out = fed([TOKEN + USAGE + DONE], usage_wanted=wanted)
        assert out == expected
        assert relay.usage == Usage(7, 3)


def test_usage_beside_a_choice_is_read_and_never_kept_back():
    both = b'data: {"choices":[{"text":"a"}],"usage":{"prompt_tokens":1,"completion_tokens":1}}\n\n'
    relay, out = fed([both, DONE])
    assert out == both + DONE
    assert relay.usage == Usage(1, 1)


@pytest.mark.parametrize(
    "usage",
    [b'{"prompt_tokens":-1}', b'{"prompt_tokens":"x"}', b"{", b'{"completion_tokens":1e99}'],
)
def test_nonsense_about_usage_is_nothing(usage):
    relay, _ = fed([b'data: {"choices":[],"usage":' + usage + b"}\n\n", DONE])
    assert relay.usage == Usage()
    assert relay.done


@pytest.mark.parametrize(
    "error",
    [
        b'data: {"error":{"message":"x","code":500}}\n\n',
        b'data: {"object":"error","message":"x"}\n\n',
        b'event: error\ndata: {"id":1,"error":"x"}\n\n',
    ],
)
def test_a_workers_error_event_ends_the_stream_and_so_does_not_its_done(error):
    relay, out = fed([TOKEN, error, DONE])
    assert out == TOKEN
    assert (relay.failed, relay.done) == (True, False)


def test_words_in_an_answer_are_only_words():
    text = b'[DONE] \\"error\\": \\"usage\\":{'
    event = b'data: {"choices":[{"text":"' + text + b'","finish_reason":"error"}]}\n\n'
    relay, out = fed([event])
    assert out == event
    assert (relay.failed, relay.done, relay.usage) == (False, False, Usage())


def test_events_are_counted_but_for_what_ends_the_stream():
    assert fed([TOKEN * 3, USAGE, DONE])[0].events == 3


def test_an_event_without_an_end_is_bounded():
    relay = Relay(usage_wanted=False)
    assert relay.feed(b"x" * EVENT_BYTES_MAX) == b""
    with pytest.raises(BadAnswerError):
        relay.feed(b"x")
