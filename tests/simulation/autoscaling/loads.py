"""What is asked for: the Azure traces as they were recorded, and a day pressed into four hours."""

import random
from collections.abc import Callable, Sequence
from math import cos, pi

from simulation.azure import Arrival, arrivals

TRACE_S = 3480.0  # what either trace covers
DAY_TRACES = 4
COPY_S = 131.0  # each copy comes that much later than the one before: other people, alike
NIGHT = 0.15  # of a day's highest rate
CODE_LATER = 0.2  # of a day


def recorded(*, code: int, conv: int) -> list[Arrival]:
    """So many copies of both at once, at the rates they were recorded with."""
    return _sorted([*_copies("code", code), *_copies("conv", conv)])


def day(*, code: int, conv: int, seed: int) -> list[Arrival]:
    """A day in 3 hours and 52 minutes: the traces four times, of which more or fewer arrivals are
    taken as the day goes. Code has its highest rate later than conversations, so that what is asked
    for changes in kind as well as in amount.
    """
    draw = random.Random(seed)
    talks, codes = (
        [
            Arrival(one.at_s + part * TRACE_S, one.prompt_tokens, one.answer_tokens)
            for part in range(DAY_TRACES)
            for one in _copies(trace, count)
        ]
        for trace, count in (("conv", conv), ("code", code))
    )
    day_s = DAY_TRACES * TRACE_S
    return _sorted(
        [
            *_thinned(talks, lambda at_s: _wave(at_s / day_s), draw),
            *_thinned(codes, lambda at_s: _wave(at_s / day_s - CODE_LATER), draw),
        ]
    )


def _wave(days: float) -> float:
    """Between NIGHT and 1, which it is at half a day."""
    return NIGHT + (1 - NIGHT) * (1 - cos(2 * pi * days)) / 2


def _copies(trace: str, count: int) -> list[Arrival]:
    """Those who come after the end come at the beginning."""
    every = arrivals("code" if trace == "code" else "conv")
    return [
        Arrival((one.at_s + copy * COPY_S) % TRACE_S, one.prompt_tokens, one.answer_tokens)
        for copy in range(count)
        for one in every
    ]


def _thinned(
    every: Sequence[Arrival], share: Callable[[float], float], draw: random.Random
) -> list[Arrival]:
    return [one for one in every if draw.random() < share(one.at_s)]


def _sorted(every: Sequence[Arrival]) -> list[Arrival]:
    return sorted(every, key=lambda one: (one.at_s, one.prompt_tokens, one.answer_tokens))
