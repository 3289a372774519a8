"""What is asked of a model, and what its users are promised."""

from collections.abc import Iterable
from enum import StrEnum
from functools import cached_property
from math import exp, gcd, log1p
from statistics import NormalDist

import msgspec

from registry.spec.demand import Slo

SHARE = 0.95  # of the requests that must be answered within the SLO
ALL_SERVED = 0.999  # of a model's traffic: more is taken for all of it
SAMPLES = 32
ENGINES = ("vllm", "sglang")  # those that there is data of, by the names it has them by
ENGINES_MEASURED = (*ENGINES, "emulator")  # those that can be measured here


class Objective(StrEnum):
    """What a plan is best in. Either takes, of plans that serve as much, the one of the least cost,
    and of those the one of the fewest devices.
    """

    GOODPUT = "goodput"  # the greatest weighted sum of the shares of the traffic that are served
    DEVICES = "devices"  # all of the traffic is served, or there is no plan


class Length(msgspec.Struct, frozen=True):
    """Tokens of one request."""

    prompt: int
    answer: int


class Demand(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """Requests a second of *lengths* that stand for all, each as likely as the other, and within
    *slo*, per request: time to first token, and mean time per token after it. *headroom* is what
    more it is planned for, as a part of *rate*. *longest_tokens*: of the longest request, where
    none of *lengths* stands for it.
    """

    model: str
    rate: float
    lengths: tuple[Length, ...]
    slo: Slo
    share: float = SHARE
    weight: float = 1.0
    headroom: float = 0.0
    longest_tokens: int = 0

    @property
    def planned(self) -> "Demand":
        """What to plan for: its headroom is in its rate."""
        if not self.headroom:
            return self
        return msgspec.structs.replace(self, rate=self.rate * (1 + self.headroom), headroom=0.0)

    @cached_property
    def prompt(self) -> float:
        return sum(length.prompt for length in self.lengths) / len(self.lengths)

    @cached_property
    def answer(self) -> float:
        return sum(length.answer for length in self.lengths) / len(self.lengths)

    @cached_property
    def longest(self) -> int:
        """Tokens that any worker must have room for."""
        return max(self.longest_tokens, longest(self.lengths))


def spread(prompt: float, answer: float, cv: float, samples: int = SAMPLES) -> tuple[Length, ...]:
    """Lengths of these means and one coefficient of variation, log-normal and not tied to each
    other: evenly spaced quantiles, those of the answers taken in another order.
    """
    if cv <= 0:
        return (Length(round(prompt), round(answer)),)
    step = _coprime(samples)
    return tuple(
        Length(
            _quantile(prompt, cv, (i + 0.5) / samples),
            _quantile(answer, cv, ((i * step) % samples + 0.5) / samples),
        )
        for i in range(samples)
    )


def longest(lengths: Iterable[Length]) -> int:
    """Tokens of the longest request, its answer included."""
    return max(length.prompt + length.answer for length in lengths)


def sampled(lengths: list[Length], samples: int = SAMPLES) -> tuple[Length, ...]:
    """Of many, by the order of their prompts, evenly spaced ones."""
    if len(lengths) <= samples:
        return tuple(lengths)
    ordered = sorted(lengths, key=lambda one: (one.prompt, one.answer))
    return tuple(ordered[int((i + 0.5) * len(ordered) / samples)] for i in range(samples))


def _quantile(mean: float, cv: float, part: float) -> int:
    sigma2 = log1p(cv * cv)
    z = NormalDist().inv_cdf(part)
    return max(1, round(mean * exp(z * sigma2**0.5 - sigma2 / 2)))


def _coprime(samples: int) -> int:
    """Near the golden section of *samples*, and without a common divisor with it."""
    step = max(1, round(samples * 0.618))
    while gcd(step, samples) != 1:
        step += 1
    return step
