"""Answers in the shapes of OpenAI's /v1/responses, as vLLM gives them."""

import itertools
from collections.abc import Sequence
from typing import Any

import msgspec

from pipelines.engines.emulator.answers import Choice, named_event
from pipelines.engines.emulator.ask import Ask
from pipelines.engines.emulator.text import Token

_PER_TURN: dict[str, list[int]] = {"output_tokens_per_turn": [], "tool_output_tokens_per_turn": []}


class ResponsesAnswer:
    def __init__(self, ask: Ask, *, model: str, request_id: str, created: int) -> None:
        self._ask = ask
        self._tool = ask.forced.tool if ask.forced else ""
        self._call_id = f"chatcmpl-tool-{request_id}"
        self._item_id = f"fc_{request_id}" if self._tool else f"msg_{request_id}"
        self._numbers = itertools.count()
        self._parts: list[str] = []
        self._has_begun = False
        self._response = {
            "id": f"resp_{request_id}",
            "created_at": created,
            "model": model,
            "object": "response",
            **ask.echo,
            "background": False,
            "max_output_tokens": ask.limit,
            "max_tool_calls": None,
            "previous_response_id": None,
            "prompt": None,
            "reasoning": None,
            "service_tier": "auto",
            "top_logprobs": None,
            "truncation": "disabled",
            "user": None,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "ec_transfer_params": None,
            "input_messages": None,
            "output_messages": None,
        }

    def opening(self) -> bytes:
        begun = self._whole_response([], "in_progress", None)
        return b"".join(
            self._event(f"response.{step}", response=begun) for step in ("created", "in_progress")
        )

    def token(self, token: Token, count: int) -> bytes:
        del count
        return self._item() + self._delta(token)

    def closing(self, token: Token | None, count: int, finish: str, stop: str | None) -> bytes:
        del stop
        said = self._item() + (self._delta(token) if token else b"")
        text = "".join(self._parts)
        item = self._done_item(text)
        response = self._whole_response(
            [item], "incomplete" if finish == "length" else "completed", self._usage(count)
        )
        return (
            said
            + self._done_parts(text)
            + self._event("response.output_item.done", item=item, output_index=0)
            + self._event("response.completed", response=response)
        )

    def end(self, count: int) -> bytes:
        del count
        return b""

    def whole(self, choices: Sequence[Choice], transfer: dict[str, Any] | None) -> bytes:
        (choice,) = choices
        status = "incomplete" if choice.finish == "length" else "completed"
        item = self._done_item(choice.text)
        response = self._whole_response([item], status, self._usage(choice.count))
        return msgspec.json.encode(response | {"kv_transfer_params": transfer})

    def _event(self, kind: str, **data: Any) -> bytes:
        return named_event({**data, "sequence_number": next(self._numbers), "type": kind})

    def _item(self) -> bytes:
        """The events that open the answer's one item, before its first part."""
        if self._has_begun:
            return b""
        self._has_begun = True
        if self._tool:
            call = self._call("", "in_progress")
            return self._event("response.output_item.added", item=call, output_index=0)
        message = self._message([], "in_progress")
        return self._event(
            "response.output_item.added", item=message, output_index=0
        ) + self._part_event("added", "", logprobs=[])

    def _delta(self, token: Token) -> bytes:
        self._parts.append(token.text)
        place = {"item_id": self._item_id, "output_index": 0}
        if self._tool:
            return self._event("response.function_call_arguments.delta", delta=token.text, **place)
        return self._event(
            "response.output_text.delta", delta=token.text, content_index=0, logprobs=[], **place
        )

    def _done_parts(self, text: str) -> bytes:
        place = {"item_id": self._item_id, "output_index": 0}
        if self._tool:
            named = {"arguments": text, "name": self._tool}
            return self._event("response.function_call_arguments.done", **named, **place)
        done = {"text": text, "content_index": 0, "logprobs": []}
        return self._event("response.output_text.done", **done, **place) + self._part_event(
            "done", text, logprobs=None
        )

    def _part_event(self, step: str, text: str, *, logprobs: list[Any] | None) -> bytes:
        return self._event(
            f"response.content_part.{step}",
            content_index=0,
            item_id=self._item_id,
            output_index=0,
            part=_part(text, logprobs),
        )

    def _done_item(self, text: str) -> dict[str, Any]:
        if self._tool:
            return self._call(text, "completed")
        return self._message([_part(text, None)], "completed")

    def _message(self, content: list[Any], status: str) -> dict[str, Any]:
        return {
            "id": self._item_id,
            "content": content,
            "role": "assistant",
            "status": status,
            "type": "message",
            "phase": None,
        }

    def _call(self, arguments: str, status: str) -> dict[str, Any]:
        return {
            "arguments": arguments,
            "call_id": self._call_id,
            "name": self._tool,
            "type": "function_call",
            "id": self._item_id,
            "async": None,
            "caller": None,
            "namespace": None,
            "status": status,
        }

    def _whole_response(
        self, output: list[Any], status: str, usage: dict[str, Any] | None
    ) -> dict[str, Any]:
        cut = {"reason": "max_output_tokens"} if status == "incomplete" else None
        return {
            **self._response,
            "output": output,
            "status": status,
            "incomplete_details": cut,
            "usage": usage,
            "kv_transfer_params": None,
        }

    def _usage(self, count: int) -> dict[str, Any]:
        prompt = self._ask.prompt_tokens
        cached: dict[str, Any] = {"cached_tokens": 0, "cache_write_tokens": 0}
        cached |= {"input_tokens_per_turn": [], "cached_tokens_per_turn": []}
        return {
            "input_tokens": prompt,
            "input_tokens_details": cached,
            "output_tokens": count,
            "output_tokens_details": {"reasoning_tokens": 0, "tool_output_tokens": 0, **_PER_TURN},
            "total_tokens": prompt + count,
        }


def _part(text: str, logprobs: list[Any] | None) -> dict[str, Any]:
    return {"annotations": [], "text": text, "type": "output_text", "logprobs": logprobs}
