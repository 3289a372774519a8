"""Plain numbers that requests leave behind, until somebody scrapes them: `gateway/metrics.py` puts
them into Prometheus' form. A request costs a few additions here, a token none. Pure.
"""

from bisect import bisect_left
from itertools import accumulate

# From a gateway's own overhead to a long prompt behind a full queue.
SECONDS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600),
)
TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.25, 0.5, 1, 5)


class Times:
    """A histogram's numbers."""

    __slots__ = ("_bounds_s", "_counts", "_sum_s")

    def __init__(self, bounds_s: tuple[float, ...] = SECONDS) -> None:
        self._bounds_s = bounds_s
        self._counts = [0] * (len(bounds_s) + 1)
        self._sum_s = 0.0

    def observe(self, seconds: float) -> None:
        self._counts[bisect_left(self._bounds_s, seconds)] += 1
        self._sum_s += seconds

    @property
    def sum_s(self) -> float:
        return self._sum_s

    def buckets(self) -> list[tuple[str, float]]:
        """How many were at most so long, by Prometheus' name of the bound; empty without any."""
        if not any(self._counts):
            return []
        bounds = [*map(str, map(float, self._bounds_s)), "+Inf"]
        return list(zip(bounds, map(float, accumulate(self._counts)), strict=True))


class Served:
    """What the requests of one (model, variant, mode) have come to."""

    __slots__ = (
        "e2e",
        "first_token",
        "generation_tokens",
        "per_token",
        "prompt_tokens",
        "prompt_tokens_cached",
        "queue",
        "requests",
    )

    def __init__(self) -> None:
        self.requests: dict[tuple[str, str], int] = {}  # by operation and status
        self.first_token = Times()
        self.per_token = Times(TOKEN_SECONDS)
        self.e2e = Times()
        self.queue = Times()
        self.prompt_tokens = 0
        self.prompt_tokens_cached = 0
        self.generation_tokens = 0

    def request(self, operation: str, status: str) -> None:
        key = operation, status
        self.requests[key] = self.requests.get(key, 0) + 1


class Legs:
    """What became of the legs to the workers of one (model, variant, role)."""

    __slots__ = ("failed", "started")

    def __init__(self) -> None:
        self.started = 0
        self.failed: dict[str, int] = {}  # by reason


class Pairs:
    """What became of the pairs of one (model, variant). A transfer has taken place once decode has
    given a token; its time, where it can be told apart, is from prefill's answer to that token.
    """

    __slots__ = ("failed", "prefill", "transfer", "transfers")

    def __init__(self) -> None:
        self.prefill = Times()
        self.transfer = Times()
        self.transfers = 0
        self.failed: dict[str, int] = {}  # by reason


class Prefixes:
    """Of the prompts sent to one (model, variant): their tokens, and how many of them the router
    found in the chosen worker's cache.
    """

    __slots__ = ("hits", "queries")

    def __init__(self) -> None:
        self.queries = 0
        self.hits = 0


class Count(dict[tuple[str, ...], int]):
    """How often something happened, by its labels."""

    def add(self, *labels: str, by: int = 1) -> None:
        self[labels] = self.get(labels, 0) + by
