"""Pools in `registry.store`: their settings, and workers that are placed asleep."""

import pytest
from registry_world import ME, Clock, device, gang, planned, report, spec

from registry.errors import NotFoundError, PlanConflictError, SpecError
from registry.state import EventKind, Phase, PlannedGang, Pool, SleepMode
from registry.store import Store


async def test_a_pool_has_the_settings_it_was_given_last(store: Store) -> None:
    await store.put_pool(Pool(name="tail", overcommit=2.0), by=ME)
    version = await store.version()
    await store.put_pool(Pool(name="tail", overcommit=2.0), by=ME)
    assert await store.version() == version, "the same again is no change"

    await store.put_pool(Pool(name="tail", overcommit=8.0, awake_min_s=5.0), by=ME)
    await store.put_pool(Pool(name="more"), by=ME)
    pools = (await store.snapshot()).pools
    assert pools == (Pool(name="more"), Pool(name="tail", overcommit=8.0, awake_min_s=5.0))
    events = [e for e in await store.events(limit=9) if e.kind is EventKind.POOL_CHANGED]
    assert len(events) == 3
    assert {entry.action for entry in await store.audit(limit=9)} == {"pool.set"}

    await store.delete_pool("tail", by=ME)
    assert [pool.name for pool in (await store.snapshot()).pools] == ["more"]
    with pytest.raises(NotFoundError):
        await store.delete_pool("tail", by=ME)


@pytest.mark.parametrize(
    ("pool", "field"),
    [
        (Pool(name="Long Tail"), "name"),
        (Pool(name="t", overcommit=0.9), "overcommit"),
        (Pool(name="t", overcommit=float("nan")), "overcommit"),
        (Pool(name="t", awake_min_s=-1.0), "awake_min_s"),
    ],
)
async def test_a_pool_that_is_none_is_refused(store: Store, pool: Pool, field: str) -> None:
    with pytest.raises(SpecError) as refused:
        await store.put_pool(pool, by=ME)
    assert refused.value.field == field


async def test_a_worker_is_placed_asleep_where_awake_it_would_not_fit(
    store: Store, clock: Clock
) -> None:
    for name in ("m", "tail"):
        await store.apply_model(spec(name), by=ME)
    await store.report_nodes((report(device(0)),))
    (awake,) = await store.commit_gang(gang(planned("m")))
    there = planned("tail", claims={"n/cpu0": 0})

    (worker,) = await store.commit_gang(PlannedGang(workers=(there,), asleep=True))

    assert (worker.phase, worker.sleep_mode) == (Phase.ASLEEP, SleepMode.STOPPED)
    claims = {c.worker_id: c.memory_bytes for c in (await store.snapshot()).claims}
    assert claims[worker.id] == 0
    with pytest.raises(PlanConflictError):
        await store.wake_worker(worker.id, reason="asked for")
    await store.set_worker(awake.id, Phase.STOPPED)
    woken = await store.wake_worker(worker.id, reason="asked for")
    assert woken.phase is Phase.ASSIGNED
