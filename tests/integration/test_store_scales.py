"""How many workers autoscaled roles are to have, in `registry.store`, on a real database."""

from typing import Any

import pytest
from registry_world import ME, Clock, spec

from registry.errors import NotFoundError
from registry.spec import ModelSpec, Role
from registry.state import EventKind
from registry.store import Store

WHY = "KV caches are 91 % full (at most 80 %)"


def a_pair(*, decode: dict[str, Any] | None = None) -> ModelSpec:
    bounds = {"workers_min": 1, "workers_max": 8}
    roles = {
        "prefill": {"autoscale": bounds},
        "decode": {"workers": 2, "autoscale": bounds} | (decode or {}),
    }
    variant = {"engine": "emulator", "topology": {"type": "disaggregated", **roles}}
    return spec(variants=[variant])


async def scales(store: Store) -> dict[Role, int]:
    return {scale.role: scale.workers for scale in (await store.model("m")).scales}


async def test_a_decision_is_told_and_is_no_revision(store: Store, clock: Clock) -> None:
    await store.apply_model(a_pair(), by=ME)
    version = await store.version()
    clock.now += 7

    await store.scale_role("m", "default", Role.DECODE, 3, reason=WHY)

    (event,) = await store.events(after=version)
    assert (event.kind, event.model) == (EventKind.MODEL_SCALED, "m")
    assert event.message == f"decode of default 2 → 3: {WHY}"
    model = (await store.snapshot()).models[0]
    assert model.revision == 1
    (scale,) = model.scales
    assert (scale.workers, scale.reason, scale.at) == (3, WHY, 1007.0)

    await store.scale_role("m", "default", Role.DECODE, 4, reason="more")
    await store.scale_role("m", "default", Role.DECODE, 4, reason="again")
    assert [one.message[:24] for one in await store.events(after=event.id)] == [
        "decode of default 3 → 4:"
    ]


async def test_only_autoscaled_roles_of_standing_models_are_scaled(store: Store) -> None:
    await store.apply_model(a_pair(decode={"autoscale": None}), by=ME)
    for model, variant, role in (
        ("m", "default", Role.DECODE),
        ("m", "default", Role.UNIFIED),
        ("m", "other", Role.PREFILL),
        ("n", "default", Role.PREFILL),
    ):
        with pytest.raises(NotFoundError):
            await store.scale_role(model, variant, role, 2, reason=WHY)


@pytest.mark.parametrize(
    ("decode", "left"),
    [
        ({"memory": "1GiB"}, {Role.PREFILL: 2, Role.DECODE: 3}),
        ({"workers": 4}, {Role.PREFILL: 2}),
        ({"autoscale": None}, {Role.PREFILL: 2}),
    ],
    ids=["another revision", "it begins with another number", "it is not autoscaled any more"],
)
async def test_a_revision_leaves_what_it_says_nothing_of(
    store: Store, decode: dict[str, Any], left: dict[Role, int]
) -> None:
    await store.apply_model(a_pair(), by=ME)
    await store.scale_role("m", "default", Role.PREFILL, 2, reason=WHY)
    await store.scale_role("m", "default", Role.DECODE, 3, reason=WHY)

    await store.apply_model(a_pair(decode=decode), by=ME)

    assert await scales(store) == left


async def test_a_model_that_comes_back_begins_anew(store: Store) -> None:
    await store.apply_model(a_pair(), by=ME)
    await store.scale_role("m", "default", Role.DECODE, 3, reason=WHY)
    await store.delete_model("m", by=ME)
    await store.apply_model(a_pair(), by=ME)

    assert await scales(store) == {}


async def test_somebody_may_take_a_decision_back(store: Store) -> None:
    await store.apply_model(a_pair(), by=ME)
    await store.scale_role("m", "default", Role.DECODE, 5, reason=WHY)
    version = await store.version()

    await store.unscale_role("m", "default", Role.DECODE, by=ME)
    await store.unscale_role("m", "default", Role.DECODE, by=ME)

    assert await scales(store) == {}
    (event,) = await store.events(after=version)
    assert event.message == "decode of default 5 → 2: asked for by hand"
    assert (await store.audit())[-1].action == "model.scale"
