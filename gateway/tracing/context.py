"""W3C Trace Context: what a client's ``traceparent`` and ``tracestate`` say. Pure.

What does not have its form is ignored, as the standard has it: the request begins a trace then.
"""

import re
from typing import NamedTuple

STATE_BYTES_MAX = 512
_STATE_MEMBERS_MAX = 32
_PARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_MEMBER = re.compile(
    rb"(?:[a-z0-9][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13})"
    rb"=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)
_SAMPLED = 1


class Parent(NamedTuple):
    trace_id: int
    span_id: int
    sampled: bool


def parent_of(traceparent: bytes) -> Parent | None:
    found = _PARENT.fullmatch(traceparent)
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == b"ff" or (version == b"00" and more is not None):
        return None
    parent = Parent(int(trace_id, 16), int(span_id, 16), bool(int(flags, 16) & _SAMPLED))
    return parent if parent.trace_id and parent.span_id else None


def state_of(tracestate: bytes) -> bytes:
    """*tracestate* as it may be passed on; empty if it is not well-formed."""
    if not tracestate or len(tracestate) > STATE_BYTES_MAX:
        return b""
    members = [member for part in tracestate.split(b",") if (member := part.strip(b" \t"))]
    keys = {member.partition(b"=")[0] for member in members}
    if len(members) > _STATE_MEMBERS_MAX or len(keys) < len(members):
        return b""
    return b",".join(members) if all(map(_MEMBER.fullmatch, members)) else b""


def header_lines(trace_id: int, span_id: int, *, sampled: bool, state: bytes) -> bytes:
    """Of a request to a worker."""
    lines = b"traceparent: 00-%032x-%016x-%02x\r\n" % (trace_id, span_id, sampled)
    return lines + b"tracestate: %b\r\n" % state if state else lines
