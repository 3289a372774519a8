"""The Azure LLM inference traces of 2023, as arrivals from time 0."""

from functools import cache
from pathlib import Path
from typing import Literal

import msgspec

from pipelines.planner.traces import read

_FOLDER = Path(__file__).parent / "traces"


class Arrival(msgspec.Struct, frozen=True):
    at_s: float
    prompt_tokens: int
    answer_tokens: int


@cache
def arrivals(trace: Literal["code", "conv"]) -> tuple[Arrival, ...]:
    """In the order of their arrival: 8,819 of code, 19,366 of conversations, in 58 minutes each."""
    found = read(_FOLDER / f"azure_{trace}_2023.csv.gz")
    return tuple(Arrival(one.at_s, one.length.prompt, one.length.answer) for one in found)
