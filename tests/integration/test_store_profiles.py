"""Measured step times in `registry.store`, on SQLite and PostgreSQL."""

import pytest
from msgspec.structs import replace
from registry_world import ME, Clock, spec

from registry.errors import NotFoundError
from registry.state import EventKind, LoadPoint, Profile, StoredProfile
from registry.store import Store

POINT = LoadPoint(requests=4, prompt_tokens=512, answer_tokens=1, seconds=0.2, rounds=3)
PROFILE = Profile(
    source="hf://org/m",
    engine="vllm",
    device_model="NVIDIA H100",
    devices=2,
    memory_bytes=64 * 2**30,
    batched_tokens=2048,
    kv_tokens=3_000_000_000,
    is_kv_told=True,
    points=(POINT,),
)


async def put(store: Store, profile: Profile, variant: str = "default") -> StoredProfile:
    return await store.put_profile(profile, model="m", variant=variant, runtime="vllm-gpu", by=ME)


async def test_of_the_same_weights_and_devices_the_newest_profile_is_kept(
    store: Store, clock: Clock
) -> None:
    await store.apply_model(spec(), by=ME)
    first = await put(store, PROFILE)
    clock.now += 5

    newer = await put(store, replace(PROFILE, points=(POINT, POINT), batched_tokens=0), "b")

    assert await store.profiles() == (newer,)
    assert (newer.id, newer.variant, newer.measured_at) == (first.id, "b", clock.now)
    assert newer.profile.points == (POINT, POINT)
    told = [(event.kind, event.message) for event in await store.events(model="m")]
    assert told[-1] == (
        EventKind.PROFILE,
        f"{first.id} measured: hf://org/m on 2x NVIDIA H100 with vllm",
    )
    assert (await store.audit())[-1].action == "profile.put"


@pytest.mark.parametrize(
    "other",
    [{"source": "hf://org/m@v2"}, {"engine": "sglang"}, {"device_model": "L40S"}, {"devices": 1}],
)
async def test_what_differs_in_its_key_is_kept_beside_it(store: Store, other: dict) -> None:
    await store.apply_model(spec(), by=ME)
    first = await put(store, PROFILE)

    second = await put(store, replace(PROFILE, **other))

    assert {one.id for one in await store.profiles()} == {first.id, second.id}


async def test_a_profile_outlives_its_model_until_somebody_deletes_it(store: Store) -> None:
    with pytest.raises(NotFoundError, match="model"):
        await put(store, PROFILE)
    await store.apply_model(spec(), by=ME)
    made = await put(store, PROFILE)
    await store.delete_model("m", by=ME)
    assert await store.profiles() == (made,)

    assert await store.delete_profile(made.id, by=ME) == made

    assert await store.profiles() == ()
    with pytest.raises(NotFoundError, match="profile"):
        await store.delete_profile(made.id, by=ME)
