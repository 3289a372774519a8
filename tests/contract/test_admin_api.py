"""What the admin API answers, over the real store."""

import base64

import httpx
import pytest
from admin_world import ADMIN_SECRET, INFERENCE_SECRET, World

from gateway.admin import fleet
from gateway.admin.auth import AdminKeys
from gateway.admin.errors import _describe
from registry.keys import digest
from registry.spec import to_data
from registry.state import Phase

SPEC = {
    "name": "fresh",
    "source": "hf://org/fresh",
    "variants": [{"engine": "emulator", "topology": {"type": "aggregated"}}],
}


def all_routes(admin: World):
    for route in admin.app.routes:
        for method in sorted(route.methods):
            path = route.path_format
            for name in ("name", "worker_id", "key_id", "owner"):
                path = path.replace(f"{{{name}}}", "x").replace(f"{{{name}:str}}", "x")
            path = path.replace("{number}", "1")
            yield method, path


OPEN_ROUTES = {("GET", "/healthz"), ("POST", "/admin/v1/session")}
WHO = ("GET", "/admin/v1/session")  # answers nobody that it is nobody, and refuses a wrong key


async def test_every_route_but_two_wants_an_admin_key(admin: World):
    routes = list(all_routes(admin))
    assert len(routes) > 30
    for secret in (None, INFERENCE_SECRET, "mka-" + "z" * 43, "a" * 5000):
        async with admin.client(secret) as client:
            for method, path in routes:
                answer = await client.request(method, path)
                is_open = (method, path) in OPEN_ROUTES or ((method, path) == WHO and not secret)
                assert (answer.status_code == 401) != is_open, (method, path, secret)


async def test_no_key_is_told_apart_from_an_inference_key_by_its_envelope(admin: World):
    async with admin.client(INFERENCE_SECRET) as client:
        answer = await client.get("/admin/v1/models")
    assert answer.json()["error"]["code"] == "unauthorized"
    assert answer.headers["www-authenticate"] == "Bearer"
    assert INFERENCE_SECRET not in answer.text


async def test_every_route_has_an_operation_id_of_its_own(admin: World):
    paths = admin.app.openapi_schema.to_schema()["paths"]
    operations = [op for path in paths.values() for op in path.values() if "responses" in op]
    ids = [operation["operationId"] for operation in operations]
    assert len(set(ids)) == len(ids) >= 20
    assert all(name.isidentifier() and "Admin" not in name for name in ids)


async def test_openapi_says_what_bodies_look_like(admin: World, client: httpx.AsyncClient):
    schema = (await client.get("/schema/openapi.json")).json()
    put = schema["paths"]["/admin/v1/models/{name}"]["put"]
    spec = put["requestBody"]["content"]["application/json"]["schema"]
    assert {"name", "variants"} <= set(spec["required"])
    assert "priority" not in spec["required"]
    answer = schema["components"]["schemas"]["AppliedView"]
    assert set(answer["required"]) == set(answer["properties"]), "a default is there, too"
    assert "$ref" not in str(spec)
    scale = schema["paths"]["/admin/v1/models/{name}/scale"]["patch"]
    assert "prefill" in str(scale["requestBody"])


async def test_no_answer_carries_a_token_a_digest_or_a_stored_secret(
    admin: World, client: httpx.AsyncClient
):
    workers = await admin.store.workers()
    (key,) = (key for key in await admin.store.keys() if key.name == "app")
    _, secret = await admin.store.rotate_key(key.id, overlap_s=60, by=await _principal())
    hidden = [ADMIN_SECRET, INFERENCE_SECRET, secret]
    hidden += [shown for each in hidden for shown in _spellings(digest(each))]
    hidden += [worker.token for worker in workers]
    assert all(hidden)
    paths = ["models", "models/smollm2-pd", "models/smollm2/revisions", "workers?ended=true"]
    paths += [f"workers/{workers[0].id}", f"workers/{workers[0].id}/logs"]
    paths += [
        "nodes",
        "nodes/local",
        "fleet",
        "quotas",
        "pools",
        "controllers",
        "defragmentation",
        "keys",
        f"keys/{key.id}",
        "events",
        "audit",
        "usage",
        "usage.csv",
    ]
    for path in paths:
        answer = await client.get(f"/admin/v1/{path}")
        assert answer.status_code == 200, path
        for secret in hidden:
            assert secret not in answer.text, path
        for name in ('"token"', 'digest"', '"secret"'):
            assert name not in answer.text, path


