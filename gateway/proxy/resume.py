"""A stream whose worker failed goes on with another one: from the text so far, as one stream.

The other worker gets the request with what was already said put behind its prompt
(`pipelines.engines.resume`), and its events are dressed as the first worker's: one id, one role
chunk, usage of the whole. A token of a resumed stream is decoded and encoded again; this is not
the path that a token usually takes.
"""

from typing import Any

import msgspec

from gateway.openai.answer import Usage
from gateway.proxy.journal import Journal

_EVENT_END = b"\n\n"


class Resumption:
    """*prompt_tokens* are the client's own prompt's, *said_tokens* what the text so far counts."""

    __slots__ = ("_head", "prompt_tokens", "said_tokens")

    def __init__(self, journal: Journal, *, prompt_tokens: int, said_tokens: int) -> None:
        assert journal.head is not None
        self._head = journal.head
        self.prompt_tokens = prompt_tokens
        self.said_tokens = said_tokens

    def rewrite(self, events: bytes) -> bytes:
        """Whole SSE events of the new worker, as the client should see them."""
        out = []
        for event in events.split(_EVENT_END):
            data = event.strip().removeprefix(b"data:").strip()
            if not data:
                continue
            if data == b"[DONE]":
                out.append(_event(data))
                continue
            chunk = msgspec.json.decode(data, type=dict[str, Any])
            if not _is_only_role(chunk):
                out.append(_event(msgspec.json.encode(self._dressed(chunk))))
        return b"".join(out)

    def total(self, usage: Usage) -> Usage:
        """The whole stream's usage, by the last worker's own."""
        return Usage(self.prompt_tokens, self.said_tokens + usage.completion_tokens)

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
            usage = _usage(self.total(Usage()))
            out.append(_event(msgspec.json.encode({**base, "choices": [], "usage": usage})))
        out.append(_event(b"[DONE]"))
        return b"".join(out)

    def _dressed(self, chunk: dict[str, Any]) -> dict[str, Any]:
        if "id" in chunk:
            chunk["id"] = self._head.id
        if "created" in chunk:
            chunk["created"] = self._head.created
        usage = chunk.get("usage")
        if isinstance(usage, dict):
            total = self.total(Usage(0, int(usage.get("completion_tokens") or 0)))
            chunk["usage"] = {**usage, **_usage(total)}
        return chunk


def _usage(usage: Usage) -> dict[str, int]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


def _is_only_role(chunk: dict[str, Any]) -> bool:
    """The client has had that from the first worker."""
    choices = chunk.get("choices")
    if not choices:
        return False
    delta = choices[0].get("delta")
    finished = choices[0].get("finish_reason")
    return isinstance(delta, dict) and "role" in delta and not delta.get("content") and not finished


def _event(data: bytes) -> bytes:
    return b"data: " + data + _EVENT_END
