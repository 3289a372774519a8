"""A client's request body: parsed once, checked where the gateway acts on it, else untouched.

The top level becomes a dict whose values stay as they came. What goes to a worker is encoded from
that dict, never the client's own bytes: so a key that comes twice cannot mean one thing here and
another thing there.
"""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from gateway.api.media import check_media
from gateway.api.operations import Dialect, Operation
from gateway.api.prompts import MEDIA_FIELDS, prompt_bytes, prompt_tokens
from gateway.api.refusals import check_body
from gateway.errors import BadRequestError
from pipelines.engines.base import Body

ANSWERS_PER_REQUEST_MAX = 128
# Far above what engines allow by default (20), far below a whole vocabulary.
LOGPROBS_MAX = 1024
_TOKENS_MAX = 2**31 - 1

_Count = Annotated[int, msgspec.Meta(ge=1, le=_TOKENS_MAX)]
_Answers = Annotated[int, msgspec.Meta(ge=1, le=ANSWERS_PER_REQUEST_MAX)]
_Logprobs = Annotated[int, msgspec.Meta(ge=0, le=LOGPROBS_MAX)]


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _ToolChoice(msgspec.Struct):
    type: Any = None


class _Metadata(msgspec.Struct):
    user_id: Any = None


def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


_BODY: msgspec.json.Decoder[Body] = msgspec.json.Decoder(dict[str, msgspec.Raw])
_METADATA = _decoder(_Metadata)
_TOOL_CHOICE = _decoder(_ToolChoice | None)
_MODEL = _decoder(Annotated[str, msgspec.Meta(min_length=1)])
_STREAM = _decoder(bool | None)
_LIMIT = _decoder(_Count | None)
# What is read of a body that is to be answered with tokens; of others, the model alone.
_FIELDS = {
    "model": _MODEL,
    "stream": _STREAM,
    "max_tokens": _LIMIT,
    "max_completion_tokens": _LIMIT,
    "max_output_tokens": _LIMIT,
    "min_tokens": _decoder(Annotated[int, msgspec.Meta(ge=0, le=_TOKENS_MAX)] | None),
    "n": _decoder(_Answers | None),
    "best_of": _decoder(_Answers | None),
    "logprobs": _decoder(bool | _Logprobs | None),
    "top_logprobs": _decoder(_Logprobs | None),
    "prompt_logprobs": _decoder(_Logprobs | None),
}
_OPTIONS = _decoder(_StreamOptions | None)
_ONLY_MODEL = {"model": _MODEL, "stream": _STREAM}
# How an operation's answer is bounded: the first that is given counts.
_LIMITS: Mapping[str, tuple[str, ...]] = {
    "chat.completions": ("max_completion_tokens", "max_tokens"),
    "completions": ("max_tokens",),
    "responses": ("max_output_tokens",),
    "messages": ("max_tokens",),
}
# What engines take for a completion that gives no bound. Others go on until their context is full.
_COMPLETION_TOKENS = 16
# With one of these set, an engine answers in more than one sequence, reads the prompt again on
# decode, or cuts it by the answer's bound; the P/D protocol carries one prompt and one answer.
_UNPAIRED = (
    *("best_of", "echo", "n", "prompt_logprobs", "use_beam_search"),
    *("truncate_prompt_tokens", "truncation"),
)
_PAIRED_VALUES = frozenset({b"1", b"null", b"false", b'"disabled"'})
# The body's own words for who talks: the first that is given.
_SESSIONS = ("prompt_cache_key", "user")
_SESSION_BYTES_MAX = 256
_WITH_USAGE = msgspec.Raw(b'{"include_usage":true}')
_FALSE = msgspec.Raw(b"false")
_NULL = msgspec.Raw(b"null")


