"""What is read of a worker's answer: that it is one, and its usage."""

from typing import Annotated

import msgspec

from gateway.errors import BadAnswerError

_Tokens = Annotated[int, msgspec.Meta(ge=0, le=2**40)]


class _PromptDetails(msgspec.Struct):
    cached_tokens: _Tokens | None = None


_PROMPT_DETAILS = msgspec.json.Decoder(_PromptDetails)


class Usage(msgspec.Struct, frozen=True):
    prompt_tokens: _Tokens = 0
    completion_tokens: _Tokens = 0
    prompt_tokens_details: msgspec.Raw = msgspec.Raw()

    @property
    def cached_tokens(self) -> int:
        """Of the prompt, found in the worker's cache; 0 where it does not say, or nonsense."""
        if not bytes(self.prompt_tokens_details).startswith(b"{"):
            return 0
        try:
            return _PROMPT_DETAILS.decode(self.prompt_tokens_details).cached_tokens or 0
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return 0


NO_USAGE = Usage()


class _Answer(msgspec.Struct):
    choices: list[msgspec.Raw]
    usage: Usage | None = None


class _OddAnswer(msgspec.Struct):
    """One whose usage is nonsense."""

    choices: list[msgspec.Raw]


class _Chunk(msgspec.Struct):
    usage: Usage | None = None


_ANSWER = msgspec.json.Decoder(_Answer)
_CHUNK = msgspec.json.Decoder(_Chunk)
_ODD_ANSWER = msgspec.json.Decoder(_OddAnswer)
_NO_COMPLETION = "The worker's answer is not a completion."


def read_answer(body: bytes) -> Usage:
    """The usage of a whole answer; zero where it says none, or nonsense.

    Raises BadAnswerError if the body is no completion at all.
    """
    try:
        return _ANSWER.decode(body).usage or NO_USAGE
    except msgspec.ValidationError:
        pass
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadAnswerError(_NO_COMPLETION) from None
    try:
        _ODD_ANSWER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadAnswerError(_NO_COMPLETION) from None
    return NO_USAGE


def read_chunk_usage(data: bytes) -> Usage:
    """The usage of one streamed chunk; zero where it says none, or nonsense."""
    try:
        return _CHUNK.decode(data).usage or NO_USAGE
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return NO_USAGE
