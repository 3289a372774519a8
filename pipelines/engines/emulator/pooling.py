"""Models that give no tokens: embeddings, rankings and scores, in vLLM's shapes.

A vector is the sum of what a text's tokens add, each to a few places of its own: so texts that
share words are near to each other, the same text has the same vector, and no model is needed.
"""

import base64
import math
import struct
import zlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import msgspec

from pipelines.engines.emulator.ask import Ask, RefusalError, Transfer, UsageEvents, decode
from pipelines.engines.emulator.options import Options
from pipelines.engines.emulator.text import count_tokens, text_of, token_ids

_PLACES_PER_TOKEN = 8
_ENCODINGS = ("float", "base64")

Vector = tuple[float, ...]


class Pooled(msgspec.Struct, frozen=True, kw_only=True):
    """An answer that is ready, and how many tokens it took to read the request."""

    body: dict[str, Any]
    prompt_tokens: int
    kind: str = "score"

    def ask(self) -> Ask:
        return Ask(
            operation="pooling",
            text="",
            starts_text=False,
            prompt_tokens=self.prompt_tokens,
            limit=0,
            may_end=False,
            stops=(),
            stream=False,
            usage=UsageEvents.NONE,
            transfer=Transfer(),
        )

    def answer(self, request_id: str, *, created: int) -> bytes:
        body = {"id": f"{self.kind}-{request_id}", **self.body}
        return msgspec.json.encode(body | {"created": created} if "object" in body else body)


class _Embeddings(msgspec.Struct, kw_only=True):
    input: str | list[str | int | list[int]]
    model: str | None = None
    encoding_format: str = "float"
    dimensions: int | None = None


class _Document(msgspec.Struct):
    text: str


class _Rerank(msgspec.Struct, kw_only=True):
    query: str
    documents: list[str | _Document]
    model: str | None = None
    top_n: int = 0


_Texts = str | list[str] | None


class _Score(msgspec.Struct, kw_only=True):
    model: str | None = None
    text_1: _Texts = None
    text_2: _Texts = None
    queries: _Texts = None
    documents: _Texts = None


def embed(content: bytes, options: Options) -> Pooled:
    """Raises RefusalError."""
    request = decode(content, _Embeddings)
    _check_model(request.model, options)
    if request.encoding_format not in _ENCODINGS:
        message = f"1 validation error: encoding_format is not one of {', '.join(_ENCODINGS)}"
        raise RefusalError(400, message, kind="Bad Request", param="body.encoding_format")
    dimensions = _dimensions(request.dimensions, options)
    texts = _inputs(request.input)
    tokens = _count(texts, options)
    data = [
        {
            "index": index,
            "object": "embedding",
            "embedding": _encoded(_vector(text, dimensions, options), request.encoding_format),
        }
        for index, text in enumerate(texts)
    ]
    body = {"object": "list", "model": options.model, "data": data, "usage": _usage(tokens)}
    return Pooled(body=body, prompt_tokens=tokens, kind="embd")


