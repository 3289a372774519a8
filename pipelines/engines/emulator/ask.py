"""What a client asks for: its request, checked and brought to one form."""

from collections.abc import Sequence
from enum import Enum
from typing import Any, Literal, TypeVar

import msgspec

from pipelines.engines.emulator.forced import Forced
from pipelines.engines.emulator.options import Options
from pipelines.engines.emulator.text import count_tokens, token_ids

Operation = Literal["chat.completions", "completions", "responses", "messages", "pooling"]
# A request that is malformed is refused before its route knows whose client it came from.
_MALFORMED = "Bad Request"


class RefusalError(Exception):
    """A request the engine answers with an error, in vLLM's own words where they are known."""

    def __init__(
        self, status: int, message: str, *, kind: str = "BadRequestError", param: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.param = param

    def body(self, *, anthropic: bool = False) -> bytes:
        error = {"message": str(self), "type": self.kind}
        if anthropic and self.kind != _MALFORMED:
            return msgspec.json.encode({"type": "error", "error": error})
        place = {"param": self.param, "code": self.status}
        return msgspec.json.encode({"error": error | place})


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
    operation: Operation
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
    choices: int = 1
    logprobs: int | None = None  # of each token, and how many others at its place
    forced: Forced | None = None
    echo: dict[str, Any] = {}  # of the request, what the answer repeats

    @property
    def chat(self) -> bool:
        return self.operation == "chat.completions"

    @property
    def anthropic(self) -> bool:
        return self.operation == "messages"

    def token_ids(self) -> Sequence[int]:
        """The prompt's."""
        return token_ids(self.text) if self.given_ids is None else self.given_ids


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """What may end an answer: *limit* of its tokens (None: all that there is room for), texts."""

    limit: int | None
    stop: str | list[str] | None = None
    ignore_eos: bool = False


_R = TypeVar("_R")


def decode(body: bytes, kind: type[_R]) -> _R:
    try:
        return msgspec.json.decode(body, type=kind, strict=False)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        message, _, path = str(error).partition(" - at `$")
        raise RefusalError(
            400, f"1 validation error: {message}", kind=_MALFORMED, param=f"body{path[:-1]}"
        ) from None


def check_model(name: str | None, options: Options) -> None:
    if name and name != options.model:
        raise RefusalError(
            404,
            f"The model `{name}` does not exist. Valid aliases: {options.model}.",
            kind="NotFoundError",
            param="model",
        )


def rendered(turns: Sequence[tuple[str, str]]) -> str:
    """A conversation, by role and text, as the model would see it."""
    if not turns:
        raise RefusalError(400, "Cannot apply chat template to an empty conversation.")
    return "".join(f"<|{role}|>{text}<|end|>" for role, text in turns) + "<|assistant|>"


def make_ask(
    operation: Operation,
    options: Options,
    text: str,
    bounds: Bounds,
    *,
    starts_text: bool,
    stream: bool,
    transfer: Transfer | None,
    forced: Forced | None,
    given_ids: tuple[int, ...] | None = None,
    echo: dict[str, Any] | None = None,
    usage: UsageEvents = UsageEvents.NONE,
    choices: int = 1,
    logprobs: int | None = None,
) -> Ask:
    """Raises RefusalError where there is no room for the answer."""
    prompt_tokens = count_tokens(text) if given_ids is None else len(given_ids)
    stops = [bounds.stop] if isinstance(bounds.stop, str) else bounds.stop or []
    return Ask(
        operation=operation,
        text=text,
        starts_text=starts_text,
        prompt_tokens=prompt_tokens,
        limit=_limit(bounds.limit, prompt_tokens, options),
        may_end=bounds.limit is None and not bounds.ignore_eos,
        stops=tuple(stop for stop in stops if stop),
        stream=stream,
        usage=usage,
        transfer=transfer or Transfer(),
        given_ids=given_ids,
        forced=forced,
        choices=choices,
        logprobs=logprobs,
        echo=echo or {},
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
