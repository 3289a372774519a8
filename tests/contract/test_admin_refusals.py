"""A table of bad admin requests: each gets its status, the one envelope, and the field at fault."""

from pathlib import Path

from admin_world import world

AGGREGATED = {"type": "aggregated"}
VARIANT = {"engine": "emulator", "topology": AGGREGATED}
GOOD = {"name": "m", "source": "hf://org/m", "variants": [VARIANT]}
PD = {"type": "disaggregated", "prefill": {}, "decode": {}}


def bad_topology(**changes):
    return GOOD | {"variants": [VARIANT | {"topology": AGGREGATED | changes}]}


def bad_pair(**changes):
    return GOOD | {"variants": [VARIANT | {"topology": PD | changes}]}


PUT = "PUT /admin/v1/models/m"
SCALE = "PATCH /admin/v1/models/smollm2/scale"
SCALE_PD = "PATCH /admin/v1/models/smollm2-pd/scale"
SCALE_CANARY = "PATCH /admin/v1/models/canary/scale"
PLAN = "POST /admin/v1/plan"
TUNE = "POST /admin/v1/models/smollm2/tune-prefill"
MEASURE = "POST /admin/v1/models/smollm2/measure"
QUOTA = "PUT /admin/v1/quotas/team"
POOL = "PUT /admin/v1/pools/tail"
KEY = "POST /admin/v1/keys"
SESSION = "POST /admin/v1/session"
ACCOUNT = "POST /admin/v1/accounts"
GOOD_PASSWORD = "correct horse battery"
CHANGE = "PATCH /admin/v1/keys/{key}"
ROTATE = "POST /admin/v1/keys/{key}/rotate"


def bad_limits(**limits):
    return {"name": "k", "limits": limits}


