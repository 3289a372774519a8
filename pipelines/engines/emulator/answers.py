"""The bytes of an answer: whole, or as server-sent events, in vLLM's shapes."""

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from pipelines.engines.emulator import logprobs
from pipelines.engines.emulator.ask import Ask, RefusalError, UsageEvents
from pipelines.engines.emulator.text import Token, make_token

FINGERPRINT = "emulator"
DONE = b"data: [DONE]\n\n"
_SLOT = make_token("\x00")


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """One whole answer to a request; *count* is of its tokens and of its end, if it is one."""

    tokens: list[Token]
    count: int
    finish: str
    stop: str | None

    @property
    def text(self) -> str:
        return "".join(token.text for token in self.tokens)


class Answer(Protocol):
    """Builds the bytes for one request, or for one of its choices; knows no sockets."""

    def opening(self) -> bytes:
        """What comes before the first token."""

    def token(self, token: Token, count: int) -> bytes:
        """The event of a token that is not the last."""

    def closing(self, token: Token | None, count: int, finish: str, stop: str | None) -> bytes:
        """The last token with the reason."""

    def end(self, count: int) -> bytes:
        """What comes after the closing of every choice, which had *count* tokens together."""

    def whole(self, choices: Sequence[Choice], transfer: dict[str, Any] | None) -> bytes: ...


