"""The emulator's language: a greedy model's answers without the model.

Each token follows from the whole text before it (seed, model, prompt, tokens so far) by a checksum
that can be carried on. So an answer is a pure function of its prompt, and a prompt that ends with
the first tokens of an answer is continued exactly as that answer went on.
"""

import re
import zlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

WORDS = [
    "the",
    "a",
    "one",
    "this",
    "that",
    "every",
    "no",
    "some",
    "of",
    "in",
    "on",
    "with",
    "from",
    "to",
    "by",
    "for",
    "at",
    "as",
    "is",
    "was",
    "has",
    "can",
    "will",
    "gives",
    "takes",
    "keeps",
    "moves",
    "holds",
    "sees",
    "makes",
    "turns",
    "river",
    "stone",
    "light",
    "engine",
    "token",
    "water",
    "morning",
    "city",
    "garden",
    "letter",
    "number",
    "signal",
    "bridge",
    "window",
    "paper",
    "engine's",
    "small",
    "quick",
    "old",
    "bright",
    "quiet",
    "heavy",
    "open",
    "early",
    "naïve",
    "façade",
    "München",
    "東京",
    "данные",
    "🙂",
    "“so”",
    "slowly",
    "often",
    "there",
    "here",
    "and",
    "or",
    "but",
    "then",
    "not",
]
_MARKS = (",", ".", ":", '"', "\n")
# One answer in this many tokens ends by itself.
_TOKENS_PER_ANSWER = 48
# A token of any text: a chat's mark; a word of a few letters, with the space before it; or one
# character. All that the emulator says is one token by this, as it was when it was said.
_PIECE = re.compile(r"<\|\w*\|>| ?[^\s,.:\"<]{1,9}|[\s\S]")
_HASHED_FROM, _HASHED = 1000, 100_000  # ids of what the emulator does not say


class Token(NamedTuple):
    text: str
    utf8: bytes
    json: bytes  # the text as a JSON string


def make_token(text: str) -> Token:
    return Token(text, text.encode(), msgspec.json.encode(text))


_INNER = tuple(make_token(f" {word}") for word in WORDS) + tuple(map(make_token, _MARKS))
_FIRST = tuple(map(make_token, WORDS))  # where no text comes before, no space does
_TEXTS = {number: token.text for number, token in enumerate((*_INNER, *_FIRST), start=1)}
_IDS = {text: number for number, text in _TEXTS.items()}


def state_of(seed: int, model: str, text: str) -> int:
    """What the next token depends on after *text*."""
    return zlib.crc32(
        text.encode("utf-8", "surrogatepass"), zlib.crc32(f"{seed}\0{model}\0".encode())
    )


def tokens(state: int, *, starts_text: bool, may_end: bool) -> Iterator[Token]:
    """The tokens that follow *state*: without end, or until the answer ends if it *may_end*.

    *starts_text*: the answer is a text of its own (a chat message), not the rest of one.
    """
    vocabulary = _FIRST if starts_text else _INNER
    while True:
        mixed = (state * 0x9E3779B1) & 0xFFFFFFFF
        mixed ^= mixed >> 16
        if may_end and vocabulary is _INNER and mixed // 1024 % _TOKENS_PER_ANSWER == 0:
            return
        token = vocabulary[mixed % len(vocabulary)]
        vocabulary = _INNER
        state = zlib.crc32(token.utf8, state)
        yield token


def token_ids(text: str) -> list[int]:
    """A text's tokens. Those of a text and its continuation are the text's and then exactly the
    ones that were generated, as an engine's own would be.
    """
    return [_IDS.get(piece) or _hashed(piece) for piece in _PIECE.findall(text)]


def count_tokens(text: str) -> int:
    """How many `token_ids` has."""
    return len(_PIECE.findall(text))


def pieces(text: str) -> list[Token]:
    """A given text, as the tokens that it would be said in."""
    return [make_token(piece) for piece in _PIECE.findall(text)]


def text_of(ids: Iterable[int]) -> str:
    """What a prompt of token ids says. Only the emulator's own words can be read back."""
    return "".join(_TEXTS.get(token, f" {token}") for token in ids)


def _hashed(piece: str) -> int:
    return _HASHED_FROM + zlib.crc32(piece.encode("utf-8", "surrogatepass")) % _HASHED
