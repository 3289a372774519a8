"""The requests of completions and chats, and those about tokens."""

from typing import Any

import msgspec

from pipelines.engines.emulator.ask import (
    Ask,
    Bounds,
    Operation,
    RefusalError,
    Transfer,
    UsageEvents,
    check_model,
    decode,
    make_ask,
    rendered,
)
from pipelines.engines.emulator.forced import Forced, Tool, call_of, json_of
from pipelines.engines.emulator.options import Options
from pipelines.engines.emulator.text import text_of, token_ids

_DEFAULT_COMPLETION_TOKENS = 16
_CHOICES_MAX = 128


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


class _Request(msgspec.Struct, kw_only=True):
    model: str | None = None
    max_tokens: int | None = None
    stream: bool | None = False
    stream_options: _StreamOptions | None = None
    stop: str | list[str] | None = None
    ignore_eos: bool = False
    kv_transfer_params: Transfer | None = None
    n: int | None = None
    response_format: dict[str, Any] | None = None


class _Completion(_Request, kw_only=True):
    prompt: str | list[str | int | list[int]] | None = None
    logprobs: int | None = None


class _Message(msgspec.Struct):
    role: str
    content: str | list[dict[str, Any]] | None = None


class _Chat(_Request, kw_only=True):
    messages: list[_Message]
    max_completion_tokens: int | None = None
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    logprobs: bool | None = False
    top_logprobs: int | None = 0
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None


class _Detokenize(msgspec.Struct, kw_only=True):
    model: str | None = None
    tokens: list[int]


class _Tokenize(msgspec.Struct, kw_only=True):
    model: str | None = None
    prompt: str | None = None
    messages: list[_Message] | None = None
    add_generation_prompt: bool = True
    continue_final_message: bool = False


def read_completion(body: bytes, options: Options) -> Ask:
    """Raises RefusalError."""
    request = decode(body, _Completion)
    _check(request, options)
    text, ids = _prompt(request.prompt)
    limit = _DEFAULT_COMPLETION_TOKENS if request.max_tokens is None else request.max_tokens
    return _ask(
        request, options, "completions", text, limit, given_ids=ids, logprobs=request.logprobs
    )


def read_chat(body: bytes, options: Options) -> Ask:
    """Raises RefusalError."""
    request = decode(body, _Chat)
    _check(request, options)
    text = _render(request, request.messages)
    limit = request.max_tokens
    if request.max_completion_tokens is not None:
        limit = request.max_completion_tokens
    return _ask(
        request,
        options,
        "chat.completions",
        text,
        limit,
        starts_text=not (request.continue_final_message and request.messages[-1].content),
        logprobs=(request.top_logprobs or 0) if request.logprobs else None,
        forced=_forced_call(request),
    )


def read_tokenize(body: bytes, options: Options) -> list[int]:
    """The ids of a prompt, or of messages as the model would see them. Raises RefusalError."""
    request = decode(body, _Tokenize)
    check_model(request.model, options)
    text = request.prompt
    if text is None:
        text = _render(request, request.messages or [])
    return token_ids(text)


def read_detokenize(body: bytes, options: Options) -> str:
    """What the ids say. Raises RefusalError."""
    request = decode(body, _Detokenize)
    check_model(request.model, options)
    return text_of(request.tokens)


def _check(request: _Request, options: Options) -> None:
    check_model(request.model, options)
    if request.n is not None and not 1 <= request.n <= _CHOICES_MAX:
        raise RefusalError(400, f"n must be 1 to {_CHOICES_MAX}, got {request.n}.", param="n")
    if request.stream_options is not None and not request.stream:
        raise RefusalError(
            400,
            "Stream options can only be defined when `stream=True`. (parameter=stream_options)",
            param="stream_options",
        )


def _prompt(
    prompt: str | list[str | int | list[int]] | None,
) -> tuple[str, tuple[int, ...] | None]:
    """The prompt's text, and its ids if it came as such."""
    if isinstance(prompt, list) and len(prompt) == 1 and not isinstance(prompt[0], int):
        prompt = prompt[0] if isinstance(prompt[0], str) else list(prompt[0])
    if not prompt:
        raise RefusalError(
            400,
            "Either prompt or prompt_embeds must be provided and non-empty. (parameter=prompt)",
            param="prompt",
        )
    if isinstance(prompt, str):
        return prompt, None
    ids = tuple(item for item in prompt if isinstance(item, int))
    if len(ids) == len(prompt):
        return text_of(ids), ids
    raise RefusalError(400, "The emulator takes one prompt at a time.", param="prompt")


def _render(request: _Chat | _Tokenize, messages: list[_Message]) -> str:
    if request.continue_final_message and request.add_generation_prompt:
        raise RefusalError(
            400,
            "continue_final_message and add_generation_prompt are not compatible. Use "
            "continue_final_message when you want the model to continue the final message.",
        )
    text = rendered([(message.role, _content(message)) for message in messages])
    if request.add_generation_prompt:
        return text
    text = text.removesuffix("<|assistant|>")
    return text.removesuffix("<|end|>") if request.continue_final_message else text


def _content(message: _Message) -> str:
    if isinstance(message.content, list):
        return "".join(str(part.get("text", "")) for part in message.content)
    return message.content or ""


def _forced_call(request: _Chat) -> Forced | None:
    choice = request.tool_choice
    functions = [each.get("function") or {} for each in request.tools or []]
    tools = [Tool(each.get("name", ""), each.get("parameters") or {}) for each in functions]
    if choice in (None, "none", "auto"):
        return None
    name = "" if isinstance(choice, str) else str((choice.get("function") or {}).get("name"))
    found = call_of(tools, name)
    if found is None:
        message = "When using `tool_choice`, `tools` must be set. (parameter=tool_choice)"
        raise RefusalError(400, message, param="tool_choice")
    return found


def _forced_json(form: dict[str, Any] | None) -> Forced | None:
    if not form:
        return None
    if form.get("type") == "json_schema":
        return json_of((form.get("json_schema") or {}).get("schema") or {})
    return Forced("{}") if form.get("type") == "json_object" else None


def _ask(
    request: _Request,
    options: Options,
    operation: Operation,
    text: str,
    limit: int | None,
    *,
    starts_text: bool = False,
    given_ids: tuple[int, ...] | None = None,
    logprobs: int | None = None,
    forced: Forced | None = None,
) -> Ask:
    return make_ask(
        operation,
        options,
        text,
        Bounds(limit=limit, stop=request.stop, ignore_eos=request.ignore_eos),
        starts_text=starts_text,
        stream=bool(request.stream),
        transfer=request.kv_transfer_params,
        forced=forced or _forced_json(request.response_format),
        given_ids=given_ids,
        usage=_usage(request.stream_options),
        choices=request.n or 1,
        logprobs=logprobs,
    )


def _usage(options: _StreamOptions | None) -> UsageEvents:
    if options is None or not options.include_usage:
        return UsageEvents.NONE
    return UsageEvents.EVERY if options.continuous_usage_stats else UsageEvents.LAST
