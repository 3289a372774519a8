"""Who sleeps because nobody asks for it."""

from collections.abc import Iterator, Mapping, Sequence

from pipelines.awake.units import Unit
from pipelines.awake.wishes import NOTHING, Wish
from registry.state import Model, Phase, Pool


def idlers(
    by_model: Mapping[str, Sequence[Unit]],
    asked: Mapping[str, Wish],
    pools: Mapping[str, Pool],
    now: float,
) -> dict[str, str]:
    """By worker, why it is to fall asleep. All of a model's do, or none; of a pool's not before
    they were awake for as long as the pool says. While a revision is rolled out nobody does.
    """
    reasons: dict[str, str] = {}
    for name, mine in by_model.items():
        model, wish = mine[0].model, asked.get(name, NOTHING)
        after_s = model.spec.idle.after_s
        if not wish.is_idle or mine[0].is_rolled_out or not (after_s or model.spec.pool):
            continue
        if after_s and now - _last_at(mine, wish) >= _patience_s(model, pools):
            reason = f"not asked for {after_s:g} s (idle.after_s)"
            reasons |= {worker.id: reason for unit in mine for worker in unit.ready}
        for worker_id in _useless(mine):
            reasons.setdefault(worker_id, "the rest of its gang sleeps")
    return reasons


def _patience_s(model: Model, pools: Mapping[str, Pool]) -> float:
    pool = pools.get(model.spec.pool)
    return max(model.spec.idle.after_s, pool.awake_min_s if pool else 0.0)


def _last_at(mine: Sequence[Unit], wish: Wish) -> float:
    """When it was last asked, or last began to serve: who has just woken is not idle yet."""
    began = [
        worker.ready_at or worker.created_at
        for unit in mine
        for worker in unit.workers
        if worker.phase is Phase.READY
    ]
    return max([wish.asked_at, *began])


def _useless(mine: Sequence[Unit]) -> Iterator[str]:
    """Ready workers of gangs that cannot serve without those of them that sleep."""
    for unit in mine:
        if unit.is_down:
            yield from (worker.id for worker in unit.ready)
