"""Keys, models and gateway processes for tests of their limits, on a clock that is set by hand."""

import asyncio

from gateway_world import a_declared, a_key, a_table

from gateway.errors import ApiError
from gateway.limits import Estimate, Ledger, Limiter
from registry.state import KeyLimits

NOON = 1_795_608_000.0  # 2026-11-25 12:00 UTC


class Clock:
    """Monotonic and wall time move together."""

    def __init__(self, now=5000.0):
        self.now = now

    def __call__(self):
        return self.now

    def wall(self):
        return NOON + self.now - 5000.0

    def move(self, seconds):
        self.now += seconds


def a_limited(name="alice", **limits):
    """A key with these limits."""
    return a_key(f"mk-{name}", id=f"key_{name}", name=name, limits=KeyLimits(**limits))


def a_row(name="m", *, price=(0, 0), **limits):
    """A model's row; *price* is for a million tokens in and out."""
    model = a_declared(name, limits=limits, price={"input": price[0], "output": price[1]})
    return a_table(models=[model]).models[name]


def tokens(prompt=10, answer=10, *, assumed=False):
    return Estimate(prompt, answer, assumed)


class Process:
    """A gateway process as far as limits go. Several may share a *path*."""

    def __init__(self, clock, path=None):
        self.ledger = Ledger.private() if path is None else Ledger.open(path)
        self.limiter = Limiter(self.ledger, clock=clock, wall_clock=clock.wall)
        self.limiter.spending_read()

    def admit(self, key, row, estimate=None):
        """The permit. Raises ApiError."""
        return asyncio.run(self.limiter.admit(key, row, estimate or tokens()))

    def refusal(self, key, row, estimate=None):
        """The error with which it is not let in."""
        try:
            self.admit(key, row, estimate)
        except ApiError as error:
            return error
        raise AssertionError("it was let in")

    def many(self, key, row, count, estimate=None):
        """The permits of those of *count* requests that are let in."""
        permits = []
        for _ in range(count):
            try:
                permits.append(self.admit(key, row, estimate))
            except ApiError:
                continue
        return permits

    def die(self):
        """As by kill -9: the kernel closes the file, and nobody tidies up."""
        self.ledger.close()
