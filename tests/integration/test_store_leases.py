"""The lease of the leading controller, and the fence around what it writes."""

import pytest
from registry_world import ME, Clock, device, report, spec

from registry.errors import LeadershipLostError
from registry.state import EventKind
from registry.store import Store


async def pass_by(store: Store, clock: Clock, seconds: float) -> None:
    """The database's clock: on PostgreSQL it is the server's, so the lease's end comes nearer."""
    clock.now += seconds
    async with store._scopes.write() as write:
        if write.session.get_bind().dialect.name == "postgresql":
            from registry.tables import LeaseRow

            write.quiet("a test")
            row = await write.session.get(LeaseRow, "controller")
            assert row is not None
            row.expires_at -= seconds


async def test_one_leads_until_its_lease_is_over_and_each_term_has_an_epoch(
    store: Store, clock: Clock
) -> None:
    assert await store.lease() is None
    first = await store.acquire_lease("a", ttl_s=10)
    assert first is not None
    assert (first.holder, first.epoch) == ("a", 1)
    assert await store.acquire_lease("b", ttl_s=10) is None

    await pass_by(store, clock, 11)
    seen = await store.lease()
    assert seen is not None
    assert -2 < seen.expires_in_s <= -1
    with pytest.raises(LeadershipLostError, match="term 1 of a ended"):
        await store.renew_lease(first, ttl_s=10)
    second = await store.acquire_lease("b", ttl_s=10)
    assert second is not None
    assert second.epoch == 2
    with pytest.raises(LeadershipLostError, match="term 1 of a is over: b has led since"):
        await store.renew_lease(first, ttl_s=10)


async def test_a_successor_of_the_same_home_leads_at_once_and_fences_the_one_before(
    store: Store,
) -> None:
    first = await store.acquire_lease("a", ttl_s=10)
    second = await store.acquire_lease("a", ttl_s=10)
    assert first is not None
    assert second is not None
    assert second.epoch == 2
    with pytest.raises(LeadershipLostError):
        await store.fenced(first).report_nodes((report(device()),))
    await store.fenced(second).report_nodes((report(device()),))


async def test_a_released_lease_is_anothers_at_once(store: Store) -> None:
    first = await store.acquire_lease("a", ttl_s=10)
    assert first is not None
    await store.release_lease(first)
    with pytest.raises(LeadershipLostError):
        await store.release_lease(first)
    assert await store.acquire_lease("b", ttl_s=10) is not None


async def test_changes_of_leader_are_news_and_renewals_are_not(store: Store) -> None:
    lease = await store.acquire_lease("a", ttl_s=10)
    assert lease is not None
    version = await store.version()
    await store.renew_lease(lease, ttl_s=10)
    assert await store.acquire_lease("b", ttl_s=10) is None
    assert await store.version() == version
    await store.release_lease(lease)
    told = [
        event.message for event in await store.events() if event.kind == EventKind.LEADER_CHANGED
    ]
    assert told == ["a leads, term 1", "a leads no more"]


async def test_a_fenced_store_writes_nothing_once_the_lease_is_over_though_nobody_else_leads(
    store: Store, clock: Clock
) -> None:
    lease = await store.acquire_lease("a", ttl_s=10)
    assert lease is not None
    fenced = store.fenced(lease)
    await fenced.apply_model(spec(), by=ME)
    await pass_by(store, clock, 11)
    version = await store.version()
    for write in (
        fenced.report_nodes((report(device()),)),
        fenced.set_condition("m", "x"),
        fenced.forget_ended(),
    ):
        with pytest.raises(LeadershipLostError):
            await write
    assert await store.version() == version
    assert (await store.snapshot()).nodes == ()
    assert (await fenced.model("m")).condition == ""  # it still reads
    await store.set_condition("m", "others write")
