"""The bytes of an answer: whole, or as server-sent events, in vLLM's shapes."""

from typing import Any

import msgspec

from pipelines.engines.emulator.ask import Ask, RefusalError, UsageEvents
from pipelines.engines.emulator.text import Token

FINGERPRINT = "emulator"
DONE = b"data: [DONE]\n\n"
_SLOT = "\x00"


class Answer:
    """Builds the bytes for one request; knows no sockets."""

    def __init__(self, ask: Ask, *, model: str, request_id: str, created: int) -> None:
        self._ask = ask
        prefix = "chatcmpl" if ask.chat else "cmpl"
        kind = "chat.completion" if ask.chat else "text_completion"
        self._common: dict[str, Any] = {
            "id": f"{prefix}-{request_id}",
            "object": kind,
            "created": created,
            "model": model,
        }
        self._chunk = {**self._common, "object": kind + ".chunk"} if ask.chat else self._common
        # An ordinary token's event is these two with the token's text between them.
        self._before, self._after = self._split()

    def token(self, token: Token, count: int) -> bytes:
        """The event of a token that is not the last."""
        if self._ask.usage is UsageEvents.EVERY:
            return event(
                {**self._chunk, "choices": [self._choice(token.text)], "usage": self._usage(count)}
            )
        return self._before + token.json + self._after

    def opening(self) -> bytes:
        """What comes before the first token: a chat names its role."""
        if not self._ask.chat:
            return b""
        choice = {
            "index": 0,
            "delta": {"role": "assistant", "content": ""},
            "logprobs": None,
            "finish_reason": None,
        }
        end: dict[str, Any] = {"prompt_token_ids": None, "prompt_text": None}
        if self._ask.usage is UsageEvents.EVERY:
            end["usage"] = self._usage(0)
        return event({**self._chunk, "choices": [choice], **end})

    def closing(self, token: Token | None, count: int, finish: str, stop: str | None) -> bytes:
        """The last token with the reason, the usage if asked, and the end mark."""
        choice = self._choice(token.text if token else "")
        choice |= {"finish_reason": finish, "stop_reason": stop}
        last = {**self._chunk, "choices": [choice]}
        usage = {"usage": self._usage(count)}
        fingerprint = {"system_fingerprint": FINGERPRINT}
        if self._ask.usage is UsageEvents.NONE:
            return event({**last, **fingerprint}) + DONE
        if self._ask.usage is UsageEvents.EVERY:
            last |= usage
        return event(last) + event({**self._chunk, "choices": [], **usage, **fingerprint}) + DONE

    def whole(
        self, text: str, count: int, finish: str, stop: str | None, transfer: dict[str, Any] | None
    ) -> bytes:
        choice = self._whole_choice(text) | {"finish_reason": finish, "stop_reason": stop}
        details = {"prompt_tokens_details": None, "completion_tokens_details": None}
        body = {
            **self._common,
            "choices": [choice],
            "service_tier": None,
            "system_fingerprint": FINGERPRINT,
            "usage": self._usage(count) | details,
            "kv_transfer_params": transfer,
            "ec_transfer_params": None,
            "metrics": None,
        }
        if self._ask.chat:
            body |= {"prompt_logprobs": None, "prompt_token_ids": None, "prompt_text": None}
        return msgspec.json.encode(body)

    def _usage(self, count: int) -> dict[str, Any]:
        prompt = self._ask.prompt_tokens
        return {
            "prompt_tokens": prompt,
            "total_tokens": prompt + count,
            "completion_tokens": count,
        }

    def _choice(self, text: str) -> dict[str, Any]:
        if self._ask.chat:
            return {
                "index": 0,
                "delta": {"content": text},
                "logprobs": None,
                "finish_reason": None,
                "token_ids": None,
            }
        return {
            "index": 0,
            "text": text,
            "logprobs": None,
            "finish_reason": None,
            "stop_reason": None,
            "prompt_token_ids": None,
            "token_ids": None,
        }

    def _whole_choice(self, text: str) -> dict[str, Any]:
        common = {"logprobs": None, "token_ids": None, "routed_experts": None}
        if self._ask.chat:
            message = {
                "role": "assistant",
                "content": text,
                "refusal": None,
                "annotations": None,
                "audio": None,
                "function_call": None,
                "reasoning": None,
            }
            return {"index": 0, "message": message, **common}
        extra = {"prompt_logprobs": None, "prompt_token_ids": None}
        return {"index": 0, "text": text, **common, **extra}

    def _split(self) -> tuple[bytes, bytes]:
        whole = event({**self._chunk, "choices": [self._choice(_SLOT)]})
        before, _, after = whole.rpartition(msgspec.json.encode(_SLOT))
        return before, after


def event(data: Any) -> bytes:
    return b"data: " + msgspec.json.encode(data) + b"\n\n"


def error_event(refusal: RefusalError) -> bytes:
    return b"data: " + refusal.body() + b"\n\n" + DONE
