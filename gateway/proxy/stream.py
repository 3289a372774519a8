"""The SSE relay: a worker's stream passed on event by event, byte for byte.

An event is forwarded once it is whole, however the bytes were cut. Most chunks hold whole events
and nothing of interest: those are recognised by a few byte searches and go on as they came. Only
an event that ends the stream, reports an error or carries usage is looked into; which those are
is the dialect's (`gateway.api.events`).
"""

import re

from gateway.api.answer import NO_USAGE, Usage
from gateway.api.events import COMPLETION_EVENTS, EventForm, Seen
from gateway.errors import BadAnswerError

EVENT_BYTES_MAX = 2 * 1024 * 1024

_END = re.compile(rb"\n\r?\n")
_USAGE = re.compile(rb'"usage"\s*:\s*\{')
_NO_CHOICES = re.compile(rb'"choices"\s*:\s*\[\s*\]')
_NEWLINES = b"\r\n"
# Strictly what RFC 9112 allows, without extensions: this may go to a client as it is.
_CHUNK_HEAD = re.compile(rb"([0-9a-fA-F]{1,7})\r\n")
_EVENT_AND_CHUNK_END = b"\n\n\r\n"
_TEMPLATE_BYTES_MAX = 8192


class Relay:
    """Feed it what the worker sends; send on what it returns.

    After the worker's last event *done* is set; after its error event *failed* is, and that event
    is not forwarded. Nothing behind either of them is. Without *usage_wanted* the chunk that holds
    nothing but usage is kept back.
    """

    __slots__ = (
        "_end_mark",
        "_error_mark",
        "_first_usage",
        "_last",
        "_parts",
        "_size",
        "_template",
        "_usage",
        "_usage_mark",
        "done",
        "events",
        "failed",
        "form",
        "usage_wanted",
    )

    def __init__(self, form: EventForm = COMPLETION_EVENTS, *, usage_wanted: bool) -> None:
        self.form = form
        self._end_mark = form.end_mark
        self._error_mark = form.error_mark
        self._usage_mark = form.usage_mark
        self.usage_wanted = usage_wanted
        self.done = False
        self.failed = False
        self.events = 0  # forwarded ones, the end apart
        self._first_usage = b""
        self._usage = b""
        self._template: Template | None = None
        # An event not yet whole: its pieces, their size, their last two bytes.
        self._parts: list[bytes] = []
        self._size = 0
        self._last = b""

    def feed(self, chunk: bytes) -> bytes:
        """Raises BadAnswerError for an event over the limit."""
        if (
            not self._size
            and chunk.endswith(b"\n\n")
            and chunk[-3:-2] not in _NEWLINES
            and self._usage_mark not in chunk
            and self._end_mark not in chunk
            and self._error_mark not in chunk
            and not self.done
            and not self.failed
        ):
            self.events += chunk.count(b"\n\n")
            return chunk
        return self._feed_slowly(chunk)

    def passes(self, chunks: bytes) -> bool:
        """Whether *chunks*, as they came from the wire, are whole ones of whole events, and none of
        interest: then they are counted, and may go on as they are.
        """
        template = self._template
        if template is not None and template.fits(chunks):
            self.events += 1
            return True
        if (
            self._usage_mark in chunks
            or self._end_mark in chunks
            or self._error_mark in chunks
            or not _are_chunks(chunks)
            or self._size
            or self.done
            or self.failed
        ):
            return False
        count = chunks.count(b"\n\n")
        self.events += count
        if count == 1 and self.form.text is not None:
            self._template = Template.of(chunks, self.form.text)
        return True

    @property
    def usage(self) -> Usage:
        """What the worker counted, by its last word on it; zero if it said nothing."""
        if not self._usage:
            return NO_USAGE
        usage = self.form.usage(_data(self._usage))
        if self._usage is self._first_usage:  # what it says of the answer is a guess: 0, or 1
            return Usage(usage.prompt_tokens, 0, usage.cached_tokens)
        if usage.prompt_tokens or not self._first_usage:
            return usage
        first = self.form.usage(_data(self._first_usage))
        return Usage(first.prompt_tokens, usage.completion_tokens, first.cached_tokens)

    def _feed_slowly(self, chunk: bytes) -> bytes:
        if _END.search(self._last + chunk) is None:
            self._hold(chunk)
            return b""
        data = b"".join((*self._parts, chunk))
        self._parts, self._size, self._last = [], 0, b""
        out = []
        begin = 0
        for match in _END.finditer(data):
            out.append(self._take(data[begin : match.end()]))
            begin = match.end()
        if begin < len(data):
            self._hold(data[begin:])
        return b"".join(out)

    def _hold(self, piece: bytes) -> None:
        self._template = None  # what comes next is the rest of this
        self._parts.append(piece)
        self._size += len(piece)
        self._last = (self._last + piece)[-2:]
        if self._size > EVENT_BYTES_MAX:
            raise BadAnswerError(f"The worker sent an event over {EVENT_BYTES_MAX} bytes.")

    def _take(self, event: bytes) -> bytes:
        if self.done or self.failed:
            return b""
        form = self.form
        seen = Seen.NOTHING
        if form.end_mark in event or form.error_mark in event:
            seen = form.look(_data(event))
        if seen is not Seen.NOTHING:
            self._template = None
        if seen is Seen.FAILED:
            self.failed = True
            return b""
        if form.usage_mark in event and _USAGE.search(event):
            if form.split and self.events < form.early:
                self._first_usage = event
            self._usage = event
            if not self.usage_wanted and _NO_CHOICES.search(event):
                return b""
        if seen is Seen.END:
            self.done = True
        else:
            self.events += 1
        return event


