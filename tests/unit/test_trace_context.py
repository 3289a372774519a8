"""W3C Trace Context: what is taken from a client's headers, and what goes on to workers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.trace import get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from gateway.tracing.context import header_lines, parent_of, state_of
from gateway.tracing.trace import STEPS_MAX, begin

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GOOD = f"00-{TRACE}-{SPAN}-01".encode()


def test_a_parent_is_taken_with_its_flag():
    assert parent_of(GOOD) == (int(TRACE, 16), int(SPAN, 16), True)
    assert parent_of(GOOD[:-2] + b"00") == (int(TRACE, 16), int(SPAN, 16), False)
    assert parent_of(GOOD[:-2] + b"ff").sampled, "other flags mean nothing to us"
    assert parent_of(b"cc" + GOOD[2:] + b"-what-comes-later") == parent_of(GOOD)


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        GOOD + b"-more",
        GOOD.upper(),
        GOOD[:-1],
        b" " + GOOD,
        GOOD + b"\n",
        GOOD + b"," + GOOD,
        b"ff" + GOOD[2:],
        GOOD.replace(TRACE.encode(), b"0" * 32),
        GOOD.replace(SPAN.encode(), b"0" * 16),
        GOOD.replace(b"-", b"_"),
    ],
)
def test_a_parent_without_its_form_is_ignored(bad):
    assert parent_of(bad) is None
    assert begin(bad, b"a=b", 1.0).state == b"", "a state without its parent means nothing"


HEX = st.text("0123456789abcdefG", min_size=1, max_size=4)


@given(
    st.tuples(
        st.sampled_from(["00", "01", "ff", "0", "cc"]),
        st.sampled_from([TRACE, "0" * 32, TRACE[:-1], TRACE.upper()]),
        st.sampled_from([SPAN, "0" * 16, SPAN + "0"]),
        st.one_of(st.sampled_from(["00", "01", "03"]), HEX),
        st.sampled_from(["", "-", "-more"]),
    )
)
def test_it_is_read_as_opentelemetry_reads_it(parts):
    *fields, more = parts
    text = "-".join(fields) + more
    context = TraceContextTextMapPropagator().extract({"traceparent": text})
    theirs = get_current_span(context).get_span_context()
    ours = parent_of(text.encode())
    assert (ours is not None) == theirs.is_valid
    if ours is not None:
        assert ours == (theirs.trace_id, theirs.span_id, theirs.trace_flags.sampled)


def test_a_state_goes_on_as_it_came_or_not_at_all():
    state = b"rojo=00f067aa0ba902b7,congo=t61rcWkgMzE,fw529a3039@dt=a b"
    assert state_of(state) == state
    assert state_of(b" a=1 ,\t, b=2") == b"a=1,b=2"
    for bad in (b"a", b"a=", b"A=1", b"a=1,a=2", b"a=\xe9", b"a=1;b\x00", b"a=" + b"x" * 513):
        assert state_of(bad) == b"", bad
    assert state_of(b",".join(b"k%d=v" % n for n in range(33))) == b""


def test_what_is_sent_is_read_as_the_same():
    trace = begin(GOOD, b"a=b", 0.0)
    step = trace.step("unified", 1.0)
    parent, state = trace.headers(step).splitlines()
    assert parent_of(parent.removeprefix(b"traceparent: ")) == (int(TRACE, 16), step.span_id, True)
    assert state == b"tracestate: a=b"


def test_what_is_not_sampled_goes_on_as_the_clients_own():
    trace = begin(GOOD[:-2] + b"00", b"", 1.0)
    assert trace.step("unified", 1.0) is None
    assert trace.headers(None) == header_lines(
        int(TRACE, 16), int(SPAN, 16), sampled=False, state=b""
    )


def test_the_ratio_is_of_new_traces():
    share = sum(begin(b"", b"", 0.25).sampled for _ in range(4000)) / 4000
    assert 0.2 < share < 0.3
    assert begin(b"", b"", 1.0).sampled
    assert not begin(b"", b"", 0.0).sampled


def test_a_trace_is_bounded():
    trace = begin(b"", b"", 1.0)
    for _ in range(STEPS_MAX + 5):
        trace.step("unified", 1.0)
    assert len(trace.steps) == STEPS_MAX
