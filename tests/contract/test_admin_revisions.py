"""Diffs, histories and the way back, over the admin API."""

import httpx
from admin_world import World

FRESH = {
    "name": "fresh",
    "source": "hf://org/fresh",
    "variants": [{"engine": "vllm", "topology": {"type": "aggregated", "memory": "4GiB"}}],
}
PAIR = FRESH | {
    "rollout": {"canary": [5, 100], "pause_s": 60},
    "variants": [
        {"engine": "vllm", "topology": {"type": "disaggregated", "prefill": {}, "decode": {}}}
    ],
}


async def ok(request) -> dict:
    answer = await request
    assert answer.is_success, answer.text
    return answer.json()


async def put(client: httpx.AsyncClient, spec: dict, **params) -> dict:
    return await ok(client.put(f"/admin/v1/models/{spec['name']}", json=spec, params=params))


async def test_a_diff_says_what_apply_then_does(client: httpx.AsyncClient):
    await put(client, FRESH)
    asked = {"models": [PAIR, FRESH | {"name": "other"}]}
    changed, new = (await ok(client.post("/admin/v1/models:diff", json=asked)))["items"]
    assert (changed["from_revision"], changed["to_revision"]) == (1, 2)
    assert (new["from_revision"], new["to_revision"], new["rollout"]) == (0, 1, None)
    assert [change["field"] for change in changed["changes"]][:2] == [
        "variants[default].topology.type",
        "variants[default].topology.memory",
    ]
    assert {item["role"]: (item["started"], item["stopped"]) for item in changed["workers"]} == {
        "unified": (0, 1),
        "prefill": (1, 0),
        "decode": (1, 0),
    }
    assert changed["rollout"]["canary"] == [5, 100]
    dry = await put(client, PAIR, dry_run=True)
    assert (dry["dry_run"], dry["revision"], dry["diff"]) == (True, 1, changed)
    assert (await put(client, PAIR))["revision"] == 2
    (same,) = (await ok(client.post("/admin/v1/models:diff", json={"models": [PAIR]})))["items"]
    assert (same["changes"], same["rollout"], same["to_revision"]) == ([], None, 2)
    assert (await ok(client.get("/admin/v1/models/fresh/diff")))["changes"] == changed["changes"]


async def test_any_two_revisions_can_be_compared(client: httpx.AsyncClient):
    for owner in ("a", "b", "c"):
        await put(client, FRESH | {"owner": owner})
    where = "/admin/v1/models/fresh/diff"

    async def owners(**params) -> list[tuple[str, str]]:
        view = await ok(client.get(where, params=params))
        return [(change["before"], change["after"]) for change in view["changes"]]

    assert await owners() == [("b", "c")]
    assert await owners(to=2) == [("a", "b")]
    assert await owners(**{"from": 1}) == [("a", "c")]
    assert await owners(**{"from": 3, "to": 1}) == [("c", "a")]
    assert (await ok(client.get(where, params={"to": 1})))["from_revision"] == 0


async def test_a_history_says_who_changed_what(client: httpx.AsyncClient):
    await put(client, FRESH)
    await put(client, FRESH | {"owner": "team", "priority": 7})
    await ok(client.post("/admin/v1/models/fresh/rollback"))
    items = (await ok(client.get("/admin/v1/models/fresh/revisions")))["items"]
    assert [item["changes"] for item in items] == ["created", "owner, priority", "as revision 1"]
    assert {item["created_by_name"] for item in items} == {"op"}
    assert [item["newest"] for item in items] == [False, False, True]
    one = await ok(client.get("/admin/v1/models/fresh/revisions/2"))
    assert one == items[1]
    assert one["spec"]["owner"] == "team"


async def test_a_rollback_is_a_new_revision_with_the_content_of_an_old_one(
    admin: World, client: httpx.AsyncClient
):
    await put(client, FRESH)
    await put(client, FRESH | {"owner": "team"})
    where = "/admin/v1/models/fresh/rollback"
    dry = await ok(client.post(where, params={"dry_run": True}))
    assert (dry["dry_run"], dry["revision"], dry["changed"]) == (True, 2, True)
    assert [change["after"] for change in dry["diff"]["changes"]] == ["default"]
    back = await ok(client.post(where, headers={"if-match": "2"}))
    assert (back["revision"], back["spec"]) == (3, FRESH)
    assert (await client.post(where, headers={"if-match": "2"})).status_code == 412
    again = await ok(client.post(where, params={"to": 1}))
    assert (again["changed"], again["revision"]) == (False, 3)
    there = await ok(client.post(where))
    assert (there["revision"], there["spec"]["owner"]) == (4, "team")
    entries = [entry for entry in await admin.store.audit() if entry.action == "model.rollback"]
    assert [(e.object, e.before_revision, e.after_revision) for e in entries] == [
        ("fresh", 2, 3),
        ("fresh", 3, 4),
    ]


async def test_a_rollback_never_goes_back_to_what_was_rolled_back(
    admin: World, client: httpx.AsyncClient
):
    where = "/admin/v1/models/fresh"
    await put(client, FRESH)
    await put(client, FRESH | {"owner": "team"})
    await admin.store.finish_rollout("fresh", 2, reason="done")
    await put(client, PAIR)
    await ok(client.post(f"{where}/rollout:abort"))
    back = await ok(client.post(f"{where}/rollback"))
    assert (back["revision"], back["spec"]) == (5, FRESH)
    named = await ok(client.post(f"{where}/rollback", params={"to": 3}))
    assert named["spec"] == PAIR


async def test_a_rollback_without_anything_before_is_refused(client: httpx.AsyncClient):
    await put(client, FRESH)
    answer = await client.post("/admin/v1/models/fresh/rollback")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "conflict")


async def test_scaling_can_be_tried(admin: World, client: httpx.AsyncClient):
    await put(client, FRESH)
    scale = "/admin/v1/models/fresh/scale"
    dry = await ok(client.patch(scale, json={"workers": 3}, params={"dry_run": True}))
    assert dry["diff"]["workers"][0]["started"] == 2
    assert dry["diff"]["rollout"]["changes_workers"] is True
    assert (await admin.store.model("fresh")).revision == 1


async def test_traffic_is_told_by_revision_and_now_takes_it_in_one_step(
    admin: World, client: httpx.AsyncClient
):
    await put(client, FRESH)
    await put(client, PAIR)

    async def shares() -> list[int]:
        items = (await ok(client.get("/admin/v1/models/fresh/revisions")))["items"]
        return [item["traffic_percent"] for item in items]

    assert await shares() == [100, 0], "its rollout has not entered a step"
    await put(client, PAIR | {"owner": "team"}, now=True)
    rollout = (await admin.store.model("fresh")).rollout
    assert (rollout.from_revision, rollout.to_revision, rollout.policy.canary) == (1, 3, (100,))
    dry = await ok(client.post("/admin/v1/models/fresh/rollback", params={"dry_run": True}))
    assert (dry["diff"]["rollout"]["canary"], dry["diff"]["rollout"]["supersedes"]) == ([5, 100], 3)
    await ok(client.post("/admin/v1/models/fresh/rollback", params={"to": 2, "now": True}))
    assert (await admin.store.model("fresh")).rollout.policy.canary == (100,)
    assert await shares() == [100, 0, 0, 0]
