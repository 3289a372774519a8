"""How much engines do, between two looks at what they count. Pure."""

from collections.abc import Iterable, Sequence

import msgspec

from pipelines.engines.base import EngineMetrics, Sample

# Between looks this far apart at most: of what was long ago nobody asks here.
SPAN_S = 12.0


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker's engine counts *now*, and does a second; null before two looks, and where it
    counts no such thing.
    """

    now: EngineMetrics
    requests_per_s: float | None = None
    prompt_tokens_per_s: float | None = None
    generation_tokens_per_s: float | None = None
    kv_transfers_per_s: float | None = None
    kv_failures_per_s: float | None = None


def pace(samples: Sequence[Sample]) -> Pace:
    """Of one worker's *samples*, oldest first; there is one at least."""
    last = samples[-1]
    first = next(one for one in samples if last.at - one.at <= SPAN_S)
    took_s, before, now = last.at - first.at, first.metrics, last.metrics
    # Fewer than before: its engine was started anew in between.
    if took_s <= 0 or now.generation_tokens < before.generation_tokens:
        return Pace(now=now)
    counts_requests = now.requests > 0 or not now.prompt_tokens

    def each_s(count: int) -> float:
        return round(max(0, count) / took_s, 3)

    return Pace(
        now=now,
        requests_per_s=each_s(now.requests - before.requests) if counts_requests else None,
        prompt_tokens_per_s=each_s(now.prompt_tokens - before.prompt_tokens),
        generation_tokens_per_s=each_s(now.generation_tokens - before.generation_tokens),
        kv_transfers_per_s=each_s(now.kv_transfers - before.kv_transfers),
        kv_failures_per_s=each_s(now.kv_transfer_failures - before.kv_transfer_failures),
    )


def together(paces: Iterable[float | None]) -> float | None:
    """Null only where all are."""
    known = [one for one in paces if one is not None]
    return round(sum(known), 3) if known else None