def _head_by_size() -> list[bytes | None]:
    """The head of a chunk by the size of the whole: of some sizes there is none."""
    heads: list[bytes | None] = [None] * _TEMPLATE_BYTES_MAX
    for body in range(1, _TEMPLATE_BYTES_MAX):
        head = b"%x\r\n" % body
        if len(head) + body + 2 < _TEMPLATE_BYTES_MAX:
            heads[len(head) + body + 2] = head
    return heads


_HEADS = _head_by_size()


class Template:
    """What all events of a stream have in common but for the text of their token: *before* and
    *after* it. An event that fits differs from one that was looked into only by what stands inside
    a JSON string, so it can be neither usage nor error nor end.
    """

    __slots__ = ("_after", "_after_size", "_before", "_before_size")

    def __init__(self, before: bytes, after: bytes) -> None:
        self._before = before
        self._after = after
        self._before_size = len(before)
        self._after_size = len(after)

    @classmethod
    def of(cls, chunk: bytes, text: re.Pattern[bytes]) -> "Template | None":
        """From one chunk of one event that has what *text* finds."""
        found = text.search(chunk)
        if found is None:
            return None
        body = chunk.index(b"\r\n") + 2
        return cls(chunk[body : found.start(1)], chunk[found.end(1) :])

    def fits(self, chunk: bytes) -> bool:
        """Whether *chunk* is one whole chunk with one whole event of this form."""
        size = len(chunk)
        head = _HEADS[size] if size < _TEMPLATE_BYTES_MAX else None
        if head is None or not chunk.startswith(head) or not chunk.endswith(self._after):
            return False
        text = len(head) + self._before_size
        if not chunk.startswith(self._before, len(head)):
            return False
        said = chunk[text : size - self._after_size]
        # An escaped quote is rare enough to be looked at the other way.
        return b'"' not in said and b"\n" not in said and text + self._after_size <= size


def _are_chunks(data: bytes) -> bool:
    """Whether this is whole chunks and nothing else, and each ends with the end of an event."""
    begin, size = 0, len(data)
    while begin < size:
        head = _CHUNK_HEAD.match(data, begin)
        if head is None:
            return False
        end = head.end() + int(head[1], 16)
        if data[end - 2 : end + 2] != _EVENT_AND_CHUNK_END or data[end - 3] in _NEWLINES:
            return False
        begin = end + 2
    return begin == size


def _data(event: bytes) -> bytes:
    """The event's data: its data lines without their field name."""
    lines = [line[5:].strip() for line in event.splitlines() if line.startswith(b"data:")]
    return b"\n".join(lines)