def _spellings(data: bytes) -> tuple[str, ...]:
    return data.hex(), base64.b64encode(data).decode(), base64.urlsafe_b64encode(data).decode()


async def test_headers_are_on_every_answer(client: httpx.AsyncClient):
    for path in ("/healthz", "/admin/v1/models", "/admin/v1/models/none", "/nowhere"):
        answer = await client.get(path, headers={"x-request-id": "mine-1"})
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-request-id"] == "mine-1"
    answer = await client.get("/healthz", headers={"x-request-id": "no spaces\x7f"})
    assert answer.headers["x-request-id"] != "no spaces\x7f"


async def test_metrics_are_prometheus_text(client: httpx.AsyncClient):
    answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    assert "modelyard_seen_total 1.0" in answer.text


async def test_describe_shows_the_pair_where_it_runs_and_its_transfers(client: httpx.AsyncClient):
    answer = await client.get("/admin/v1/models/smollm2-pd")
    view = answer.json()
    assert answer.headers["etag"] == f'"{view["generation"]}"'
    assert view["state"] == "degraded"
    (variant,) = view["variants"]
    rest = {"asleep": 0, "autoscale": None}
    assert variant["roles"] == [
        {"role": "prefill", "desired": 1, "live": 1, "ready": 1, **rest},
        {"role": "decode", "desired": 2, "live": 2, "ready": 1, **rest},
    ]
    assert [worker["role"] for worker in variant["workers"]] == ["prefill", "decode", "decode"]
    prefill, silent, starting = variant["workers"]
    assert prefill["address"] == "127.0.0.1:9001"
    assert prefill["devices"] == ["local/cpu1"]
    assert prefill["metrics"]["kv_transfers"] == 12 == variant["kv_transfers"]
    assert silent["metrics"] is None
    assert starting["metrics"] is None
    assert starting["reason"] == "loading weights"
    assert view["events"][-1]["message"].endswith("loading weights")
    assert view["spec"]["name"] == "smollm2-pd"
    assert view["created_at"].endswith("Z")


async def test_engines_are_asked_only_where_they_are_few(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
):
    async def counted(query: str) -> list[bool]:
        items = (await client.get(f"/admin/v1/workers{query}")).json()["items"]
        return [item["metrics"] is not None for item in items]

    everybody = await counted("")
    assert sum(everybody) > 1
    assert await counted("?model=smollm2") == [True]
    monkeypatch.setattr(fleet, "ENGINES_ASKED_MAX", 1)
    assert await counted("") == [False] * len(everybody)
    assert await counted("?model=smollm2") == [True]


async def test_describe_counts_restarts_of_a_slot(admin: World, client: httpx.AsyncClient):
    (worker,) = await admin.store.workers(model="smollm2")
    await admin.store.set_worker(worker.id, Phase.FAILED, reason="exit code 9")
    view = (await client.get("/admin/v1/models/smollm2")).json()
    assert view["state"] == "unavailable"
    ended = (await client.get("/admin/v1/workers?ended=true&model=smollm2")).json()["items"]
    assert [(item["phase"], item["restarts"]) for item in ended] == [("failed", 1)]
    assert (await client.get("/admin/v1/workers?model=smollm2")).json()["items"] == []


async def test_a_new_spec_makes_its_running_workers_outdated(client: httpx.AsyncClient):
    view = (await client.get("/admin/v1/models/smollm2")).json()
    assert view["state"] == "ready"
    spec = view["spec"]
    spec["variants"][0]["topology"]["args"] = {"max-num-seqs": 4}
    assert (await client.put("/admin/v1/models/smollm2", json=spec)).status_code == 200
    view = (await client.get("/admin/v1/models/smollm2")).json()
    assert view["state"] == "rolling"
    assert view["variants"][0]["roles"][0]["ready"] == 0
    assert len(view["variants"][0]["workers"]) == 1