class InferenceRequest(msgspec.Struct, frozen=True, kw_only=True):
    """*body* is what a worker gets; a streamed one always asks for usage, and *wants_usage* says
    whether the client did too. *answers* is how many are asked for at once, *answer_tokens* how
    long each may be (None: until the context is full).
    """

    operation: Operation
    body: Body
    model: str
    stream: bool
    wants_usage: bool
    answers: int = 1
    answer_tokens: int | None = None

    def prompt(self) -> bytes:
        """The raw JSON of what is to be answered."""
        return prompt_bytes(self.body, self.operation)

    def prompt_tokens(self) -> int | None:
        """How long the prompt is: exact for token ids, else an estimate, a quarter of its UTF-8
        bytes as JSON. None for several prompts that are answered one by one.
        """
        return prompt_tokens(self.body, self.operation)

    def answer_tokens_max(self) -> int | None:
        """How many tokens may come back, all answers together; None if nothing bounds them."""
        return None if self.answer_tokens is None else self.answer_tokens * self.answers

    def session(self) -> str:
        """What the client calls its conversation, by the fields that its dialect has for it."""
        for name in _SESSIONS:
            raw = self.body.get(name)
            if raw is not None and bytes(raw).startswith(b'"'):
                return bytes(raw)[1:-1][:_SESSION_BYTES_MAX].decode(errors="replace")
        if self.operation.dialect is Dialect.ANTHROPIC and "metadata" in self.body:
            return _user(self.body["metadata"])
        return ""

    def fits_pair(self, bypass_tokens: int) -> bool:
        """Whether prefill and decode apart can serve it, and its prompt is long enough for it."""
        body = self.body
        if any(bytes(body[name]) not in _PAIRED_VALUES for name in _UNPAIRED if name in body):
            return False
        if self.operation.dialect is Dialect.ANTHROPIC and _names_a_tool(body):
            return False
        tokens = self.prompt_tokens()
        return tokens is not None and (not bypass_tokens or tokens >= bypass_tokens)


def parse_request(operation: Operation, data: bytes) -> InferenceRequest:
    """Raises BadRequestError, with the field's name as its param."""
    body = _parse_body(data)
    check_body(body, operation)
    readers = _FIELDS if operation.generates else _ONLY_MODEL
    given = {name: _field(name, body[name], readers[name]) for name in body if name in readers}
    if "model" not in given:
        raise BadRequestError("The field 'model' is missing.", param="model")
    for name in MEDIA_FIELDS[operation.name]:
        if name in body:
            check_media(name, bytes(body[name]))
    stream = bool(given.get("stream"))
    if stream and not operation.streams:
        raise BadRequestError(f"{operation.path} does not stream.", param="stream")
    if operation.dialect is Dialect.RESPONSES:
        body["store"] = _FALSE  # no worker keeps answers
    return InferenceRequest(
        operation=operation,
        body=body,
        model=given["model"],
        stream=stream,
        wants_usage=_ask_for_usage(body, operation, stream=stream),
        answers=max(given.get("n") or 1, given.get("best_of") or 1),
        answer_tokens=_answer_tokens(given, operation),
    )


def _answer_tokens(given: Mapping[str, Any], operation: Operation) -> int | None:
    if not operation.generates:
        return 0
    for name in _LIMITS[operation.name]:
        limit: int | None = given.get(name)
        if limit is not None:
            return limit
    return _COMPLETION_TOKENS if operation.name == "completions" else None


def _ask_for_usage(body: Body, operation: Operation, *, stream: bool) -> bool:
    """Puts it into *body* where it is to be asked for. Whether the client gets to see it."""
    if operation.dialect is not Dialect.OPENAI or not operation.generates:
        return True
    raw = body.get("stream_options")
    options = None if raw is None else _field("stream_options", raw, _OPTIONS)
    if stream:
        body["stream_options"] = _with_usage(body) if options else _WITH_USAGE
    return bool(options and options.include_usage)


def _parse_body(data: bytes) -> Body:
    try:
        if not data.isascii():
            data.decode()  # msgspec does not check strings that stay raw
        return _BODY.decode(data)
    except msgspec.ValidationError:
        raise BadRequestError("The body must be a JSON object.") from None
    except msgspec.DecodeError as error:
        raise BadRequestError(f"The body is not valid JSON: {error}") from None
    except UnicodeDecodeError:
        raise BadRequestError("The body is not valid UTF-8.") from None
    except RecursionError:
        raise BadRequestError("The body is nested too deeply.") from None


def _field(name: str, raw: msgspec.Raw, decoder: msgspec.json.Decoder[Any]) -> Any:
    try:
        return decoder.decode(raw)
    except msgspec.DecodeError as error:
        raise BadRequestError(f"The field '{name}': {error}", param=name) from None


def _names_a_tool(body: Body) -> bool:
    """VLLM reads that tool's arguments as JSON, of the one token that prefill gives, too: it would
    refuse the request.
    """
    try:
        choice = _TOOL_CHOICE.decode(body.get("tool_choice", _NULL))
    except msgspec.DecodeError:
        return False
    return choice is not None and choice.type == "tool"


def _user(metadata: msgspec.Raw) -> str:
    try:
        user = _METADATA.decode(metadata).user_id
    except msgspec.DecodeError:
        return ""
    return user[:_SESSION_BYTES_MAX] if isinstance(user, str) else ""


def _with_usage(body: Body) -> msgspec.Raw:
    options = _BODY.decode(body["stream_options"])
    options["include_usage"] = msgspec.Raw(b"true")
    return msgspec.Raw(msgspec.json.encode(options))
