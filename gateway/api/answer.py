"""What is read of a worker's answer: that it is one, and its usage."""

from collections.abc import Mapping
from typing import Annotated

import msgspec

from gateway.api.operations import Operation
from gateway.errors import BadAnswerError

_Tokens = Annotated[int, msgspec.Meta(ge=0, le=2**40)]


class Usage(msgspec.Struct, frozen=True):
    prompt_tokens: _Tokens = 0
    completion_tokens: _Tokens = 0


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

    def usage(self) -> Usage:
        completion = self.completion_tokens or self.output_tokens or 0
        prompt = self.prompt_tokens if self.prompt_tokens is not None else self.input_tokens
        if prompt is None:
            prompt = max(0, (self.total_tokens or 0) - completion)
        cached = (self.cache_creation_input_tokens or 0) + (self.cache_read_input_tokens or 0)
        return Usage(prompt + cached, completion)


_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_LIST = msgspec.json.Decoder(list[msgspec.Raw])
_COUNTS = msgspec.json.Decoder(Counts)
_DIGITS = tuple(b"%d" % digit for digit in range(10))
# What makes a body an answer to an operation: one of these fields, whose value begins like this.
_SIGNS: Mapping[str, tuple[tuple[str, ...], tuple[bytes, ...]]] = {
    "chat.completions": (("choices",), (b"[",)),
    "completions": (("choices",), (b"[",)),
    "responses": (("output",), (b"[",)),
    "messages": (("content",), (b"[",)),
    "count_tokens": (("input_tokens",), _DIGITS),
    "embeddings": (("data",), (b"[",)),
    "rerank": (("results", "data"), (b"[",)),
    "score": (("data", "scores"), (b"[",)),
    "tokenize": (("tokens",), (b"[",)),
    "detokenize": (("prompt", "text"), (b'"', b"[")),
}


def read_answer(body: bytes, operation: Operation) -> Usage:
    """The usage of a whole answer; zero where it says none, or nonsense.

    Raises BadAnswerError if the body is no answer to *operation* at all.
    """
    fields, signs = _SIGNS[operation.name]
    try:
        if body.startswith(b"[") and operation.name == "rerank":  # SGLang's are a bare list
            _LIST.decode(body)
            return NO_USAGE
        answer = _OBJECT.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        answer = {}
    if not any(bytes(answer[name]).startswith(signs) for name in fields if name in answer):
        raise BadAnswerError(f"The worker's answer is none to {operation.path}.")
    if not operation.metered or "usage" not in answer:
        return NO_USAGE
    try:
        return _COUNTS.decode(answer["usage"]).usage()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return NO_USAGE
