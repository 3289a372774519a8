"""What gateways tell of a model's requests, all of them together."""

from collections.abc import Iterable, Mapping

import msgspec

from registry.state import Worker
from registry.traffic import Demand

# What a gateway told longer ago is no longer so, except when a model was last asked.
FRESH_S = 15.0
# Who was not asked for so long may sleep at no great cost.
CALM_S = 30.0


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """*queued* requests wait, the oldest since *oldest_at*; *in_flight* are at workers; the last
    one came at *asked_at* (0: never).
    """

    queued: int = 0
    oldest_at: float = 0.0
    in_flight: int = 0
    asked_at: float = 0.0

    @property
    def is_idle(self) -> bool:
        return not (self.queued or self.in_flight)

    def is_calm(self, now: float) -> bool:
        return self.is_idle and now - self.asked_at >= CALM_S


NOTHING = Wish()


def wishes(demand: Iterable[Demand], now: float) -> dict[str, Wish]:
    """By model."""
    found: dict[str, Wish] = {}
    for told in demand:
        before = found.get(told.model, NOTHING)
        fresh = now - told.at <= FRESH_S
        queued = told.queued if fresh else 0
        since = (told.oldest_at or told.at) if queued else 0.0
        found[told.model] = Wish(
            queued=before.queued + queued,
            oldest_at=min(filter(None, (before.oldest_at, since)), default=0.0),
            in_flight=before.in_flight + (told.in_flight if fresh else 0),
            asked_at=max(before.asked_at, told.asked_at),
        )
    return found


def with_work(
    asked: Mapping[str, Wish], workers: Iterable[Worker], worked_at: Mapping[str, float]
) -> dict[str, Wish]:
    """Whose workers were seen at work was asked for then, at the latest."""
    found = dict(asked)
    for worker in workers:
        at = worked_at.get(worker.id, 0.0)
        wish = found.get(worker.plan.model, NOTHING)
        if at > wish.asked_at:
            found[worker.plan.model] = msgspec.structs.replace(wish, asked_at=at)
    return found
