"""Traffic over time. Pure."""

from collections.abc import Iterable, Sequence

import msgspec

from gateway.admin.live.rates import Sum, median_s, slow_s, summed
from gateway.admin.live.views import PointView
from gateway.admin.views import iso
from registry.traffic import Traffic


class Steps(msgspec.Struct, frozen=True, kw_only=True):
    """Whole steps of *step_s* up to *until*, from *since*."""

    since: float
    until: float
    step_s: float

    @classmethod
    def back(cls, until: float, since_s: float, step_s: float) -> "Steps":
        """As many as lie within *since_s*, one at least; on the clock, so that a series that is
        asked for again has the same steps.
        """
        until = until // step_s * step_s
        count = max(1, int(since_s // step_s))
        return cls(since=until - count * step_s, until=until, step_s=step_s)

    def of(self, told: Iterable[tuple[float, Traffic | Sum]]) -> "list[list[Traffic | Sum]]":
        """What was *told* of times, by step."""
        steps: list[list[Traffic | Sum]] = [
            [] for _ in range(round((self.until - self.since) / self.step_s))
        ]
        for at, one in told:
            if self.since <= at < self.until:
                steps[int((at - self.since) // self.step_s)].append(one)
        return steps


class Whose(msgspec.Struct, frozen=True, kw_only=True):
    """Whose traffic of a model it is to be; None is all of it."""

    variant: str | None = None
    revision: int | None = None

    def has(self, row: Traffic) -> bool:
        return self.variant in {None, row.variant} and self.revision in {None, row.revision}


def points(steps: Steps, told: Iterable[tuple[float, Traffic | Sum]]) -> tuple[PointView, ...]:
    """Also where nothing happened."""
    return tuple(
        _point(steps.since + n * steps.step_s, rows) for n, rows in enumerate(steps.of(told))
    )


def _point(at: float, rows: Sequence[Traffic | Sum]) -> PointView:
    seen = summed(rows)
    return PointView(
        at=iso(at),
        requests=seen.requests,
        errors=seen.errors,
        paired=seen.paired,
        prompt_tokens=seen.prompt_tokens,
        completion_tokens=seen.completion_tokens,
        ttft_p50_s=median_s(seen.ttft),
        ttft_p95_s=slow_s(seen.ttft),
        tpot_p50_s=median_s(seen.tpot),
        tpot_p95_s=slow_s(seen.tpot),
        e2e_p50_s=median_s(seen.e2e),
        e2e_p95_s=slow_s(seen.e2e),
    )
