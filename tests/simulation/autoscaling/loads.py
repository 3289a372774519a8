"""What is asked for: the Azure traces as they were recorded, and a day pressed into four hours.

Of either trace the first half is `EARLY`, on which settings and sizes are chosen, and the second
half is `LATE`, on which they are judged: other requests, of the same kind.
"""

import random
from collections.abc import Callable, Sequence
from math import cos, pi

import msgspec
from simulation.azure import Arrival, arrivals

HALF_S = 1740.0  # of what either trace covers
EARLY, LATE = 0, 1
DAY_HALVES = 8
COPY_S = 131.0  # each copy comes that much later than the one before: other people, alike
NIGHT = 0.15  # of a day's highest rate
CODE_LATER = 0.2  # of a day


class Mix(msgspec.Struct, frozen=True):
    """How many copies of either trace come at once."""

    code: int
    conv: int


def recorded(mix: Mix, *, half: int) -> list[Arrival]:
    """At the rates they were recorded with."""
    return _sorted([*_copies("code", mix.code, half), *_copies("conv", mix.conv, half)])


def day(mix: Mix, *, half: int, seed: int) -> list[Arrival]:
    """A day in 3 hours and 52 minutes: the half eight times, of which more or fewer arrivals are
    taken as the day goes. Code has its highest rate later than conversations, so that what is asked
    for changes in kind as well as in amount.
    """
    draw = random.Random(seed)
    talks, codes = (
        [
            Arrival(one.at_s + part * HALF_S, one.prompt_tokens, one.answer_tokens)
            for part in range(DAY_HALVES)
            for one in _copies(trace, count, half)
        ]
        for trace, count in (("conv", mix.conv), ("code", mix.code))
    )
    day_s = DAY_HALVES * HALF_S
    return _sorted(
        [
            *_thinned(talks, lambda at_s: _wave(at_s / day_s), draw),
            *_thinned(codes, lambda at_s: _wave(at_s / day_s - CODE_LATER), draw),
        ]
    )


def _wave(days: float) -> float:
    """Between NIGHT and 1, which it is at half a day."""
    return NIGHT + (1 - NIGHT) * (1 - cos(2 * pi * days)) / 2


def _copies(trace: str, count: int, half: int) -> list[Arrival]:
    """Those who come after the end come at the beginning."""
    every = arrivals("code" if trace == "code" else "conv")
    from_s = half * HALF_S
    return [
        Arrival((one.at_s - from_s + copy * COPY_S) % HALF_S, one.prompt_tokens, one.answer_tokens)
        for copy in range(count)
        for one in every
        if from_s <= one.at_s < from_s + HALF_S
    ]


def _thinned(
    every: Sequence[Arrival], share: Callable[[float], float], draw: random.Random
) -> list[Arrival]:
    return [one for one in every if draw.random() < share(one.at_s)]


def _sorted(every: Sequence[Arrival]) -> list[Arrival]:
    return sorted(every, key=lambda one: (one.at_s, one.prompt_tokens, one.answer_tokens))
