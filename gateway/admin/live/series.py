"""Traffic over time. Pure."""

from collections.abc import Iterable

import msgspec

from gateway.admin.live.rates import median_s, slow_s, summed
from gateway.admin.live.views import PointView
from gateway.admin.views import iso
from registry.traffic import Traffic


class Whose(msgspec.Struct, frozen=True, kw_only=True):
    """Whose traffic it is to be; None is all of it."""

    model: str | None = None
    variant: str | None = None
    revision: int | None = None

    def has(self, row: Traffic) -> bool:
        return (
            self.model in {None, row.model}
            and self.variant in {None, row.variant}
            and self.revision in {None, row.revision}
        )


def points(
    rows: Iterable[Traffic], *, since: float, until: float, step_s: float
) -> tuple[PointView, ...]:
    """Whole steps from *since* to *until*, also where nothing happened."""
    steps: list[list[Traffic]] = [[] for _ in range(int((until - since) // step_s))]
    for row in rows:
        index = int((row.at - since) // step_s)
        if 0 <= index < len(steps):
            steps[index].append(row)
    return tuple(_point(since + n * step_s, step) for n, step in enumerate(steps))


def _point(at: float, rows: list[Traffic]) -> PointView:
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
