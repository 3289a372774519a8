"""The Mooncake conversation trace: one hour of a production chat service (README.md)."""

import gzip
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from random import Random
from typing import NamedTuple

BLOCK_TOKENS = 512
BLOCK_IDS = 16
_FILE = Path(__file__).with_name("mooncake_conversation.txt.gz")
# Arrivals are recorded on a grid of 3 s; within it they are spread by chance.
_GRID_S = 3.0


class Request(NamedTuple):
    """*blocks* are the prompt's whole blocks: equal ids mean that all up to there is equal."""

    at_s: float
    prompt_tokens: int
    output_tokens: int
    blocks: tuple[int, ...]


def read_trace() -> list[Request]:
    with gzip.open(_FILE, "rt") as lines:
        return [_request(line) for line in lines]


def replayed(trace: list[Request], *, speed: float, seed: int) -> list[Request]:
    """The trace *speed* times as fast, its arrivals spread over the grid they were recorded on."""
    chance = Random(seed)
    spread = [
        request._replace(at_s=(request.at_s + chance.random() * _GRID_S) / speed)
        for request in trace
    ]
    return sorted(spread, key=lambda request: request.at_s)


def token_ids(blocks: Iterable[int]) -> list[int]:
    """Made up, and one for every 32 tokens to save time: a block's are all the block's id."""
    return list(chain.from_iterable([block] * BLOCK_IDS for block in blocks))


def _request(line: str) -> Request:
    at_ms, prompt_tokens, output_tokens, runs = line.split()
    blocks: list[int] = []
    for run in runs.split(","):
        first, _, last = run.partition("-")
        blocks.extend(range(int(first), int(last or first) + 1))
    whole = int(prompt_tokens) // BLOCK_TOKENS
    return Request(int(at_ms) / 1000, int(prompt_tokens), int(output_tokens), tuple(blocks[:whole]))
