"""What a stream of each dialect says at which event: that it is over, that it failed, what it used.

The relay looks into an event only if it holds one of three marks. A mark that a text happens to
contain costs a closer look and no more: inside of JSON strings quotes are escaped.
"""

import re
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, TypeVar

import msgspec

from gateway.api.answer import NO_USAGE, Counts, Usage


class Seen(Enum):
    """In an event that was looked into."""

    NOTHING = "nothing"
    END = "end"
    FAILED = "failed"


class EventForm(msgspec.Struct, frozen=True, kw_only=True):
    """Of an operation's stream. The marks: what an event that ends it, reports an error or carries
    usage must hold. *look* judges an event's data, *usage* reads its counts.

    *early* events come before the engine has computed anything; *framing* of them and others carry
    no token. Where *repeats* holds, events of a stream differ by little more than the *text* of
    their token. Usage comes in one event, by the last word on it; where it is *split* the early
    one has the prompt's share.
    """

    end_mark: bytes
    usage_mark: bytes
    look: Callable[[bytes], Seen]
    usage: Callable[[bytes], Usage]
    early: int
    framing: int
    text: re.Pattern[bytes] | None = None
    error_mark: bytes = b'"error"'
    split: bool = False


class _Report(msgspec.Struct):
    """An event that may end a stream or be an error, in one of the forms that engines use."""

    type: Any = None
    error: Any = None
    object: Any = None


class _ResponseReport(_Report):
    """*response* is the whole of it, raw: most of it is of no interest."""

    response: msgspec.Raw = msgspec.Raw()


class _Outcome(msgspec.Struct):
    status: Any = None


class _Inner(msgspec.Struct):
    usage: Counts | None = None


class _Counted(msgspec.Struct):
    """An event with usage: its own, or that of the response or message it tells of."""

    usage: Counts | None = None
    response: _Inner | None = None
    message: _Inner | None = None


_REPORT = msgspec.json.Decoder(_Report)
_RESPONSE_REPORT = msgspec.json.Decoder(_ResponseReport)
_OUTCOME = msgspec.json.Decoder(_Outcome)
_CHUNK = msgspec.json.Decoder(_Inner)
_COUNTED = msgspec.json.Decoder(_Counted)
_RESPONSE_ENDS = frozenset({"response.completed", "response.incomplete"})
# A response that failed or was cancelled is told as an error: nobody may take it for whole.
_RESPONSE_FAILS = frozenset({"error", "response.failed", "response.cancelled"})
# So is one that an engine has aborted and calls completed all the same.
_GIVEN_UP = ("failed", "cancelled")
_R = TypeVar("_R")


def _read(decoder: msgspec.json.Decoder[_R], data: bytes | msgspec.Raw) -> _R | None:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _is_error(report: _Report) -> bool:
    return report.error is not None or report.object == "error"


def _look_at_chunk(data: bytes) -> Seen:
    if data == b"[DONE]":
        return Seen.END
    report = _read(_REPORT, data)
    return Seen.FAILED if report is not None and _is_error(report) else Seen.NOTHING


def _look_at_response(data: bytes) -> Seen:
    report = _read(_RESPONSE_REPORT, data)
    if report is None:
        return Seen.NOTHING
    kind = report.type if isinstance(report.type, str) else ""
    if kind in _RESPONSE_FAILS or _is_error(report):
        return Seen.FAILED
    if kind not in _RESPONSE_ENDS:
        return Seen.NOTHING
    outcome = _read(_OUTCOME, report.response)
    return Seen.FAILED if outcome is not None and outcome.status in _GIVEN_UP else Seen.END


def _look_at_message(data: bytes) -> Seen:
    report = _read(_REPORT, data)
    if report is None:
        return Seen.NOTHING
    if report.type == "error" or _is_error(report):
        return Seen.FAILED
    return Seen.END if report.type == "message_stop" else Seen.NOTHING


def _chunk_usage(data: bytes) -> Usage:
    chunk = _read(_CHUNK, data)
    counts = chunk.usage if chunk is not None else None
    return NO_USAGE if counts is None else counts.usage()


def _event_usage(data: bytes) -> Usage:
    event = _read(_COUNTED, data)
    if event is None:
        return NO_USAGE
    inner = event.response or event.message
    counts = event.usage or (inner.usage if inner is not None else None)
    return NO_USAGE if counts is None else counts.usage()


def _chunks(*, early: int) -> EventForm:
    return EventForm(
        end_mark=b"[DONE]",
        usage_mark=b'"usage"',
        look=_look_at_chunk,
        usage=_chunk_usage,
        early=early,
        framing=early,
        text=re.compile(rb'"(?:content|text)":"((?:[^"\\\n]|\\.)*)"'),
    )


COMPLETION_EVENTS = _chunks(early=0)

EVENTS: Mapping[str, EventForm] = {
    "completions": COMPLETION_EVENTS,
    "chat.completions": _chunks(early=1),  # the role
    # `response.created` and `response.in_progress`; then an item and a part of it are opened. All
    # events that tell of the response as a whole hold it, and no others do.
    "responses": EventForm(
        end_mark=b'"response"',
        usage_mark=b'"response"',
        look=_look_at_response,
        usage=_event_usage,
        early=2,
        framing=4,
    ),
    # `message_start`; then a block is opened.
    "messages": EventForm(
        end_mark=b'"message_stop"',
        usage_mark=b'"usage"',
        look=_look_at_message,
        usage=_event_usage,
        early=1,
        framing=2,
        text=re.compile(rb'"(?:text|thinking|partial_json)":"((?:[^"\\\n]|\\.)*)"'),
        split=True,
    ),
}