def rerank(content: bytes, options: Options) -> Pooled:
    """Raises RefusalError."""
    request = decode(content, _Rerank)
    _check_model(request.model, options)
    texts = [each if isinstance(each, str) else each.text for each in request.documents]
    tokens = _count([request.query, *texts], options)
    scored = [(similarity(request.query, text, options), index) for index, text in enumerate(texts)]
    best = sorted(scored, key=lambda each: (-each[0], each[1]))[: request.top_n or None]
    results = [
        {
            "index": index,
            "document": {"text": texts[index], "multi_modal": None},
            "relevance_score": score,
        }
        for score, index in best
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    body = {"model": options.model, "usage": usage, "results": results}
    return Pooled(body=body, prompt_tokens=tokens)


def score(content: bytes, options: Options) -> Pooled:
    """Raises RefusalError."""
    request = decode(content, _Score)
    _check_model(request.model, options)
    first = _texts(request.text_1 if request.queries is None else request.queries)
    second = _texts(request.text_2 if request.documents is None else request.documents)
    if not first or not second or len(first) not in (1, len(second)):
        raise RefusalError(400, "Input lengths must be either 1:1, 1:N or N:N")
    tokens = _count([*first, *second], options)
    pairs = zip(first * (len(second) // len(first)), second, strict=True)
    data = [
        {"index": index, "object": "score", "score": similarity(*pair, options)}
        for index, pair in enumerate(pairs)
    ]
    body = {"object": "list", "model": options.model, "data": data, "usage": _usage(tokens)}
    return Pooled(body=body, prompt_tokens=tokens)


def similarity(one: str, other: str, options: Options) -> float:
    """Of two texts, -1 to 1: the cosine of their vectors."""
    dimensions = options.embedding_dimensions
    pair = zip(_vector(one, dimensions, options), _vector(other, dimensions, options), strict=True)
    return sum(a * b for a, b in pair)


def _vector(text: str, dimensions: int, options: Options) -> Vector:
    """Of length 1. Fewer *dimensions* are the first ones of the whole."""
    whole = [0.0] * options.embedding_dimensions
    for token in token_ids(text) or [0]:
        for place, value in _parts(token, options.seed):
            whole[place % len(whole)] += value
    part = whole[:dimensions]
    length = math.sqrt(sum(value * value for value in part)) or 1.0
    return tuple(value / length for value in part)


@lru_cache(maxsize=65_536)
def _parts(token: int, seed: int) -> tuple[tuple[int, float], ...]:
    """What one token adds: places and values."""
    hashed = [zlib.crc32(f"{seed} {token} {n}".encode()) for n in range(_PLACES_PER_TOKEN)]
    return tuple((each >> 1, 1.0 if each & 1 else -1.0) for each in hashed)


def _encoded(vector: Vector, encoding: str) -> Sequence[float] | str:
    if encoding == "base64":
        return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
    return vector


def _dimensions(wanted: int | None, options: Options) -> int:
    if wanted is None:
        return options.embedding_dimensions
    if not options.matryoshka:
        raise RefusalError(
            400,
            f"Model '{options.model}' does not support Matryoshka embeddings; dimensions must be "
            f"unset (received dimensions={wanted}).",
        )
    if not 1 <= wanted <= options.embedding_dimensions:
        raise RefusalError(
            400, f"dimensions must be 1 to {options.embedding_dimensions}, got {wanted}."
        )
    return wanted


def _inputs(given: str | list[str | int | list[int]]) -> list[str]:
    """The texts: one, several, or as token ids."""
    if isinstance(given, str):
        return [given]
    ids = [item for item in given if isinstance(item, int)]
    if ids and len(ids) == len(given):
        return [text_of(ids)]
    return [
        item if isinstance(item, str) else text_of(item)
        for item in given
        if not isinstance(item, int)
    ]


def _texts(given: _Texts) -> list[str]:
    return [given] if isinstance(given, str) else given or []


def _count(texts: Sequence[str], options: Options) -> int:
    """Of all tokens. Raises RefusalError for a text that is too long, or for none at all."""
    if not texts:
        raise RefusalError(400, "The request holds no input.", param="input")
    counts = [count_tokens(text) for text in texts]
    if max(counts) > options.max_model_len:
        raise RefusalError(
            400,
            f"This model's maximum context length is {options.max_model_len} tokens. However, "
            f"your prompt contains {max(counts)} tokens. Please reduce its length.",
            param="input_text",
        )
    return sum(counts)


def _check_model(name: str | None, options: Options) -> None:
    if name and name != options.model:
        raise RefusalError(404, f"The model `{name}` does not exist.", kind="NotFoundError")


def _usage(tokens: int) -> dict[str, Any]:
    return {
        "prompt_tokens": tokens,
        "total_tokens": tokens,
        "completion_tokens": 0,
        "prompt_tokens_details": None,
        "completion_tokens_details": None,
    }
