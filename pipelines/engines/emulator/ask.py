"""What a client asks for: its request, checked and brought to one form."""

from collections.abc import Sequence
from enum import Enum
from typing import Any, TypeVar

import msgspec

from pipelines.engines.emulator.options import Options
from pipelines.engines.emulator.text import count_tokens, text_of, token_ids

_DEFAULT_COMPLETION_TOKENS = 16


class RefusalError(Exception):
    """A request the engine answers with an error, in vLLM's own words where they are known."""

    def __init__(
        self, status: int, message: str, *, kind: str = "BadRequestError", param: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.param = param

    def body(self) -> bytes:
        error = {
            "message": str(self),
            "type": self.kind,
            "param": self.param,
            "code": self.status,
        }
        return msgspec.json.encode({"error": error})


def engine_failure() -> RefusalError:
    return RefusalError(500, "Internal server error", kind="InternalServerError")


class UsageEvents(Enum):
    NONE = "none"
    LAST = "last"
    EVERY = "every"


class Transfer(msgspec.Struct, kw_only=True):
    """``kv_transfer_params``, as much of it as the emulator looks at."""

    do_remote_decode: bool = False
    do_remote_prefill: bool = False
    remote_engine_id: str | None = None
    remote_request_id: str | None = None
    remote_block_ids: list[Any] | None = None
    remote_host: str | None = None
    remote_port: int | None = None


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    chat: bool
    text: str  # the whole prompt, as the model would see it
    starts_text: bool  # the answer is a new text, not the rest of one
    prompt_tokens: int
    limit: int  # of the answer's tokens
    may_end: bool  # whether the answer may end by itself before its limit
    stops: tuple[str, ...]
    stream: bool
    usage: UsageEvents
    transfer: Transfer
    given_ids: tuple[int, ...] | None = None  # the prompt, where it came as token ids

    def token_ids(self) -> Sequence[int]:
        """The prompt's."""
        return token_ids(self.text) if self.given_ids is None else self.given_ids


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


_R = TypeVar("_R")


class _Completion(_Request, kw_only=True):
    prompt: str | list[str | int | list[int]] | None = None


class _Message(msgspec.Struct):
    role: str
    content: str | list[dict[str, Any]] | None = None


class _Chat(_Request, kw_only=True):
    messages: list[_Message]
    max_completion_tokens: int | None = None
    add_generation_prompt: bool = True
    continue_final_message: bool = False


class _Tokenize(msgspec.Struct, kw_only=True):
    model: str | None = None
    prompt: str | None = None
    messages: list[_Message] | None = None
    add_generation_prompt: bool = True
    continue_final_message: bool = False


def read_completion(body: bytes, options: Options) -> Ask:
    """Raises RefusalError."""
    request = _decode(body, _Completion)
    _check(request, options)
    text, ids = _prompt(request.prompt)
    count = count_tokens(text) if ids is None else len(ids)
    limit = _DEFAULT_COMPLETION_TOKENS if request.max_tokens is None else request.max_tokens
    return _ask(request, options, text, count, limit=limit, given_ids=ids)


def read_chat(body: bytes, options: Options) -> Ask:
    """Raises RefusalError."""
    request = _decode(body, _Chat)
    _check(request, options)
    text = _render(request, request.messages)
    limit = request.max_tokens
    if request.max_completion_tokens is not None:
        limit = request.max_completion_tokens
    return _ask(
        request,
        options,
        text,
        count_tokens(text),
        limit=limit,
        chat=True,
        starts_text=not (request.continue_final_message and request.messages[-1].content),
    )


def read_tokenize(body: bytes, options: Options) -> list[int]:
    """The ids of a prompt, or of messages as the model would see them. Raises RefusalError."""
    request = _decode(body, _Tokenize)
    _check_model(request.model, options)
    text = request.prompt
    if text is None:
        text = _render(request, request.messages or [])
    return token_ids(text)


def _decode(body: bytes, kind: type[_R]) -> _R:
    try:
        return msgspec.json.decode(body, type=kind, strict=False)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        message, _, path = str(error).partition(" - at `$")
        raise RefusalError(
            400, f"1 validation error: {message}", kind="Bad Request", param=f"body{path[:-1]}"
        ) from None


def _check(request: _Request, options: Options) -> None:
    _check_model(request.model, options)
    if request.stream_options is not None and not request.stream:
        raise RefusalError(
            400,
            "Stream options can only be defined when `stream=True`. (parameter=stream_options)",
            param="stream_options",
        )


def _check_model(name: str | None, options: Options) -> None:
    if name and name != options.model:
        raise RefusalError(
            404,
            f"The model `{name}` does not exist. Valid aliases: {options.model}.",
            kind="NotFoundError",
            param="model",
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
    if not messages:
        raise RefusalError(400, "Cannot apply chat template to an empty conversation.")
    if request.continue_final_message and request.add_generation_prompt:
        raise RefusalError(
            400,
            "continue_final_message and add_generation_prompt are not compatible. Use "
            "continue_final_message when you want the model to continue the final message.",
        )
    text = "".join(f"<|{message.role}|>{_content(message)}<|end|>" for message in messages)
    if request.continue_final_message:
        return text.removesuffix("<|end|>")
    return text + "<|assistant|>" if request.add_generation_prompt else text


def _content(message: _Message) -> str:
    if isinstance(message.content, list):
        return "".join(str(part.get("text", "")) for part in message.content)
    return message.content or ""


def _ask(
    request: _Request,
    options: Options,
    text: str,
    prompt_tokens: int,
    *,
    limit: int | None,
    chat: bool = False,
    starts_text: bool = False,
    given_ids: tuple[int, ...] | None = None,
) -> Ask:
    stops = [request.stop] if isinstance(request.stop, str) else request.stop or []
    return Ask(
        chat=chat,
        text=text,
        starts_text=starts_text,
        prompt_tokens=prompt_tokens,
        limit=_limit(limit, prompt_tokens, options),
        may_end=limit is None and not request.ignore_eos,
        stops=tuple(stop for stop in stops if stop),
        stream=bool(request.stream),
        usage=_usage(request.stream_options),
        transfer=request.kv_transfer_params or Transfer(),
        given_ids=given_ids,
    )


def _limit(limit: int | None, prompt_tokens: int, options: Options) -> int:
    if limit is not None and limit < 1:
        raise RefusalError(400, f"max_tokens must be at least 1, got {limit}.", param="max_tokens")
    room = options.max_model_len - prompt_tokens
    if limit is not None and limit > options.max_model_len:
        raise RefusalError(
            400,
            f"max_tokens={limit} cannot be greater than max_model_len={options.max_model_len}.",
            param="max_tokens",
        )
    if room < (limit or 1):
        raise RefusalError(
            400,
            f"This model's maximum context length is {options.max_model_len} tokens. However, "
            f"you asked for {limit or 1} output tokens after {prompt_tokens} input tokens.",
            param="input_tokens",
        )
    return room if limit is None else limit


def _usage(options: _StreamOptions | None) -> UsageEvents:
    if options is None or not options.include_usage:
        return UsageEvents.NONE
    return UsageEvents.EVERY if options.continuous_usage_stats else UsageEvents.LAST
