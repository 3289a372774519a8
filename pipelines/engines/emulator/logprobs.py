"""Log probabilities of tokens, in the two forms of the API. A pure function of the token."""

import itertools
import zlib
from collections.abc import Sequence
from typing import Any

from pipelines.engines.emulator.text import WORDS, Token


def of_chat(tokens: Sequence[Token], top: int) -> dict[str, Any]:
    return {"content": [_chat_token(token, top) for token in tokens]}


def of_completion(tokens: Sequence[Token], top: int, offset: int = 0) -> dict[str, Any]:
    """*offset* is how many characters of the answer come before."""
    ends = itertools.accumulate((len(token.text) for token in tokens), initial=offset)
    return {
        "text_offset": list(ends)[:-1],
        "token_logprobs": [_logprob(token.text) for token in tokens],
        "tokens": [token.text for token in tokens],
        "top_logprobs": [dict(_best(token, max(top, 1))) for token in tokens],
    }


def _chat_token(token: Token, top: int) -> dict[str, Any]:
    best = [_entry(text, logprob) for text, logprob in _best(token, top)]
    return {**_entry(token.text, _logprob(token.text)), "top_logprobs": best}


def _entry(text: str, logprob: float) -> dict[str, Any]:
    return {"token": text, "logprob": logprob, "bytes": list(text.encode())}


def _best(token: Token, top: int) -> list[tuple[str, float]]:
    """The token itself, and others that are less likely."""
    first = _logprob(token.text)
    others = (word for word in WORDS if word != token.text)
    found = [(text, first - 1.0 - rank) for rank, text in enumerate(itertools.islice(others, top))]
    return [(token.text, first), *found][:top]


def _logprob(text: str) -> float:
    return -(zlib.crc32(text.encode()) % 1000 + 1) / 1000
