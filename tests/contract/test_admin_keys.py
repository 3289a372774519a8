"""Keys through the admin API: limits, changes, rotation."""

import httpx
import pytest
from admin_world import ADMIN_SECRET, INFERENCE_SECRET, ME, World

from gateway.admin.auth import AdminKeys
from registry.keys import digest
from registry.state import NANO, KeyKind
from registry.usage import UsageRecord, UsageStatus

KEYS = "/admin/v1/keys"
NO_LIMITS = {"requests_per_minute": 0, "tokens_per_minute": 0, "in_flight": 0, "budget": None}


async def make(client: httpx.AsyncClient, **wishes: object) -> dict:
    answer = await client.post(KEYS, json={"name": "k"} | wishes)
    assert answer.status_code == 201, answer.text
    return answer.json()["key"]


async def test_a_key_has_the_limits_it_was_made_with(admin: World, client: httpx.AsyncClient):
    limits = {
        "requests_per_minute": 60,
        "tokens_per_minute": 10_000,
        "in_flight": 4,
        "budget": {"amount": 25.5, "period": "day"},
    }
    made = await make(client, limits=limits)
    assert made["limits"] == limits
    assert made["spent"] == {"amount": 0.0, "period": "day"}
    assert (await client.get(f"{KEYS}/{made['id']}")).json() == made
    assert made in (await client.get(KEYS)).json()["items"]

    plain = await make(client, limits={"in_flight": None, "budget": None})
    assert plain["limits"] == NO_LIMITS


@pytest.mark.parametrize(
    ("amount", "nano"),
    [
        ("25", 25 * NANO),
        ("0.000000001", 1),
        ("0.1", NANO // 10),
        ("123456789.123456789", 123_456_789_123_456_789),  # more digits than a float holds
        ("1e3", 1000 * NANO),
        ("1000000000", 10**18),
        ("0", 0),
    ],
)
async def test_an_amount_is_kept_as_it_was_written(
    admin: World, client: httpx.AsyncClient, amount: str, nano: int
):
    body = '{"name": "k", "limits": {"budget": {"amount": %s}}}' % amount  # noqa: UP031
    made = (await client.post(KEYS, content=body)).json()["key"]
    assert (await admin.store.key(made["id"])).limits.budget_nano == nano
    assert (made["limits"]["budget"] is None) == (nano == 0)


async def test_a_change_says_only_what_is_to_be_otherwise(client: httpx.AsyncClient):
    budget = {"amount": 25.0, "period": "total"}
    made = await make(
        client, models=["a"], limits={"in_flight": 4, "budget": budget}, expires_in_s=60
    )
    url = f"{KEYS}/{made['id']}"

    changed = (await client.patch(url, json={"limits": {"in_flight": 0}, "name": "web"})).json()
    assert changed == made | {"name": "web", "limits": NO_LIMITS | {"budget": budget}}
    changed = (
        await client.patch(
            url,
            json={
                "limits": {"budget": None, "tokens_per_minute": 5},
                "expires_at": None,
                "models": [],
                "priority": "low",
            },
        )
    ).json()
    assert changed == made | {
        "name": "web",
        "limits": NO_LIMITS | {"tokens_per_minute": 5},
        "expires_at": None,
        "models": [],
        "priority": "low",
    }
    assert (await client.patch(url, json={})).json() == changed
    again = (await client.patch(url, json={"expires_in_s": 3600})).json()
    assert again["expires_at"] > made["expires_at"]


async def test_changes_and_rotations_are_audited_and_told(client: httpx.AsyncClient):
    made = await make(client)
    await client.patch(f"{KEYS}/{made['id']}", json={"name": "web"})
    await client.post(f"{KEYS}/{made['id']}/rotate", json={"overlap_s": 5})
    audit = (await client.get("/admin/v1/audit")).json()["items"][-2:]
    assert [(item["action"], item["object"]) for item in audit] == [
        ("key.update", made["id"]),
        ("key.rotate", made["id"]),
    ]
    events = (await client.get("/admin/v1/events")).json()["items"][-2:]
    assert [event["kind"] for event in events] == ["key-changed", "key-rotated"]


async def test_a_rotated_admin_key_opens_with_both_secrets_for_the_overlap(admin: World):
    now = 1e9
    (key,) = (each for each in await admin.store.keys() if each.kind is KeyKind.ADMIN)
    rotated, secret = await admin.store.rotate_key(key.id, overlap_s=60, by=ME)
    assert rotated.old_expires_at is not None
    keys = AdminKeys(admin.store, lambda: now)
    for at, old_is_good in ((0.0, True), (59.0, True), (60.0, False), (1e9, False)):
        now = rotated.old_expires_at - 60 + at
        found = await keys.find(ADMIN_SECRET)
        assert (found is not None) == old_is_good
        assert found is None or found.id == key.id
        assert (await keys.find(secret)).id == key.id
    now = rotated.old_expires_at - 60
    await admin.store.revoke_key(key.id, by=ME)
    assert await keys.find(secret) is None
    assert await keys.find(ADMIN_SECRET) is None


async def test_rotation_shows_the_new_secret_once_and_when_the_old_one_ends(
    admin: World, client: httpx.AsyncClient
):
    (key,) = (each for each in await admin.store.keys() if each.kind is KeyKind.INFERENCE)
    url = f"{KEYS}/{key.id}"
    answer = await client.post(f"{url}/rotate", json={"overlap_s": 86_400})
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    view, secret = answer.json()["key"], answer.json()["secret"]
    assert secret.startswith("mk-")
    assert (view["id"], view["models"]) == (key.id, ["smollm2"])
    assert view["old_secret_until"] is not None
    assert (await client.get(url)).json() == view
    stored = await admin.store.key(key.id)
    assert (stored.digest, stored.old_digest) == (digest(secret), digest(INFERENCE_SECRET))

    ended = (await client.post(f"{url}/rotate", json={"overlap_s": 0})).json()["key"]
    assert ended["old_secret_until"] is None
    await client.delete(url)
    for request in (
        client.post(f"{url}/rotate", json={"overlap_s": 0}),
        client.patch(url, json={"name": "n"}),
    ):
        refused = await request
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "conflict")
        assert "make another one" in refused.json()["error"]["message"]