async def test_apply_creates_then_changes_then_leaves_alone(client: httpx.AsyncClient):
    created = await client.put("/admin/v1/models/fresh", json=SPEC)
    assert (created.status_code, created.headers["etag"]) == (201, '"1"')
    assert created.json()["created"] is created.json()["changed"] is True
    same = await client.put("/admin/v1/models/fresh", json=SPEC)
    assert (same.status_code, same.json()["changed"], same.headers["etag"]) == (200, False, '"1"')
    other = await client.put("/admin/v1/models/fresh", json=SPEC | {"source": "hf://org/other"})
    assert (other.status_code, other.json()["revision"]) == (200, 2)
    revisions = (await client.get("/admin/v1/models/fresh/revisions")).json()["items"]
    assert [revision["number"] for revision in revisions] == [1, 2]
    assert revisions[0]["created_by"].startswith("key_")


async def test_if_match_lets_only_the_first_of_two_writers_through(client: httpx.AsyncClient):
    etag = (await client.put("/admin/v1/models/fresh", json=SPEC)).headers["etag"]
    changed = SPEC | {"source": "hf://org/one"}
    headers = {"if-match": etag}
    assert (await client.put("/admin/v1/models/fresh", json=changed, headers=headers)).is_success
    changed = SPEC | {"source": "hf://org/two"}
    late = await client.put("/admin/v1/models/fresh", json=changed, headers=headers)
    assert (late.status_code, late.json()["error"]["code"]) == (412, "precondition_failed")
    for method, path, body in (
        ("PATCH", "/admin/v1/models/fresh/scale", {"workers": 2}),
        ("DELETE", "/admin/v1/models/fresh", None),
    ):
        late = await client.request(method, path, json=body, headers=headers)
        assert late.status_code == 412, path
    assert (await client.delete("/admin/v1/models/fresh", headers={"if-match": '"2"'})).is_success


async def test_create_only_refuses_a_name_that_is_taken(client: httpx.AsyncClient):
    headers = {"if-none-match": "*"}
    first = await client.put("/admin/v1/models/fresh", json=SPEC, headers=headers)
    second = await client.put("/admin/v1/models/fresh", json=SPEC, headers=headers)
    assert (first.status_code, second.status_code) == (201, 412)


async def test_dry_run_writes_nothing(admin: World, client: httpx.AsyncClient):
    before = await admin.store.version()
    would = (await client.put("/admin/v1/models/fresh?dry_run=true", json=SPEC)).json()
    assert (would["created"], would["changed"], would["dry_run"]) == (True, True, True)
    validated = await client.post("/admin/v1/models:validate", json=SPEC)
    assert validated.status_code == 200
    stale = await client.put(
        "/admin/v1/models/smollm2?dry_run=true",
        json=SPEC | {"name": "smollm2"},
        headers={"if-match": "9"},
    )
    assert stale.status_code == 412
    assert await admin.store.version() == before


async def test_checking_what_is_wrong_is_no_error(admin: World, client: httpx.AsyncClient):
    before = await admin.store.version()
    refusals = []
    for body in (SPEC | {"task": "sing"}, {}, []):
        answer = await client.post("/admin/v1/models:check", json=body)
        assert (answer.status_code, answer.json()["would"]) == (200, None)
        refusals.append(answer.json()["refused"])
    assert [refused["field"] for refused in refusals] == ["task", "name", ""]
    assert refusals[0]["message"].startswith("is 'sing'")
    checked = (await client.post("/admin/v1/models:check", json=SPEC)).json()
    validated = (await client.post("/admin/v1/models:validate", json=SPEC)).json()
    assert checked == {"would": validated, "refused": None}
    assert await admin.store.version() == before


