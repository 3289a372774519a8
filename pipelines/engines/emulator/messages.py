"""Answers in the shapes of Anthropic's /v1/messages, as vLLM gives them."""

from collections.abc import Sequence
from typing import Any

import msgspec

from pipelines.engines.emulator.answers import Choice, named_event
from pipelines.engines.emulator.ask import Ask, RefusalError
from pipelines.engines.emulator.text import Token


class MessagesAnswer:
    def __init__(self, ask: Ask, *, model: str, request_id: str) -> None:
        self._ask = ask
        self._tool = ask.forced.tool if ask.forced else ""
        self._tool_id = f"chatcmpl-tool-{request_id}"
        self._message: dict[str, Any] = {
            "id": f"chatcmpl-{request_id}",
            "type": "message",
            "role": "assistant",
            "model": model,
        }
        self._has_begun = False

    def opening(self) -> bytes:
        message = {
            **self._message,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": self._usage(0),
        }
        return named_event({"type": "message_start", "message": message})

    def token(self, token: Token, count: int) -> bytes:
        del count
        return self._block() + self._delta(token)

    def closing(self, token: Token | None, count: int, finish: str, stop: str | None) -> bytes:
        said = self._block() + (self._delta(token) if token else b"")
        delta = {"stop_reason": self._reason(finish, stop), "stop_sequence": stop}
        return (
            said
            + named_event({"type": "content_block_stop", "index": 0})
            + named_event({"type": "message_delta", "delta": delta, "usage": self._usage(count)})
            + named_event({"type": "message_stop"})
        )

    def end(self, count: int) -> bytes:
        del count
        return b""

    def whole(self, choices: Sequence[Choice], transfer: dict[str, Any] | None) -> bytes:
        (choice,) = choices
        block: dict[str, Any] = {"type": "text", "text": "" if self._tool else choice.text}
        if self._tool and self._is_read(choice):
            called = _arguments(choice.text)
            block = {"type": "tool_use", "id": self._tool_id, "name": self._tool, "input": called}
        body = {
            **self._message,
            "content": [block],
            "stop_reason": self._reason(choice.finish, choice.stop),
            "usage": self._usage(choice.count),
        }
        body |= {"stop_sequence": choice.stop} if choice.stop else {}
        body |= {"kv_transfer_params": transfer} if transfer else {}
        return msgspec.json.encode(body)

    def _is_read(self, choice: Choice) -> bool:
        """VLLM takes a call that is cut for none, but where the client named the tool."""
        return choice.finish == "stop" or (
            self._ask.forced is not None and self._ask.forced.by_name
        )

    def _block(self) -> bytes:
        """The event that opens the content, before its first part."""
        if self._has_begun:
            return b""
        self._has_begun = True
        block: dict[str, Any] = {"type": "text", "text": ""}
        if self._tool:
            block = {"type": "tool_use", "id": self._tool_id, "name": self._tool, "input": {}}
        return named_event({"type": "content_block_start", "content_block": block, "index": 0})

    def _delta(self, token: Token) -> bytes:
        delta = {"type": "text_delta", "text": token.text}
        if self._tool:
            delta = {"type": "input_json_delta", "partial_json": token.text}
        return named_event({"type": "content_block_delta", "delta": delta, "index": 0})

    def _reason(self, finish: str, stop: str | None) -> str:
        if finish == "length":
            return "max_tokens"
        if stop is not None:
            return "stop_sequence"
        return "tool_use" if self._tool else "end_turn"

    def _usage(self, count: int) -> dict[str, int]:
        return {"input_tokens": self._ask.prompt_tokens, "output_tokens": count}


def _arguments(text: str) -> Any:
    """Raises RefusalError where they are cut."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        raise RefusalError(
            400, "Unterminated string starting at: line 1 column 2 (char 1)"
        ) from None
