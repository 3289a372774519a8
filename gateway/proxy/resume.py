"""A stream whose worker failed goes on with another one: from the text so far, as one stream.

The other worker gets the request with what was already said put behind its prompt
(`pipelines.engines.resume`), and its events are dressed as the first worker's: one id, one role
chunk, usage of the whole. A token of a resumed stream is decoded and encoded again; this is not
the path that a token usually takes.
"""

from typing import Any

import msgspec

from gateway.api.answer import NO_USAGE, Usage
from gateway.proxy.errors import BrokenAnswerError
from gateway.proxy.journal import CHUNK, OTHER_THAN_TEXT, Journal

_EVENT_END = b"\n\n"
_OBJECT = msgspec.json.Decoder(dict[str, Any])


class Said(msgspec.Struct, frozen=True):
    """What is behind, in the engine's tokens. *prompt_tokens* are the client's own prompt's;
    without them the next worker counts all by itself, since nothing has been said.

    *trimmed* is white space at the end of the text that the next worker is not shown, because it
    would not see it: it will say it again.
    """

    prompt_tokens: int | None = None
    tokens: int = 0
    trimmed: str = ""


class Resumption:
    __slots__ = ("_head", "_trimmed", "said")

    def __init__(self, journal: Journal, said: Said) -> None:
        assert journal.head is not None
        self._head = journal.head
        self.said = said
        self._trimmed = said.trimmed

    def rewrite(self, events: bytes) -> bytes:
        """Whole SSE events of the new worker, as the client should see them. Raises
        BrokenAnswerError if they do not go on with a text.
        """
        out = []
        for line in events.splitlines():
            if not line.startswith(b"data:"):
                continue  # a comment, or the empty line that ends an event
            data = line[5:].strip()
            if data == b"[DONE]":
                out.append(_event(data))
                continue
            chunk = self._dressed(_chunk(data))
            if chunk is not None:
                out.append(_event(msgspec.json.encode(chunk)))
        return b"".join(out)

    def total(self, usage: Usage) -> Usage:
        """The whole stream's usage, by the last worker's own."""
        said = self.said
        prompt_tokens = usage.prompt_tokens if said.prompt_tokens is None else said.prompt_tokens
        return Usage(prompt_tokens, said.tokens + usage.completion_tokens)

    def ending(self, *, finish_reason: str | None, usage_wanted: bool) -> bytes:
        """The events that were still to come when every token had been said."""
        head = self._head
        base = {"id": head.id, "object": head.object, "created": head.created, "model": head.model}
        out = []
        if finish_reason is not None:
            said: dict[str, Any] = (
                {"text": ""} if head.object == "text_completion" else {"delta": {}}
            )
            choice = {"index": 0, **said, "logprobs": None, "finish_reason": finish_reason}
            out.append(_event(msgspec.json.encode({**base, "choices": [choice]})))
        if usage_wanted:
            usage = _told(self.total(NO_USAGE))
            out.append(_event(msgspec.json.encode({**base, "choices": [], "usage": usage})))
        out.append(_event(b"[DONE]"))
        return b"".join(out)

    def _dressed(self, chunk: dict[str, Any]) -> dict[str, Any] | None:
        """None if the client has had all that it says from the first worker."""
        for name in ("id", "created"):
            if chunk.pop(name, None) is not None and (of_first := getattr(self._head, name)):
                chunk[name] = of_first
        if isinstance(chunk.get("usage"), dict):
            chunk["usage"] = _told(self.total(_usage(chunk["usage"])))
        if not chunk.get("choices"):
            return chunk
        choice = chunk["choices"][0]
        said = choice.get("delta") or choice
        repeats = said.pop("role", None) is not None
        if any(said.get(name) for name in OTHER_THAN_TEXT):
            raise BrokenAnswerError("it goes on with something else than text")
        name = "text" if said is choice else "content"
        if self._trimmed and said.get(name):
            said[name] = self._beyond(said[name])
            repeats = True
        goes_on = said.get(name) or choice.get("finish_reason") or not repeats
        return chunk if goes_on else None

    def _beyond(self, text: str) -> str:
        """*text* without what it repeats of the white space that the client has had."""
        same = 0
        while same < min(len(text), len(self._trimmed)) and text[same] == self._trimmed[same]:
            same += 1
        self._trimmed = self._trimmed[same:] if same == len(text) else ""
        return text[same:]


def _chunk(data: bytes) -> dict[str, Any]:
    """Raises BrokenAnswerError unless it is one."""
    try:
        CHUNK.decode(data)
        return _OBJECT.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BrokenAnswerError("an event that is no chunk") from None


def _usage(data: dict[str, Any]) -> Usage:
    try:
        return msgspec.convert(data, Usage)
    except msgspec.ValidationError:
        return NO_USAGE


def _told(usage: Usage) -> dict[str, int]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


def _event(data: bytes) -> bytes:
    return b"data: " + data + _EVENT_END