async def test_a_fallback_that_is_not_there_is_warned_of_and_not_refused(client: httpx.AsyncClient):
    """Models may come in any order."""
    spec = SPEC | {"fallback": {"models": ["smollm2", "later"]}}
    would = (await client.put("/admin/v1/models/fresh?dry_run=true", json=spec)).json()
    made = await client.put("/admin/v1/models/fresh", json=spec)
    assert made.status_code == 201
    described = (await client.get("/admin/v1/models/fresh")).json()
    (warning,) = made.json()["warnings"]
    assert "names 'later', which is not there" in warning
    validated = (await client.post("/admin/v1/models:validate", json=spec)).json()
    assert would["warnings"] == validated["warnings"] == described["warnings"] == [warning]

    later = {"name": "later", "task": "embed", "source": "hf://o/m"}
    variants = [{"engine": "emulator", "topology": {"type": "aggregated"}}]
    await client.put("/admin/v1/models/later", json=later | {"variants": variants})
    (warning,) = (await client.get("/admin/v1/models/fresh")).json()["warnings"]
    assert "whose task is embed and not generate" in warning
    assert (await client.get("/admin/v1/models/smollm2")).json()["warnings"] == []


async def test_scale_changes_only_the_counts(admin: World, client: httpx.AsyncClient):
    answer = await client.patch("/admin/v1/models/smollm2-pd/scale", json={"decode": 3})
    assert answer.status_code == 200
    spec = to_data((await admin.store.model("smollm2-pd")).spec)
    topology = spec["variants"][0]["topology"]
    assert topology["decode"] == {"workers": 3, "memory": "4GiB"}
    assert topology["prefill"] == {"memory": "4GiB"}
    one = {"variant": "new", "workers": 2}
    assert (await client.patch("/admin/v1/models/canary/scale", json=one)).is_success
    variants = to_data((await admin.store.model("canary")).spec)["variants"]
    assert [variant["topology"].get("workers", 1) for variant in variants] == [1, 2]


async def test_scale_reads_again_when_somebody_wrote_in_between(
    admin: World, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
):
    read, times = admin.store.model, 0

    async def read_then_lose(name: str):
        nonlocal times
        model, times = await read(name), times + 1
        if times == 1:
            body = {"prefill": 2}
            assert (await client.patch("/admin/v1/models/smollm2-pd/scale", json=body)).is_success
        return model

    monkeypatch.setattr(admin.store, "model", read_then_lose)
    answer = await client.patch("/admin/v1/models/smollm2-pd/scale", json={"decode": 4})
    assert answer.status_code == 200
    topology = answer.json()["spec"]["variants"][0]["topology"]
    assert (topology["prefill"]["workers"], topology["decode"]["workers"]) == (2, 4)


async def test_a_deleted_model_is_listed_until_its_workers_stopped(
    admin: World, client: httpx.AsyncClient
):
    assert (await client.delete("/admin/v1/models/smollm2")).status_code == 200
    listed = {item["name"]: item for item in (await client.get("/admin/v1/models")).json()["items"]}
    assert listed["smollm2"]["state"] == "deleting"
    (worker,) = await admin.store.workers(model="smollm2")
    await admin.store.set_worker(worker.id, Phase.STOPPED)
    assert (await client.get("/admin/v1/models/smollm2")).status_code == 404


async def test_nodes_show_what_is_free(client: httpx.AsyncClient):
    (node,) = (await client.get("/admin/v1/nodes")).json()["items"]
    device = node["devices"][1]
    assert device["free_bytes"] == device["memory_bytes"] - device["claimed_bytes"] == 2 * 2**30
    assert device["workers"][0].startswith("smollm2-pd-prefill-0-")
    (drawn,) = (await client.get("/admin/v1/fleet")).json()["nodes"]
    claims = drawn["devices"][1]["claims"]
    assert [claim["worker"] for claim in claims] == device["workers"]
    assert sum(claim["memory_bytes"] for claim in claims) == device["claimed_bytes"]
    assert (await client.post("/admin/v1/nodes/local/cordon")).json()["state"] == "cordoned"
    assert (await client.post("/admin/v1/nodes/local/uncordon")).json()["state"] == "ready"


async def test_a_key_works_from_its_making_to_its_revocation(
    admin: World, client: httpx.AsyncClient
):
    made = await client.post("/admin/v1/keys", json={"name": "second", "kind": "admin"})
    assert made.status_code == 201
    assert made.headers["cache-control"] == "no-store"
    secret, key_id = made.json()["secret"], made.json()["key"]["id"]
    async with admin.client(secret) as second:
        assert (await second.get("/admin/v1/keys")).status_code == 200
        revoked = await client.delete(f"/admin/v1/keys/{key_id}")
        assert revoked.json()["state"] == "revoked"
        assert (await second.get("/admin/v1/keys")).status_code == 401


