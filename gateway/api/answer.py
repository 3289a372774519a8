"""What is read of a worker's answer: that it is one, and its usage."""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from gateway.api.operations import Operation
from gateway.errors import BadAnswerError

_Tokens = Annotated[int, msgspec.Meta(ge=0, le=2**40)]


class Usage(msgspec.Struct, frozen=True):
    prompt_tokens: _Tokens = 0
    completion_tokens: _Tokens = 0
    cached_tokens: _Tokens = 0  # of the prompt, found in the worker's KV cache


NO_USAGE = Usage()


class Counts(msgspec.Struct, frozen=True):
    """Usage as any dialect writes it: OpenAI's first two, Responses' and Anthropic's next two, and
    of Anthropic what its input tokens leave out. Where nothing is generated some engines say no
    more than the total.
    """

    prompt_tokens: _Tokens | None = None
    completion_tokens: _Tokens | None = None
    input_tokens: _Tokens | None = None
    output_tokens: _Tokens | None = None
    cache_creation_input_tokens: _Tokens | None = None
    cache_read_input_tokens: _Tokens | None = None
    total_tokens: _Tokens | None = None
    # Raw, since nonsense in them must not cost the counts.
    prompt_tokens_details: msgspec.Raw = msgspec.Raw()
    input_tokens_details: msgspec.Raw = msgspec.Raw()

    def usage(self) -> Usage:
        completion = self.completion_tokens or self.output_tokens or 0
        cached = self.cache_read_input_tokens or 0
        if self.prompt_tokens is not None:  # all of it, whatever else is told beside it
            prompt = self.prompt_tokens
        elif self.input_tokens is not None:
            prompt = self.input_tokens + cached + (self.cache_creation_input_tokens or 0)
        else:
            prompt = max(0, (self.total_tokens or 0) - completion)
        for details in (self.prompt_tokens_details, self.input_tokens_details):
            cached = cached or _cached_tokens(bytes(details))
        return Usage(prompt, completion, cached)


class _Details(msgspec.Struct):
    cached_tokens: _Tokens | None = None


class _Answer(msgspec.Struct):
    usage: Counts | None = None


_DETAILS = msgspec.json.Decoder(_Details)
_ANSWER = msgspec.json.Decoder(_Answer)
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_LIST = msgspec.json.Decoder(list[msgspec.Raw])
_COUNTS = msgspec.json.Decoder(Counts)
_RAWS = list[msgspec.Raw]
# What makes a body an answer to an operation: one of these fields, with such a value.
_SIGNS: Mapping[str, Mapping[str, Any]] = {
    "chat.completions": {"choices": _RAWS},
    "completions": {"choices": _RAWS},
    "responses": {"output": _RAWS},
    "messages": {"content": _RAWS},
    "count_tokens": {"input_tokens": int},
    "embeddings": {"data": _RAWS},
    "rerank": {"results": _RAWS},
    "score": {"data": _RAWS, "scores": _RAWS},
    "tokenize": {"tokens": _RAWS},
    "detokenize": {"prompt": str, "text": str | _RAWS},
}


def _decoder(field: str, kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(
        msgspec.defstruct("Answer", [(field, kind), ("usage", Counts | None, None)])
    )


# The usual form of each, at once with its usage.
_USUAL = {name: _decoder(*next(iter(signs.items()))) for name, signs in _SIGNS.items()}


def read_answer(body: bytes, operation: Operation) -> Usage:
    """The usage of a whole answer; zero where it says none, or nonsense.

    Raises BadAnswerError if the body is no answer to *operation* at all.
    """
    try:
        counts: Counts | None = _USUAL[operation.name].decode(body).usage
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        counts = _unusual(body, operation)
    return counts.usage() if counts is not None and operation.metered else NO_USAGE


def _unusual(body: bytes, operation: Operation) -> Counts | None:
    try:
        if body.startswith(b"[") and operation.name == "rerank":  # SGLang's are a bare list
            _LIST.decode(body)
            return None
        answer = _OBJECT.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        answer = {}
    if not any(
        _is(kind, answer[name]) for name, kind in _SIGNS[operation.name].items() if name in answer
    ):
        raise BadAnswerError(f"The worker's answer is none to {operation.path}.")
    try:
        return _COUNTS.decode(answer["usage"]) if "usage" in answer else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _is(kind: Any, value: msgspec.Raw) -> bool:
    try:
        msgspec.json.decode(value, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def read_usage(body: bytes) -> Usage:
    """The usage of what is known to be an answer; zero where it says none, or nonsense."""
    try:
        counts = _ANSWER.decode(body).usage
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return NO_USAGE
    return NO_USAGE if counts is None else counts.usage()


def _cached_tokens(details: bytes) -> int:
    if not details.startswith(b"{"):
        return 0
    try:
        return _DETAILS.decode(details).cached_tokens or 0
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return 0
