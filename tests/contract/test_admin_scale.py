"""Autoscaled roles through the admin API and the command: shown with their reasons, and set anew by
hand.
"""

from pathlib import Path

import httpx
import pytest
from admin_world import ME, World, world

from registry.spec import Role, from_data

BOUNDS = {"workers_min": 1, "workers_max": 4}
WHY = "KV caches are 91 % full (at most 80 %)"
AUTO = {
    "name": "auto",
    "source": "hf://org/auto",
    "variants": [
        {
            "engine": "vllm",
            "topology": {
                "type": "disaggregated",
                "prefill": {"memory": "1GiB"},
                "decode": {"memory": "1GiB", "workers": 2, "autoscale": BOUNDS},
            },
        }
    ],
}


@pytest.fixture
async def admin(tmp_path: Path):
    async with world(tmp_path) as made:
        await made.store.apply_model(from_data(AUTO), by=ME)
        await made.store.scale_role("auto", "default", Role.DECODE, 3, reason=WHY)
        yield made


async def roles(client: httpx.AsyncClient):
    view = (await client.get("/admin/v1/models/auto")).json()
    return {count["role"]: count for count in view["variants"][0]["roles"]}


async def test_a_role_shows_its_bounds_and_why_it_has_as_many_workers(client: httpx.AsyncClient):
    found = await roles(client)

    assert found["prefill"]["autoscale"] is None
    assert found["decode"]["desired"] == 3
    assert found["decode"]["autoscale"] == {**BOUNDS, "reason": WHY}
    events = (await client.get("/admin/v1/models/auto")).json()["events"]
    assert f"decode of default 2 → 3: {WHY}" in [event["message"] for event in events]


@pytest.mark.parametrize("workers", [2, 4], ids=["what the spec says already", "another number"])
async def test_by_hand_it_begins_anew(admin: World, client: httpx.AsyncClient, workers: int):
    answer = await client.patch("/admin/v1/models/auto/scale", json={"decode": workers})

    assert answer.status_code == 200
    found = (await roles(client))["decode"]
    assert (found["desired"], found["autoscale"]["reason"]) == (workers, "")
    assert (await admin.store.model("auto")).scales == ()


async def test_a_dry_run_leaves_what_the_load_asked_for(admin: World, client: httpx.AsyncClient):
    answer = await client.patch(
        "/admin/v1/models/auto/scale", params={"dry_run": True}, json={"decode": 2}
    )

    assert answer.status_code == 200
    assert (await roles(client))["decode"]["desired"] == 3


async def test_not_beyond_its_bounds(client: httpx.AsyncClient):
    answer = await client.patch("/admin/v1/models/auto/scale", json={"decode": 5})

    assert answer.status_code == 422
    error = answer.json()["error"]
    assert error["field"] == "decode"
    assert "1 to 4 (its autoscale)" in error["message"]