# request, body (bytes go as they are), headers, status, field ("*": any)
TABLE = [
    (PUT, b"", {}, 400, ""),
    (PUT, b"{", {}, 400, ""),
    (PUT, b"\xff\xfe", {}, 400, ""),
    (PUT, b"{" * 100_000, {}, 400, ""),
    (PUT, b"[" * 100_000, {}, 400, ""),
    (PUT, b'{"name": NaN}', {}, 400, ""),
    (PUT, b"[]", {}, 422, ""),
    (PUT, b"null", {}, 422, ""),
    (PUT, b" " * (4 * 2**20 + 1), {}, 413, ""),
    (PUT, {}, {}, 422, "name"),
    (PUT, GOOD | {"name": "other"}, {}, 422, "name"),
    (PUT, GOOD | {"name": "a/b"}, {}, 422, "name"),
    (PUT, GOOD | {"source": "http://169.254.169.254/"}, {}, 422, "source"),
    (PUT, GOOD | {"source": 5}, {}, 422, "source"),
    (PUT, GOOD | {"generation": 7}, {}, 422, "generation"),
    (PUT, GOOD | {"variants": []}, {}, 422, "variants"),
    (PUT, GOOD | {"variants": [VARIANT, VARIANT]}, {}, 422, "variants"),
    (PUT, bad_topology(workers=0), {}, 422, "variants[0].topology.workers"),
    (PUT, bad_topology(workers="3"), {}, 422, "variants[0].topology.workers"),
    (PUT, bad_topology(devices=3, tensor_parallel=2), {}, 422, "*"),
    (PUT, bad_topology(args={"api-key": "x"}), {}, 422, "variants[0].topology.args.api-key"),
    (PUT, bad_pair(decode={"workers": 0}), {}, 422, "variants[0].topology.decode.workers"),
    (PUT, bad_pair(transfer="carrier-pigeon"), {}, 422, "variants[0].topology.transfer"),
    (PUT, GOOD, {"if-match": "yesterday"}, 400, "If-Match"),
    (PUT, GOOD, {"if-match": '"1", "2"'}, 400, "If-Match"),
    (PUT, GOOD, {"if-match": 'W/"1"'}, 400, "If-Match"),
    (PUT, GOOD, {"if-match": '"1"'}, 412, ""),
    (PUT, GOOD, {"if-none-match": '"1"'}, 400, "If-None-Match"),
    (PUT + "?dry_run=perhaps", GOOD, {}, 400, "dry_run"),
    ("POST /admin/v1/models:check", b"{", {}, 400, ""),
    ("POST /admin/v1/models:validate", GOOD | {"task": "sing"}, {}, 422, "task"),
    ("GET /admin/v1/models/none", None, {}, 404, ""),
    ("GET /admin/v1/models/none/revisions", None, {}, 404, ""),
    ("GET /admin/v1/models/none/revisions/1", None, {}, 404, ""),
    ("GET /admin/v1/models/smollm2/revisions/2", None, {}, 404, ""),
    ("GET /admin/v1/models/smollm2/revisions/x", None, {}, 404, ""),
    ("GET /admin/v1/models/none/diff", None, {}, 404, ""),
    ("GET /admin/v1/models/smollm2/diff?from=1&to=9", None, {}, 404, ""),
    ("GET /admin/v1/models/smollm2/diff?from=0", None, {}, 400, "from"),
    ("GET /admin/v1/models/smollm2/diff?to=x", None, {}, 400, "to"),
    ("POST /admin/v1/models:diff", b"{", {}, 400, ""),
    ("POST /admin/v1/models:diff", {"models": [GOOD, GOOD]}, {}, 422, "models[1].name"),
    ("POST /admin/v1/models/none/rollback", None, {}, 404, ""),
    ("POST /admin/v1/models/smollm2/rollback", None, {}, 409, ""),
    ("POST /admin/v1/models/smollm2/rollback?to=9", None, {}, 404, ""),
    ("POST /admin/v1/models/smollm2/rollback?to=0", None, {}, 400, "to"),
    ("POST /admin/v1/models/smollm2/rollback?to=1", None, {"if-match": "x"}, 400, "If-Match"),
    ("GET /admin/v1/models/..%2F..%2Fetc", None, {}, 404, ""),
    ("DELETE /admin/v1/models/none", None, {}, 404, ""),
    ("POST /admin/v1/models", GOOD, {}, 405, ""),
    ("PATCH /admin/v1/models/none/scale", {"workers": 1}, {}, 404, ""),
    (SCALE, {}, {}, 422, "workers"),
    (SCALE, {"workers": 0}, {}, 422, "workers"),
    (SCALE, {"workers": 10**9}, {}, 422, "workers"),
    (SCALE, {"workers": 10**30}, {}, 422, "workers"),
    (SCALE, {"workers": 1.5}, {}, 422, "workers"),
    (SCALE, {"workers": True}, {}, 422, "workers"),
    (SCALE, {"replicas": 2}, {}, 422, "replicas"),
    (SCALE, {"prefill": 2}, {}, 422, "prefill"),
    (SCALE, {"variant": "none", "workers": 2}, {}, 422, "variant"),
    (SCALE, b"workers=2", {}, 400, ""),
    (SCALE_PD, {"workers": 2}, {}, 422, "workers"),
    (SCALE_CANARY, {"workers": 2}, {}, 422, "variant"),
    ("GET /admin/v1/models/none/rollout", None, {}, 404, ""),
    ("GET /admin/v1/models/smollm2/rollout", None, {}, 404, ""),
    ("POST /admin/v1/models/none/rollout:pause", None, {}, 404, ""),
    ("POST /admin/v1/models/smollm2/rollout:pause", None, {}, 409, ""),
    ("POST /admin/v1/models/smollm2/rollout:resume", None, {}, 409, ""),
    ("POST /admin/v1/models/smollm2/rollout:abort", None, {}, 409, ""),
    ("POST /admin/v1/models/smollm2/rollout:hurry", None, {}, 404, ""),
    ("GET /admin/v1/models/smollm2/rollout:abort", None, {}, 405, ""),
    ("GET /admin/v1/workers/none", None, {}, 404, ""),
    ("GET /admin/v1/workers/none/logs", None, {}, 404, ""),
    ("GET /admin/v1/workers/x/logs?tail=-1", None, {}, 400, "tail"),
    ("GET /admin/v1/workers/x/logs?tail=1e9", None, {}, 400, "tail"),
    ("GET /admin/v1/workers/x/logs?follow=2", None, {}, 400, "follow"),
    ("POST /admin/v1/nodes/none/cordon", None, {}, 404, ""),
    ("GET /admin/v1/nodes/local/cordon", None, {}, 405, ""),
    ("GET /admin/v1/nodes/none", None, {}, 404, ""),
    ("POST /admin/v1/nodes/none/drain", None, {}, 404, ""),
    ("DELETE /admin/v1/nodes/none", None, {}, 404, ""),
    ("DELETE /admin/v1/nodes/local", None, {}, 409, ""),
    (PLAN, b"{", {}, 400, ""),
    (PLAN, [], {}, 422, ""),
    (PLAN, {"specs": []}, {}, 422, "specs"),
    (PLAN, {"models": {}}, {}, 422, "models"),
    (PLAN, {"models": [GOOD] * 10_001}, {}, 422, "models"),
    (PLAN, {"models": [GOOD, GOOD]}, {}, 422, "models[1].name"),
    (PLAN, {"models": [GOOD, 5]}, {}, 422, "models[1]"),
    (
        PLAN,
        {"models": [bad_topology(workers=0)]},
        {},
        422,
        "models[0].variants[0].topology.workers",
    ),
    (PLAN, b" " * (4 * 2**20 + 1), {}, 413, ""),
    (QUOTA, {}, {}, 422, "devices"),
    (QUOTA, {"devices": -1}, {}, 422, "devices"),
    (QUOTA, {"devices": 1.5}, {}, 422, "devices"),
    (QUOTA, {"devices": 10**30}, {}, 422, "devices"),
    (QUOTA, {"memory": "lots"}, {}, 422, "memory"),
    (QUOTA, {"memory": "999999999TiB"}, {}, 422, "memory"),
    (QUOTA, {"memory": 5}, {}, 422, "memory"),
    (QUOTA, {"gpus": 5}, {}, 422, "gpus"),
    ("PUT /admin/v1/quotas/-", {"devices": 1}, {}, 422, "owner"),
    ("DELETE /admin/v1/quotas/none", None, {}, 404, ""),
    (POOL, {"overcommit": 0.5}, {}, 422, "overcommit"),
    (POOL, {"overcommit": "much"}, {}, 422, "overcommit"),
    (POOL, {"awake_min_s": -1}, {}, 422, "awake_min_s"),
    (POOL, {"asleep_min_s": 1}, {}, 422, "asleep_min_s"),
    ("PUT /admin/v1/pools/-", {}, {}, 422, "name"),
    ("DELETE /admin/v1/pools/none", None, {}, 404, ""),
    (KEY, {}, {}, 422, "name"),
    (KEY, {"name": ""}, {}, 422, "name"),
    (KEY, {"name": "x" * 65}, {}, 422, "name"),
    (KEY, {"name": "a\nb"}, {}, 422, "name"),
    (KEY, {"name": "k", "kind": "root"}, {}, 422, "kind"),
    (KEY, {"name": "k", "models": ["../m"]}, {}, 422, "models[0]"),
    (KEY, {"name": "k", "models": "m"}, {}, 422, "models"),
    (KEY, {"name": "k", "kind": "admin", "models": ["m"]}, {}, 422, "models"),
    (KEY, {"name": "k", "priority": "urgent"}, {}, 422, "priority"),
    (KEY, {"name": "k", "priority": 1}, {}, 422, "priority"),
    (KEY, {"name": "k", "kind": "admin", "priority": "high"}, {}, 422, "priority"),
    (KEY, {"name": "k", "expires_in_s": 0}, {}, 422, "expires_in_s"),
    (KEY, {"name": "k", "expires_in_s": 1e300}, {}, 422, "expires_in_s"),
    (KEY, {"name": "k", "expires_at": "tomorrow"}, {}, 422, "expires_at"),
    (KEY, {"name": "k", "expires_at": "2020-01-01T00:00:00Z"}, {}, 422, "expires_at"),
    (KEY, {"name": "k", "expires_at": "2030-01-01T00:00:00"}, {}, 422, "expires_at"),
    (KEY, {"name": "k", "secret": "mine"}, {}, 422, "secret"),
    (KEY, {"name": "k", "digest": "00"}, {}, 422, "digest"),
    (KEY, {"name": "k", "limits": 5}, {}, 422, "limits"),
    (KEY, {"name": "k", "limits": None}, {}, 422, "limits"),
    (KEY, bad_limits(requests_per_minute=-1), {}, 422, "limits.requests_per_minute"),
    (KEY, bad_limits(requests_per_minute=1.5), {}, 422, "limits.requests_per_minute"),
    (KEY, bad_limits(tokens_per_minute=10**13), {}, 422, "limits.tokens_per_minute"),
    (KEY, bad_limits(tokens_per_minute=10**30), {}, 422, "limits.tokens_per_minute"),
    (KEY, bad_limits(in_flight="4"), {}, 422, "limits.in_flight"),
    (KEY, bad_limits(per_second=4), {}, 422, "limits.per_second"),
    (KEY, bad_limits(budget=25), {}, 422, "limits.budget"),
    (KEY, bad_limits(budget={}), {}, 422, "limits.budget.amount"),
    (KEY, bad_limits(budget={"amount": -1}), {}, 422, "limits.budget.amount"),
    (KEY, bad_limits(budget={"amount": 10**9 + 1}), {}, 422, "limits.budget.amount"),
    (KEY, bad_limits(budget={"amount": "NaN"}), {}, 422, "limits.budget.amount"),
    (KEY, bad_limits(budget={"amount": "Infinity"}), {}, 422, "limits.budget.amount"),
    (KEY, bad_limits(budget={"amount": 1e-10}), {}, 422, "limits.budget.amount"),
    (KEY, bad_limits(budget={"amount": True}), {}, 422, "limits.budget.amount"),
    (KEY, b'{"name": "k", "limits": {"budget": {"amount": 1e999999999}}}', {}, 422, "*"),
    (KEY, bad_limits(budget={"amount": 1, "period": "week"}), {}, 422, "limits.budget.period"),
    (KEY, bad_limits(in_flight=1) | {"kind": "admin"}, {}, 422, "limits"),
    (KEY, {"name": "k", "role": "viewer"}, {}, 422, "role"),
    (KEY, {"name": "k", "kind": "admin", "role": "owner"}, {}, 422, "role"),
    (SESSION, b"", {}, 400, ""),
    (SESSION, {}, {}, 422, "key"),
    (SESSION, {"key": 5}, {}, 422, "key"),
    (SESSION, {"account": "alice"}, {}, 422, "key"),
    (SESSION, {"password": GOOD_PASSWORD}, {}, 422, "key"),
    (SESSION, {"key": "k", "account": "alice"}, {}, 422, "key"),
    (SESSION, {"key": "k", "user": "alice"}, {}, 422, "user"),
    (SESSION, {"key": "k"}, {"sec-fetch-site": "cross-site"}, 403, ""),
    (SESSION, {"key": "k"}, {"origin": "http://10.0.0.9:8001", "host": "10.0.0.9:8001"}, 400, ""),
    (ACCOUNT, {}, {}, 422, "name"),
    (ACCOUNT, {"name": "alice", "role": "viewer"}, {}, 422, "password"),
    (ACCOUNT, {"name": "alice", "password": GOOD_PASSWORD}, {}, 422, "role"),
    (ACCOUNT, {"name": "alice", "role": "root", "password": GOOD_PASSWORD}, {}, 422, "role"),
    (ACCOUNT, {"name": "a b", "role": "viewer", "password": GOOD_PASSWORD}, {}, 422, "name"),
    (ACCOUNT, {"name": "alice", "role": "viewer", "password": "short"}, {}, 422, "password"),
    (ACCOUNT, {"name": "alice", "role": "viewer", "password": "x" * 300}, {}, 422, "password"),
    (ACCOUNT, {"name": "alice", "role": "viewer", "password": "a" * 20}, {}, 422, "password"),
    (
        ACCOUNT,
        {"name": "alice", "role": "viewer", "password": "alice-in-1865"},
        {},
        422,
        "password",
    ),
    ("PUT /admin/v1/accounts/none/password", {"password": GOOD_PASSWORD}, {}, 404, ""),
    ("PUT /admin/v1/accounts/none/password", {}, {}, 422, "password"),
    ("DELETE /admin/v1/accounts/none", None, {}, 404, ""),
    ("DELETE /admin/v1/keys/key_none", None, {}, 404, ""),
    ("GET /admin/v1/keys/key_none", None, {}, 404, ""),
    ("PATCH /admin/v1/keys/key_none", {"name": "k"}, {}, 404, ""),
    (CHANGE, b"", {}, 400, ""),
    (CHANGE, [], {}, 422, ""),
    (CHANGE, {"name": ""}, {}, 422, "name"),
    (CHANGE, {"name": None}, {}, 422, "name"),
    (CHANGE, {"kind": "admin"}, {}, 422, "kind"),
    (CHANGE, {"digest": "00"}, {}, 422, "digest"),
    (CHANGE, {"models": ["../m"]}, {}, 422, "models[0]"),
    (CHANGE, {"priority": "urgent"}, {}, 422, "priority"),
    (CHANGE, {"expires_at": "2020-01-01T00:00:00Z"}, {}, 422, "expires_at"),
    (CHANGE, {"expires_in_s": -1}, {}, 422, "expires_in_s"),
    (CHANGE, {"expires_in_s": 1, "expires_at": "2030-01-01T00:00:00Z"}, {}, 422, "expires_at"),
    (CHANGE, {"limits": {"in_flight": -1}}, {}, 422, "limits.in_flight"),
    (CHANGE, {"limits": {"budget": {"amount": -1}}}, {}, 422, "limits.budget.amount"),
    ("POST /admin/v1/keys/key_none/rotate", {"overlap_s": 0}, {}, 404, ""),
    (ROTATE, b"", {}, 400, ""),
    (ROTATE, {}, {}, 422, "overlap_s"),
    (ROTATE, {"overlap_s": -1}, {}, 422, "overlap_s"),
    (ROTATE, {"overlap_s": 91 * 86_400}, {}, 422, "overlap_s"),
    (ROTATE, {"overlap_s": "1h"}, {}, 422, "overlap_s"),
    (ROTATE, {"overlap_s": 0, "secret": "mine"}, {}, 422, "secret"),
    ("GET /admin/v1/usage?since=yesterday", None, {}, 400, "since"),
    ("GET /admin/v1/usage?since=2026-01-01T00:00:00", None, {}, 400, "since"),
    ("GET /admin/v1/usage?until=2026-13-01", None, {}, 400, "until"),
    ("GET /admin/v1/usage?by=colour", None, {}, 400, "by"),
    ("GET /admin/v1/usage?by=key&by=day&by=model&by=key", None, {}, 400, "by"),
    ("GET /admin/v1/usage.csv?since=1", None, {}, 400, "since"),
    ("POST /admin/v1/usage.csv", None, {}, 405, ""),
    ("GET /admin/v1/events?after=-1", None, {}, 400, "after"),
    ("GET /admin/v1/events?limit=0", None, {}, 400, "limit"),
    ("GET /admin/v1/events?limit=100000", None, {}, 400, "limit"),
    ("GET /admin/v1/audit?after=x", None, {}, 400, "after"),
    (f"GET /admin/v1/audit?after={10**40}", None, {}, 400, "after"),
    ("POST /admin/v1/models/none/tune-prefill", {}, {}, 404, ""),
    ("POST /admin/v1/models/none/tune-prefill", None, {}, 404, ""),
    (TUNE, b"{", {}, 400, ""),
    (TUNE, {"tokens": [512]}, {}, 422, "tokens"),
    (TUNE, {"tokens": [512, 1000]}, {}, 422, "tokens[1]"),
    (TUNE, {"tokens": [16, 512]}, {}, 422, "tokens[0]"),
    (TUNE, {"tokens": [512, 2**40]}, {}, 422, "tokens[1]"),
    (TUNE, {"tokens": [512, 1024] * 9}, {}, 422, "tokens"),
    (TUNE, {"tokens": 512}, {}, 422, "tokens"),
    (TUNE, {"seconds": 1e9}, {}, 422, "seconds"),
    (TUNE, {"seconds": "60"}, {}, 422, "seconds"),
    (TUNE, {"worker": "w"}, {}, 422, "worker"),
    ("POST /admin/v1/models/none/measure", {}, {}, 404, ""),
    (MEASURE, b"{", {}, 400, ""),
    (MEASURE, {"seconds": 1}, {}, 422, "seconds"),
    (MEASURE, {"seconds": 1e9}, {}, 422, "seconds"),
    (MEASURE, {"tokens": [512]}, {}, 422, "tokens"),
    ("DELETE /admin/v1/profiles/none", None, {}, 404, ""),
    ("GET /admin/v1/proposals/none", None, {}, 404, ""),
    ("POST /admin/v1/proposals/none/take", None, {}, 404, ""),
    ("POST /admin/v1/proposals/none/take?force=perhaps", None, {}, 400, "force"),
    ("POST /admin/v1/proposals/none/refuse", None, {}, 404, ""),
    ("GET /admin/v1/nowhere", None, {}, 404, ""),
    ("GET /", None, {}, 404, ""),
]


async def test_bad_requests(tmp_path: Path):
    async with world(tmp_path) as admin, admin.client() as client:
        before = await admin.store.version()
        (key,) = (key for key in await admin.store.keys() if key.name == "app")
        for request, body, headers, status, field in TABLE:
            method, url = request.replace("{key}", key.id).split(" ", 1)
            content = {"content" if isinstance(body, bytes) else "json": body}
            answer = await client.request(method, url, headers=headers, **content)
            case = (request, str(body)[:80], headers, answer.text[:300])
            assert answer.status_code == status, case
            error = answer.json()["error"]
            assert set(error) == {"code", "message", "field"}, case
            assert error["message"], case
            assert field in {"*", error["field"]}, case
            assert "Traceback" not in answer.text, case
            assert "\x1f" not in error["message"], case
        assert await admin.store.version() == before