async def test_an_admin_key_ends_when_it_expires(admin: World):
    now = 1e9
    made, secret = await admin.store.create_key(
        name="short", kind="admin", expires_at=4e9, by=(await _principal())
    )
    keys = AdminKeys(admin.store, lambda: now)
    assert (await keys.find(secret)).id == made.id
    now = 4e9
    assert await keys.find(secret) is None


async def _principal():
    from registry.state import Principal

    return Principal(actor="tests")


async def test_admin_keys_are_read_only_when_the_registry_changed(
    admin: World, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
):
    read, times = admin.store.keys, 0

    async def counted():
        nonlocal times
        times += 1
        return await read()

    monkeypatch.setattr(admin.store, "keys", counted)
    for _ in range(5):
        await client.get("/admin/v1/nodes")
    assert times == 1
    await client.post("/admin/v1/nodes/local/cordon")
    await client.get("/admin/v1/nodes")
    assert times == 2


async def test_events_are_the_newest_or_what_came_after(client: httpx.AsyncClient):
    newest = (await client.get("/admin/v1/events?limit=2")).json()
    assert [event["kind"] for event in newest["items"]] == ["worker-phase", "model-condition"]
    first = (await client.get("/admin/v1/events?after=0&limit=2")).json()
    assert [event["id"] for event in first["items"]] == [1, 2]
    assert first["last_id"] == 2
    of_model = (await client.get("/admin/v1/events?model=canary")).json()["items"]
    assert {event["model"] for event in of_model} == {"canary"}
    assert (await client.get(f"/admin/v1/events?after={newest['last_id']}")).json() == {
        "items": [],
        "last_id": newest["last_id"],
    }


async def test_audit_names_who_from_where_with_the_request_id(client: httpx.AsyncClient):
    headers = {"x-request-id": "change-7"}
    await client.put("/admin/v1/models/fresh", json=SPEC, headers=headers)
    entry = (await client.get("/admin/v1/audit")).json()["items"][-1]
    assert entry["request_id"] == "change-7"
    assert entry["actor"].startswith("key_")
    assert (entry["object"], entry["after_revision"]) == ("fresh", 1)
    assert entry["client_ip"] == "127.0.0.1"


async def test_audit_is_the_newest_entries_or_the_first_after_one(client: httpx.AsyncClient):
    for name in ("first", "second"):
        await client.put(f"/admin/v1/models/{name}", json={**SPEC, "name": name})
    newest = (await client.get("/admin/v1/audit?limit=1")).json()
    oldest = (await client.get("/admin/v1/audit?after=0&limit=1")).json()
    assert newest["items"][0]["object"] == "second"
    assert oldest["items"][0]["id"] == 1


async def test_what_is_unexpected_tells_only_a_request_id(
    admin: World, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
):
    async def broken(*_args: object, **_options: object):
        raise RuntimeError("password=hunter2")

    monkeypatch.setattr(admin.store, "usage", broken)
    answer = await client.get("/admin/v1/usage", headers={"x-request-id": "oops-1"})
    assert answer.status_code == 500
    assert answer.json()["error"] == {
        "code": "internal",
        "message": "internal error; look for request id oops-1 in the log",
        "field": "",
    }


def test_every_error_of_the_registry_is_known():
    from registry import errors

    kinds = errors.RegistryError.__subclasses__()
    assert {kind.__name__ for kind in kinds} == {
        "SpecError",
        "NotFoundError",
        "ConflictError",
        "PlanConflictError",
        "LeadershipLostError",  # only of the controller's writes: the API has no lease
        "SchemaError",
        "BackupError",  # of `modelyard db`, which asks no API
        "UnavailableError",
    }
    made = errors.NotFoundError("model", "m"), errors.SpecError("f", "x"), errors.ConflictError("c")
    assert [_describe(error)[0] for error in made] == [404, 422, 409]
    assert _describe(errors.UnavailableError("busy"))[0] == 503
