"""Keys in the registry: their limits, their changes, their rotation."""

import pytest
from registry_world import ME, Clock

from registry.errors import ConflictError, NotFoundError, SpecError
from registry.keys import by_digest, digest
from registry.state import (
    NANO,
    NO_KEY_LIMITS,
    BudgetPeriod,
    EventKind,
    Key,
    KeyKind,
    KeyLimits,
    Priority,
)
from registry.store import Store
from registry.store.keys import OVERLAP_S_MAX, KeyChange, KeyLimitsChange

LIMITS = KeyLimits(
    requests_per_minute=60,
    tokens_per_minute=10_000,
    in_flight=4,
    budget_nano=25 * NANO + 1,
    budget_period=BudgetPeriod.DAY,
)


async def a_key(store: Store, **wishes: object) -> tuple[Key, str]:
    facts = {"name": "app", "kind": KeyKind.INFERENCE, "limits": LIMITS, "by": ME}
    return await store.create_key(**(facts | wishes))


async def opens(store: Store, secret: str, now: float) -> bool:
    key = by_digest(await store.keys(), KeyKind.INFERENCE).get(digest(secret))
    return key is not None and (key.expires_at is None or now < key.expires_at)


async def test_limits_are_kept_to_the_nano(store: Store) -> None:
    key, _ = await a_key(store)
    assert key.limits == LIMITS
    assert await store.key(key.id) == key
    assert (await store.keys(), (await store.snapshot()).keys) == ((key,), (key,))
    plain, _ = await a_key(store, limits=NO_KEY_LIMITS)
    assert (await store.key(plain.id)).limits == NO_KEY_LIMITS


@pytest.mark.parametrize(
    ("wish", "field"),
    [
        ({"limits": KeyLimits(requests_per_minute=-1)}, "limits.requests_per_minute"),
        ({"limits": KeyLimits(tokens_per_minute=10**12 + 1)}, "limits.tokens_per_minute"),
        ({"limits": KeyLimits(in_flight=-5)}, "limits.in_flight"),
        ({"limits": KeyLimits(budget_nano=-1)}, "limits.budget.amount"),
        ({"limits": KeyLimits(budget_nano=10**18 + 1)}, "limits.budget.amount"),
        ({"kind": KeyKind.ADMIN}, "limits"),
        ({"kind": KeyKind.ADMIN, "limits": NO_KEY_LIMITS, "models": ("m",)}, "models"),
        (
            {"kind": KeyKind.ADMIN, "limits": NO_KEY_LIMITS, "priority": Priority.LOW},
            "priority",
        ),
    ],
)
async def test_impossible_limits_are_refused_by_field(store: Store, wish: dict, field: str) -> None:
    with pytest.raises(SpecError) as refused:
        await a_key(store, **wish)
    assert refused.value.field == field
    assert await store.keys() == ()


async def test_a_change_leaves_what_it_does_not_name(store: Store) -> None:
    key, secret = await a_key(store, models=("m",), expires_at=2000.0)
    limits = KeyLimitsChange(requests_per_minute=0, budget_nano=NANO)
    changed = await store.update_key(key.id, KeyChange(name="web", limits=limits), by=ME)

    assert (changed.name, changed.models, changed.expires_at) == ("web", ("m",), 2000.0)
    assert changed.limits == KeyLimits(
        tokens_per_minute=10_000,
        in_flight=4,
        budget_nano=NANO,
        budget_period=BudgetPeriod.DAY,
    )
    assert await store.key(key.id) == changed
    assert await opens(store, secret, 1000.0)
    event = (await store.events())[-1]
    assert (event.kind, event.message) == (EventKind.KEY_CHANGED, f"{key.id} web: name, limits")
    assert (await store.audit())[-1].action == "key.update"
    lifted = await store.update_key(key.id, KeyChange(models=(), expires_at=None), by=ME)
    assert (lifted.models, lifted.expires_at) == ((), None)


async def test_a_change_to_what_is_so_already_is_none(store: Store) -> None:
    key, _ = await a_key(store)
    version = await store.version()
    for change in (KeyChange(), KeyChange(name="app", limits=KeyLimitsChange(in_flight=4))):
        assert await store.update_key(key.id, change, by=ME) == key
    assert await store.version() == version


async def test_an_impossible_change_changes_nothing(store: Store) -> None:
    key, _ = await a_key(store)
    version = await store.version()
    for change, field in (
        (KeyChange(name=""), "name"),
        (KeyChange(limits=KeyLimitsChange(in_flight=-1)), "limits.in_flight"),
        (KeyChange(expires_at=999.0), "expires_at"),
        (KeyChange(models=("a/b",)), "models[0]"),
    ):
        with pytest.raises(SpecError) as refused:
            await store.update_key(key.id, change, by=ME)
        assert refused.value.field == field
    assert (await store.key(key.id), await store.version()) == (key, version)


