"""Plain numbers of what requests did and what waits, until `Teller` takes them to the registry.

A request costs a few additions, a token none. Pure: times come in, in seconds of the epoch.
"""

from bisect import bisect_left
from collections.abc import Callable, Mapping
from typing import NamedTuple

from registry.traffic import BOUNDS_S, SLOT_S, Demand, Latencies, Traffic


class Queued(NamedTuple):
    """What waits for a model's workers: how many requests, their prompts' tokens, since when the
    oldest.
    """

    requests: int
    prompt_tokens: int
    oldest_at: float


NOTHING_QUEUED = Queued(0, 0, 0.0)


class Outcome(NamedTuple):
    """How one request ended. *failed* is the workers' fault, *paired* what prefill and decode
    shared. Of a stream that began, *ttft_s* is from its arrival and *tpot_s* between its tokens; of
    an answer that came whole, *e2e_s* is from the request's arrival to its end.
    """

    failed: bool = False
    paired: bool = False
    prompt_tokens: int = 0
    completion_tokens: int = 0
    ttft_s: float | None = None
    tpot_s: float | None = None
    e2e_s: float | None = None


class _Times:
    """Latencies, as long as they are counted."""

    __slots__ = ("counts", "sum_s")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_S) + 1)
        self.sum_s = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(BOUNDS_S, seconds)] += 1
        self.sum_s += seconds

    def told(self) -> Latencies:
        return Latencies(counts=tuple(self.counts), sum_s=self.sum_s)


class _Tally:
    """Of one model, variant and revision, within a slot."""

    __slots__ = (
        "completion_tokens",
        "e2e",
        "errors",
        "paired",
        "prompt_tokens",
        "requests",
        "tpot",
        "ttft",
    )

    def __init__(self) -> None:
        self.requests = self.errors = self.paired = 0
        self.prompt_tokens = self.completion_tokens = 0
        self.ttft, self.tpot, self.e2e = _Times(), _Times(), _Times()

    def add(self, outcome: Outcome) -> None:
        self.requests += 1
        self.errors += outcome.failed
        self.paired += outcome.paired
        self.prompt_tokens += outcome.prompt_tokens
        self.completion_tokens += outcome.completion_tokens
        if outcome.ttft_s is not None:
            self.ttft.add(outcome.ttft_s)
        if outcome.tpot_s is not None:
            self.tpot.add(outcome.tpot_s)
        if outcome.e2e_s is not None:
            self.e2e.add(outcome.e2e_s)


class _Presence:
    """Of one model."""

    __slots__ = ("asked_at", "present")

    def __init__(self) -> None:
        self.present = 0  # let in and not over: they wait, or are at workers
        self.asked_at = 0.0


class Collector:
    """Of one gateway process. *queued* says what waits, by model."""

    def __init__(self, queued: Callable[[], Mapping[str, Queued]]) -> None:
        self.on_hurry: Callable[[], None] | None = None
        self._queued = queued
        self._models: dict[str, _Presence] = {}
        self._slot_at = 0.0
        self._slot: dict[tuple[str, str, int], _Tally] = {}
        self._closed: list[tuple[float, dict[tuple[str, str, int], _Tally]]] = []

    def began(self, model: str, now: float) -> None:
        """A request has been let in."""
        presence = self._models.get(model)
        if presence is None:
            presence = self._models[model] = _Presence()
        presence.present += 1
        presence.asked_at = now

    def left(self, model: str) -> None:
        """It is over, however it ended. Once for each that began."""
        presence = self._models.get(model)
        if presence is not None and presence.present:
            presence.present -= 1

    def hurry(self) -> None:
        """What waits now should be known soon: a worker must wake up for it."""
        if self.on_hurry is not None:
            self.on_hurry()

    def ended(self, model: str, variant: str, revision: int, outcome: Outcome, now: float) -> None:
        """How a request ended that workers of this variant and revision were asked for."""
        if now >= self._slot_at + SLOT_S:
            self._close(now)
        key = (model, variant, revision)
        tally = self._slot.get(key)
        if tally is None:
            tally = self._slot[key] = _Tally()
        tally.add(outcome)

    def traffic(self, gateway: str, now: float, *, all_of_it: bool = False) -> list[Traffic]:
        """Of the slots that have ended by *now*, once; *all_of_it*: of the one under way, too."""
        if all_of_it or now >= self._slot_at + SLOT_S:
            self._close(now)
        closed, self._closed = self._closed, []
        return [
            _traffic(at, gateway, key, tally) for at, slot in closed for key, tally in slot.items()
        ]

    def demand(self, gateway: str, now: float) -> dict[str, Demand]:
        """As of *now*, of every model that was ever asked for."""
        queued = self._queued()
        found = {}
        for model, presence in self._models.items():
            waits = queued.get(model, NOTHING_QUEUED)
            found[model] = Demand(
                at=now,
                gateway=gateway,
                model=model,
                queued=waits.requests,
                queued_prompt_tokens=waits.prompt_tokens,
                oldest_at=waits.oldest_at,
                in_flight=max(0, presence.present - waits.requests),
                asked_at=presence.asked_at,
            )
        return found

    def keep(self, models: Mapping[str, object]) -> None:
        """Forgets what is asked for no more and declared no more."""
        gone = [name for name, it in self._models.items() if name not in models and not it.present]
        for name in gone:
            del self._models[name]

    def _close(self, now: float) -> None:
        if self._slot:
            self._closed.append((self._slot_at, self._slot))
            self._slot = {}
        self._slot_at = now // SLOT_S * SLOT_S


def _traffic(at: float, gateway: str, key: tuple[str, str, int], tally: _Tally) -> Traffic:
    model, variant, revision = key
    return Traffic(
        at=at,
        gateway=gateway,
        model=model,
        variant=variant,
        revision=revision,
        requests=tally.requests,
        errors=tally.errors,
        paired=tally.paired,
        prompt_tokens=tally.prompt_tokens,
        completion_tokens=tally.completion_tokens,
        ttft=tally.ttft.told(),
        tpot=tally.tpot.told(),
        e2e=tally.e2e.told(),
    )
