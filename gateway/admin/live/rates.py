"""How much is asked for and how fast it is answered, from what gateways tell. Pure."""

from collections.abc import Collection, Sequence

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
    """Many rows of traffic in one."""

    requests: int = 0
    errors: int = 0
    paired: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    ttft: Latencies = Latencies()
    tpot: Latencies = Latencies()
    e2e: Latencies = Latencies()


def summed(rows: Collection[Traffic]) -> Sum:
    return Sum(
        requests=sum(row.requests for row in rows),
        errors=sum(row.errors for row in rows),
        paired=sum(row.paired for row in rows),
        prompt_tokens=sum(row.prompt_tokens for row in rows),
        completion_tokens=sum(row.completion_tokens for row in rows),
        ttft=Latencies.sum_of([row.ttft for row in rows]),
        tpot=Latencies.sum_of([row.tpot for row in rows]),
        e2e=Latencies.sum_of([row.e2e for row in rows]),
    )


def window_end(now: float) -> float:
    """Up to when all gateways have told by *now* what they did."""
    return (now - _TOLD_S) // SLOT_S * SLOT_S


def shadows(model: Model) -> frozenset[str]:
    """The variants whose requests are copies: no client's."""
    specs = [model.spec, *([model.rollout.base] if model.rollout is not None else [])]
    return frozenset(v.name for spec in specs for v in spec.variants if v.shadow_percent)


def rates(rows: Sequence[Traffic], wish: Wish | None) -> RatesView:
    """Of the *rows* of a whole window; with no *wish* nothing is known of what waits."""
    return rates_of(summed(rows), wish)


def rates_of(seen: Sum, wish: Wish | None) -> RatesView:
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


def median_s(times: Latencies) -> float | None:
    return times.quantile_s(_MEDIAN) if times.total else None


def slow_s(times: Latencies) -> float | None:
    """The 95th of a hundred."""
    return times.quantile_s(_SLOW) if times.total else None