async def test_an_admin_key_gets_no_limits_by_a_change_either(store: Store) -> None:
    key, _ = await a_key(store, kind=KeyKind.ADMIN, limits=NO_KEY_LIMITS)
    with pytest.raises(SpecError, match="admin key"):
        await store.update_key(key.id, KeyChange(limits=KeyLimitsChange(in_flight=1)), by=ME)
    assert (await store.update_key(key.id, KeyChange(name="op"), by=ME)).name == "op"


async def test_a_rotated_key_has_two_secrets_for_the_overlap(store: Store, clock: Clock) -> None:
    key, first = await a_key(store)
    rotated, second = await store.rotate_key(key.id, overlap_s=60, by=ME)

    assert (rotated.id, rotated.limits) == (key.id, key.limits)
    assert second.startswith("mk-")
    assert await store.key(key.id) == rotated
    assert [await opens(store, first, at) for at in (1000.0, 1059.9, 1060.0)] == [True, True, False]
    assert await opens(store, second, 1e9)
    event = (await store.events())[-1]
    assert (event.kind, event.message) == (EventKind.KEY_ROTATED, f"{key.id} app")
    assert (await store.audit())[-1].action == "key.rotate"


async def test_rotating_again_ends_the_secret_that_still_overlapped(store: Store) -> None:
    key, first = await a_key(store)
    _, second = await store.rotate_key(key.id, overlap_s=1000, by=ME)
    _, third = await store.rotate_key(key.id, overlap_s=10, by=ME)

    assert not await opens(store, first, 1000.0)
    assert [await opens(store, second, at) for at in (1009.0, 1010.0)] == [True, False]
    assert await opens(store, third, 1e9)


async def test_without_an_overlap_the_old_secret_ends_at_once(store: Store) -> None:
    key, first = await a_key(store)
    _, second = await store.rotate_key(key.id, overlap_s=0, by=ME)
    assert not await opens(store, first, 1000.0)
    assert await opens(store, second, 1000.0)


async def test_a_revoked_key_ends_with_both_its_secrets(store: Store) -> None:
    key, first = await a_key(store)
    _, second = await store.rotate_key(key.id, overlap_s=60, by=ME)
    await store.revoke_key(key.id, by=ME)
    assert not await opens(store, first, 1000.0)
    assert not await opens(store, second, 1000.0)


async def test_what_has_ended_is_neither_rotated_nor_changed(store: Store, clock: Clock) -> None:
    short, _ = await a_key(store, expires_at=1010.0)
    gone, _ = await a_key(store)
    await store.revoke_key(gone.id, by=ME)
    clock.now = 1010.0
    with pytest.raises(ConflictError, match="expired: give it a new end"):
        await store.rotate_key(short.id, overlap_s=0, by=ME)
    with pytest.raises(ConflictError, match="is revoked"):
        await store.rotate_key(gone.id, overlap_s=0, by=ME)
    with pytest.raises(ConflictError, match="is revoked"):
        await store.update_key(gone.id, KeyChange(name="back"), by=ME)
    for call in (
        store.rotate_key("key_none", overlap_s=0, by=ME),
        store.update_key("key_none", KeyChange(), by=ME),
        store.key("key_none"),
    ):
        with pytest.raises(NotFoundError):
            await call
    await store.update_key(short.id, KeyChange(expires_at=5000.0), by=ME)
    assert (await store.rotate_key(short.id, overlap_s=0, by=ME))[0].expires_at == 5000.0


@pytest.mark.parametrize("overlap_s", [-1.0, OVERLAP_S_MAX + 1, float("nan"), float("inf")])
async def test_an_impossible_overlap_is_refused(store: Store, overlap_s: float) -> None:
    key, secret = await a_key(store)
    with pytest.raises(SpecError, match="overlap_s"):
        await store.rotate_key(key.id, overlap_s=overlap_s, by=ME)
    assert await opens(store, secret, 1000.0)


async def test_a_retired_secret_does_not_come_back_as_another_key(
    store: Store, clock: Clock
) -> None:
    """It may lie in a file or in the environment, from which `up` would register it again."""
    key, secret = await a_key(store)
    await store.rotate_key(key.id, overlap_s=0, by=ME)
    found, _ = await a_key(store, secret=secret)
    assert found.id == key.id
    assert not await opens(store, secret, clock.now)
    assert len(await store.keys()) == 1
    with pytest.raises(ConflictError, match="already the inference key"):
        await a_key(store, secret=secret, kind=KeyKind.ADMIN, limits=NO_KEY_LIMITS)