class ChatAnswer:
    """Of chats and completions, which differ in few names."""

    def __init__(
        self, ask: Ask, *, model: str, request_id: str, created: int, index: int = 0
    ) -> None:
        self._ask = ask
        self._index = index
        self._tool_id = f"chatcmpl-tool-{request_id}"
        self._said = 0  # characters, where logprobs name their place
        prefix = "chatcmpl" if ask.chat else "cmpl"
        kind = "chat.completion" if ask.chat else "text_completion"
        self._common: dict[str, Any] = {
            "id": f"{prefix}-{request_id}",
            "object": kind,
            "created": created,
            "model": model,
        }
        self._chunk = {**self._common, "object": kind + ".chunk"} if ask.chat else self._common
        self._is_plain = (
            ask.usage is not UsageEvents.EVERY
            and ask.logprobs is None
            and not (ask.forced and ask.forced.tool)
        )
        # An ordinary token's event is these two with the token's text between them.
        self._before, self._after = self._split()

    def token(self, token: Token, count: int) -> bytes:
        if self._is_plain:
            return self._before + token.json + self._after
        first = count == 1 and self._ask.forced and self._ask.forced.tool
        events = event(self._with_usage([self._call_named()], count)) if first else b""
        return events + event(self._with_usage([self._choice(token)], count))

    def opening(self) -> bytes:
        """A chat names its role."""
        if not self._ask.chat:
            return b""
        end: dict[str, Any] = {"prompt_token_ids": None, "prompt_text": None}
        if self._ask.usage is UsageEvents.EVERY:
            end["usage"] = self._usage(0)
        return b"".join(
            event({**self._chunk, "choices": [_role(index)], **end})
            for index in range(self._ask.choices)
        )

    def closing(self, token: Token | None, count: int, finish: str, stop: str | None) -> bytes:
        before = b""
        if token and self._ask.forced and self._ask.forced.tool:
            before, token = self.token(token, count), None
        choice = self._choice(token) | {"finish_reason": self._reason(finish), "stop_reason": stop}
        last = self._with_usage([choice], count)
        if self._ask.usage is UsageEvents.NONE:
            last["system_fingerprint"] = FINGERPRINT
        return before + event(last)

    def end(self, count: int) -> bytes:
        if self._ask.usage is UsageEvents.NONE:
            return DONE
        last = {**self._chunk, "choices": [], "usage": self._usage(count)}
        return event(last | {"system_fingerprint": FINGERPRINT}) + DONE

    def whole(self, choices: Sequence[Choice], transfer: dict[str, Any] | None) -> bytes:
        details = {"prompt_tokens_details": None, "completion_tokens_details": None}
        body = {
            **self._common,
            "choices": [self._whole_choice(index, each) for index, each in enumerate(choices)],
            "service_tier": None,
            "system_fingerprint": FINGERPRINT,
            "usage": self._usage(sum(choice.count for choice in choices)) | details,
            "kv_transfer_params": transfer,
            "ec_transfer_params": None,
            "metrics": None,
        }
        if self._ask.chat:
            body |= {"prompt_logprobs": None, "prompt_token_ids": None, "prompt_text": None}
        return msgspec.json.encode(body)

    def _with_usage(self, choices: list[dict[str, Any]], count: int) -> dict[str, Any]:
        chunk = {**self._chunk, "choices": choices}
        return (
            chunk | {"usage": self._usage(count)} if self._ask.usage is UsageEvents.EVERY else chunk
        )

    def _reason(self, finish: str) -> str:
        """VLLM says that a tool was called only where the client did not name it."""
        forced = self._ask.forced
        called = forced is not None and forced.tool and not forced.by_name
        return "tool_calls" if called and finish == "stop" else finish

    def _usage(self, count: int) -> dict[str, Any]:
        prompt = self._ask.prompt_tokens
        return {
            "prompt_tokens": prompt,
            "total_tokens": prompt + count,
            "completion_tokens": count,
        }

    def _choice(self, token: Token | None) -> dict[str, Any]:
        found = self._logprobs([token]) if token else None
        if self._ask.chat:
            return {
                "index": self._index,
                "delta": self._delta(token),
                "logprobs": found,
                "finish_reason": None,
                "token_ids": None,
            }
        return {
            "index": self._index,
            "text": token.text if token else "",
            "logprobs": found,
            "finish_reason": None,
            "stop_reason": None,
            "prompt_token_ids": None,
            "token_ids": None,
        }

    def _delta(self, token: Token | None) -> dict[str, Any]:
        if not (self._ask.forced and self._ask.forced.tool):
            return {"content": token.text if token else ""}
        if token is None:
            return {}
        part = {"index": 0, "function": {"arguments": token.text}}
        return {"content": None, "tool_calls": [part]}

    def _call_named(self) -> dict[str, Any]:
        """The choice of the event in which a tool's call begins."""
        call = {"id": self._tool_id, "type": "function", "index": 0}
        call["function"] = {"name": self._ask.forced.tool if self._ask.forced else ""}
        delta = {"content": None, "tool_calls": [call]}
        return self._choice(None) | {"delta": delta}

    def _logprobs(self, tokens: Sequence[Token]) -> dict[str, Any] | None:
        if self._ask.logprobs is None:
            return None
        if self._ask.chat:
            return logprobs.of_chat(tokens, self._ask.logprobs)
        found = logprobs.of_completion(tokens, self._ask.logprobs, self._said)
        self._said += sum(len(token.text) for token in tokens)
        return found

    def _whole_choice(self, index: int, choice: Choice) -> dict[str, Any]:
        self._said = 0
        common = {
            "index": index,
            "logprobs": self._logprobs(choice.tokens),
            "finish_reason": self._reason(choice.finish),
            "stop_reason": choice.stop,
            "token_ids": None,
            "routed_experts": None,
        }
        if self._ask.chat:
            return common | {"message": self._message(choice.text)}
        return common | {"text": choice.text, "prompt_logprobs": None, "prompt_token_ids": None}

    def _message(self, text: str) -> dict[str, Any]:
        message: dict[str, Any] = {
            "role": "assistant",
            "content": text,
            "refusal": None,
            "annotations": None,
            "audio": None,
            "function_call": None,
            "reasoning": None,
        }
        forced = self._ask.forced
        if forced and forced.tool:
            called = {"name": forced.tool, "arguments": text}
            call = {"id": self._tool_id, "type": "function", "function": called}
            message |= {"content": "", "tool_calls": [call]}
        return message

    def _split(self) -> tuple[bytes, bytes]:
        if not self._is_plain:
            return b"", b""
        whole = event({**self._chunk, "choices": [self._choice(_SLOT)]})
        before, _, after = whole.rpartition(_SLOT.json)
        return before, after


def event(data: Any) -> bytes:
    return b"data: " + msgspec.json.encode(data) + b"\n\n"


def named_event(data: dict[str, Any]) -> bytes:
    """One whose name is its data's type."""
    return b"event: " + str(data["type"]).encode() + b"\n" + event(data)


def failure_event(refusal: RefusalError, ask: Ask) -> bytes | None:
    """How a stream says that the engine failed. None: it does not, and breaks off."""
    if ask.operation == "responses":
        return None
    if ask.anthropic:
        error = {"type": "internal_error", "message": str(refusal)}
        return b"event: error\n" + event({"type": "error", "error": error})
    return b"data: " + refusal.body() + b"\n\n" + DONE


def _role(index: int) -> dict[str, Any]:
    return {
        "index": index,
        "delta": {"role": "assistant", "content": ""},
        "logprobs": None,
        "finish_reason": None,
    }
