"""What a stream has told its client so far, so that another worker can go on with it.

On the way a token costs one append: the bytes are kept as they went out. They are folded into
text when somebody wants it, and in long streams now and then, many at once, to bound the memory.
"""

from typing import Any

import msgspec

_FOLD_BYTES = 64 * 1024
# A longer text is not kept: its stream cannot be taken over.
TEXT_CHARS_MAX = 4 * 1024 * 1024


class _Delta(msgspec.Struct):
    """Whatever is in here but text cannot be handed to another worker."""

    role: Any = None
    content: str | None = None
    tool_calls: Any = None
    function_call: Any = None
    reasoning: Any = None
    reasoning_content: Any = None
    refusal: Any = None
    audio: Any = None


OTHER_THAN_TEXT = tuple(
    name for name in _Delta.__struct_fields__ if name not in ("role", "content")
)


class _Choice(msgspec.Struct):
    index: int = 0
    text: str | None = None
    delta: _Delta | None = None
    logprobs: Any = None
    finish_reason: str | None = None


class _Chunk(msgspec.Struct):
    id: str = ""
    object: str = ""
    created: int = 0
    model: str = ""
    choices: list[_Choice] = []
    usage: Any = None


CHUNK = msgspec.json.Decoder(_Chunk)


class Journal:
    """*whole* is False once something came that is not plain text of one answer."""

    __slots__ = (
        "_chars",
        "_parts",
        "_silent",
        "_size",
        "_texts",
        "finish_reason",
        "head",
        "tokens",
        "told_usage",
        "whole",
    )

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self._texts: list[str] = []
        self._chars = 0
        self._silent = 0  # chunks since the last text
        # What the text counts, if each chunk is a token: one that has no text yet is a part of a
        # character, or of what may become a stop string, and its text comes with a later one.
        self.tokens = 0
        self.head: _Chunk | None = None  # the first one that has an id, else the first
        self.finish_reason: str | None = None
        self.told_usage = False  # the client has had the chunk with the usage of the whole
        self.whole = True

    def add(self, events: bytes) -> None:
        """Whole SSE events as they went out; the heads of chunks among them don't matter."""
        if not self.whole:
            return
        self._parts.append(events)
        self._size += len(events)
        if self._size > _FOLD_BYTES:
            self.fold()

    def text(self) -> str:
        self.fold()
        self._texts = ["".join(self._texts)]
        return self._texts[0]

    def fold(self) -> None:
        data = b"".join(self._parts)
        self._parts, self._size = [], 0
        texts: list[str] = []
        for line in data.splitlines():
            if line.startswith(b"data:") and self.whole:
                self._take(line[5:], texts)
        text = "".join(texts)
        self._chars += len(text)
        if self._chars > TEXT_CHARS_MAX:
            self.whole = False
        if self.whole:
            self._texts.append(text)
        else:
            self._texts.clear()

    def _take(self, data: bytes, texts: list[str]) -> None:
        try:
            chunk = CHUNK.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self.whole = False
            return
        if self.head is None or (chunk.id and not self.head.id):
            self.head = chunk
        if chunk.usage is not None and not chunk.choices:
            self.told_usage = True
        for choice in chunk.choices:
            delta = choice.delta
            if choice.index or choice.logprobs or _says_more(delta):
                self.whole = False
            text = choice.text if delta is None else delta.content
            if text or delta is None or delta.role is None:
                self._silent += 1
            if choice.finish_reason:
                self.finish_reason = choice.finish_reason
            if text or choice.finish_reason == "stop":  # which is a token of its own
                self.tokens += self._silent
                self._silent = 0
            if text:
                texts.append(text)


def _says_more(delta: _Delta | None) -> bool:
    return delta is not None and any(getattr(delta, name) for name in OTHER_THAN_TEXT)