async def test_a_key_shows_what_it_spent(admin: World, client: httpx.AsyncClient):
    made = await make(client, limits={"budget": {"amount": 1, "period": "total"}})
    record = UsageRecord(
        request_id="r2",
        key_id=made["id"],
        model="smollm2",
        variant="default",
        revision=1,
        mode="aggregated",
        status=UsageStatus.OK,
        prompt_tokens=1,
        completion_tokens=1,
        opened_at=1.0,
        closed_at=2.0,
        cost_nano=NANO // 4,
    )
    await admin.store.record_usage([record])
    shown = (await client.get(f"{KEYS}/{made['id']}")).json()
    assert shown["spent"] == {"amount": 0.25, "period": "total"}
    url = f"{KEYS}/{made['id']}"
    changed = (await client.patch(url, json={"limits": {"in_flight": 1}})).json()
    assert changed["spent"] == shown["spent"]
    daily = {"limits": {"budget": {"amount": 1, "period": "day"}}}
    changed = (await client.patch(url, json=daily)).json()
    assert changed["spent"] == {"amount": 0.0, "period": "day"}


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"in_flight": "4"}, "limits.in_flight: is '4', allowed is a whole number or nothing"),
        ({"budget": 5}, "limits.budget: is 5, allowed is a mapping of amount, period or nothing"),
        ({"budget": {}}, "limits.budget.amount: is missing, allowed is a number"),
        ({"budget": {"amount": "x"}}, "limits.budget.amount: is 'x', allowed is a number"),
    ],
)
async def test_who_writes_a_limit_wrong_is_told_what_is_allowed(
    client: httpx.AsyncClient, limits: dict, said: str
):
    refused = await client.post(KEYS, json={"name": "k", "limits": limits})
    assert refused.status_code in (400, 422)
    assert refused.json()["error"]["message"] == said


async def test_openapi_says_what_limits_look_like(client: httpx.AsyncClient):
    paths = (await client.get("/schema/openapi.json")).json()["paths"]
    for path, method in ((KEYS, "post"), (KEYS + "/{key_id}", "patch")):
        body = paths[path][method]["requestBody"]["content"]["application/json"]["schema"]
        limits = body["properties"]["limits"]["properties"]
        assert limits["requests_per_minute"]["anyOf"][0]["type"] == "integer"
        assert limits["budget"]["anyOf"][0]["properties"]["amount"]["type"] == "number"
        assert "$ref" not in str(body)
