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

    content: str | None = None
    tool_calls: Any = None
    function_call: Any = None
    reasoning: Any = None
    reasoning_content: Any = None
    refusal: Any = None
    audio: Any = None

    @property
    def is_text(self) -> bool:
        others = (self.tool_calls, self.function_call, self.reasoning, self.reasoning_content)
        return not any((*others, self.refusal, self.audio))


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


_CHUNK = msgspec.json.Decoder(_Chunk)


class Journal:
    """*whole* is False once something came that is not plain text of one answer."""

    __slots__ = ("_parts", "_size", "_texts", "chunks", "finish_reason", "head", "whole")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self._texts: list[str] = []
        self.chunks = 0  # that carried text
        self.head: _Chunk | None = None  # the first one: id, model, time
        self.finish_reason: str | None = None
        self.whole = True

    def add(self, events: bytes) -> None:
        """Whole SSE events, as they went to the client."""
        self._parts.append(events)
        self._size += len(events)
        if self._size > _FOLD_BYTES:
            self.fold()

    def text(self) -> str:
        self.fold()
        return "".join(self._texts)

    def fold(self) -> None:
        data = b"".join(self._parts)
        self._parts, self._size = [], 0
        if not self.whole:
            return
        for line in data.splitlines():
            if line.startswith(b"data:") and not line.endswith(b"[DONE]"):
                self._take(line[5:])
        self._texts = ["".join(self._texts)]
        if len(self._texts[0]) > TEXT_CHARS_MAX:
            self.whole = False

    def _take(self, data: bytes) -> None:
        try:
            chunk = _CHUNK.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self.whole = False
            return
        if self.head is None:
            self.head = chunk
        for choice in chunk.choices:
            delta = choice.delta
            if choice.index or choice.logprobs or (delta is not None and not delta.is_text):
                self.whole = False
            text = choice.text if delta is None else delta.content
            if text:
                self._texts.append(text)
                self.chunks += 1
            self.finish_reason = choice.finish_reason or self.finish_reason
