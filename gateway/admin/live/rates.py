"""How much is asked for and how fast it is answered, from what gateways tell. Pure."""

from collections.abc import Collection, Iterable, Mapping

import msgspec

from gateway.admin.views import RatesView
from pipelines.awake.wishes import Wish
from registry.state import Model
from registry.traffic import SLOT_S, Latencies, Traffic

WINDOW_S = 30.0
# A gateway tells of a slot a second after its end, or a little later.
_TOLD_S = 2.0
_MEDIAN, _SLOW = 0.5, 0.95


class Sum(msgspec.Struct, frozen=True, kw_only=True):
    """What many rows of traffic tell together."""

    requests: int = 0
    errors: int = 0
    paired: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    ttft: Latencies = Latencies()
    tpot: Latencies = Latencies()
    e2e: Latencies = Latencies()


NOTHING = Sum()


def summed(rows: Collection[Traffic | Sum]) -> Sum:
    return Sum(
        requests=sum(row.requests for row in rows),
        errors=sum(row.errors for row in rows),
        paired=sum(row.paired for row in rows),
        prompt_tokens=sum(row.prompt_tokens for row in rows),
        completion_tokens=sum(row.completion_tokens for row in rows),
        ttft=Latencies.sum_of(row.ttft for row in rows),
        tpot=Latencies.sum_of(row.tpot for row in rows),
        e2e=Latencies.sum_of(row.e2e for row in rows),
    )


def window_end(now: float) -> float:
    """Up to when all gateways have told by *now* what they did."""
    return (now - _TOLD_S) // SLOT_S * SLOT_S


def of_clients(model: Model, rows: Iterable[Traffic]) -> list[Traffic]:
    """The *rows* of *model* without the copies that shadows got."""
    copies = shadows(model)
    return [row for row in rows if row.variant not in copies]


def shadows(model: Model) -> frozenset[str]:
    """The variants whose requests are copies: no client's."""
    specs = [model.spec, *([model.rollout.base] if model.rollout is not None else [])]
    return frozenset(v.name for spec in specs for v in spec.variants if v.shadow_percent)


def rates_of(seen: Sum, wish: Wish | None) -> RatesView:
    """*seen* is of a whole window; with no *wish* nothing is known of what waits."""
    return RatesView(
        requests_per_s=round(seen.requests / WINDOW_S, 3),
        error_rate=seen.errors / seen.requests if seen.requests else None,
        prompt_tokens_per_s=round(seen.prompt_tokens / WINDOW_S, 1),
        completion_tokens_per_s=round(seen.completion_tokens / WINDOW_S, 1),
        ttft_p50_s=median_s(seen.ttft),
        ttft_p95_s=slow_s(seen.ttft),
        tpot_p50_s=median_s(seen.tpot),
        tpot_p95_s=slow_s(seen.tpot),
        queued=wish.queued if wish is not None else None,
        in_flight=wish.in_flight if wish is not None else None,
    )


def waiting(rates: RatesView, wish: Wish) -> RatesView:
    """The same, with what waits and is at workers by now."""
    return msgspec.structs.replace(rates, queued=wish.queued, in_flight=wish.in_flight)


def everybody(wishes: Mapping[str, Wish]) -> Wish:
    return Wish(
        queued=sum(wish.queued for wish in wishes.values()),
        in_flight=sum(wish.in_flight for wish in wishes.values()),
    )


def median_s(times: Latencies) -> float | None:
    return times.quantile_s(_MEDIAN) if times.total else None


def slow_s(times: Latencies) -> float | None:
    """What five of a hundred take longer than."""
    return times.quantile_s(_SLOW) if times.total else None


class Window:
    """What was told lately, with each slot's rows as they were told last: those of the newest
    slots are read again, for gateways that were late.
    """

    REREAD_S = 2 * SLOT_S

    def __init__(self) -> None:
        self.until = 0.0
        self._slots: dict[float, list[Traffic]] = {}

    def begin(self, now: float) -> float | None:
        """Since when to read; None where what is here is as new as can be."""
        until = window_end(now)
        if until == self.until:
            return None
        first = until - WINDOW_S
        anew = self.until - self.REREAD_S
        return anew if first < anew < until else first

    def take(self, since: float, now: float, rows: Iterable[Traffic]) -> None:
        """*rows* are all that were told of *since* and later."""
        self.until = window_end(now)
        first = self.until - WINDOW_S
        self._slots = {at: kept for at, kept in self._slots.items() if first <= at < since}
        for row in rows:
            if first <= row.at < self.until:
                self._slots.setdefault(row.at, []).append(row)

    def by_model(self) -> dict[str, list[Traffic]]:
        found: dict[str, list[Traffic]] = {}
        for rows in self._slots.values():
            for row in rows:
                found.setdefault(row.model, []).append(row)
        return found
