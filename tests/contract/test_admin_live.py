"""What the console lives on, over a real socket: numbers, pictures and the stream of both."""

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from admin_world import ADMIN_SECRET, World, served, world

from gateway.admin import context
from gateway.admin.live import follow as following
from registry.traffic import SLOT_S, Latencies, Traffic

HEADERS = {"authorization": f"Bearer {ADMIN_SECRET}"}


@pytest.fixture(scope="module")
def admin(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(following, "EVERY_S", 0.2)
        patch.setattr(following, "_ALLOWED_S", 0.2)
        with served(tmp_path_factory.mktemp("live")) as made:
            yield made


@pytest.fixture
def client(admin: World):
    with httpx.Client(base_url=admin.url + "/admin/v1", headers=HEADERS, timeout=10) as made:
        yield made


def events(answer: httpx.Response) -> Iterator[tuple[str, Any, str]]:
    """(name, data, id) of what a stream brings."""
    event: dict[str, str] = {}
    for line in answer.iter_lines():
        if line:
            name, _, value = line.partition(": ")
            event[name] = value
        elif "data" in event:
            yield event["event"], json.loads(event["data"]), event.get("id", "")
            event = {}
        else:
            event = {}


def test_the_stream_brings_each_topic_first_whole_and_then_what_changed(client: httpx.Client):
    topics = "overview,models,flow"
    with client.stream("GET", f"/live?topics={topics}&model=smollm2-pd") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        seen = events(answer)
        first = {name: data for name, data, _ in (next(seen) for _ in range(3))}
        assert first["overview"]["counts"]["models"] == 3
        assert first["models"]["whole"]
        names = [one["name"] for one in first["models"]["items"]]
        assert names == ["canary", "smollm2", "smollm2-pd"]
        assert first["flow"]["name"] == "smollm2-pd"
        canary = {"name": "canary", "source": "hf://org/canary", "owner": "us"}
        variant = {"engine": "vllm", "topology": {"type": "aggregated", "memory": "1GiB"}}
        put = client.put("/models/canary", json={**canary, "variants": [variant]})
        assert put.status_code == 200
        changed = next(data for name, data, _ in seen if name == "models")
        assert [one["name"] for one in changed["items"]] == ["canary"]
        assert (changed["items"][0]["owner"], changed["whole"]) == ("us", False)


def test_events_come_as_they_happen_and_go_on_where_a_reader_was(client: httpx.Client):
    with client.stream("GET", "/live?topics=events") as answer:
        seen = events(answer)
        time.sleep(0.4)  # it follows from now, once it has looked
        client.post("/nodes/local/cordon")
        name, event, event_id = next(seen)
        assert (name, event["kind"], event["node"]) == ("event", "node-changed", "local")
        assert event_id == str(event["id"])
    client.post("/nodes/local/uncordon")
    for where in ({"headers": {"last-event-id": event_id}}, {"params": {"after": event_id}}):
        with client.stream("GET", "/live?topics=events", **where) as answer:
            _, event, _ = next(events(answer))
            assert event["id"] == int(event_id) + 1
    with client.stream("GET", "/live?topics=events&after=0") as answer:
        seen = events(answer)
        ids = [next(seen)[1]["id"] for _ in range(5)]
        assert ids == sorted(ids)


def test_a_stream_ends_with_the_key_that_opened_it(admin: World, client: httpx.Client):
    made = client.post("/keys", json={"name": "guest", "kind": "admin"}).json()
    guest = {"authorization": f"Bearer {made['secret']}"}
    with httpx.Client(base_url=admin.url + "/admin/v1", headers=guest, timeout=5) as other:
        with other.stream("GET", "/live?topics=overview") as answer:
            seen = events(answer)
            next(seen)
            assert client.delete(f"/keys/{made['key']['id']}").status_code < 300
            assert len(list(seen)) < 30, "the stream goes on"
        assert other.get("/overview").status_code == 401


def test_a_reader_that_takes_nothing_is_let_go(admin: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gateway.admin.live.routes.SLOW_S", 0.5)
    chunk = b": %b\n\n" % (b"x" * 1_000_000)

    async def flood(*_: object):
        while True:
            yield chunk

    monkeypatch.setattr("gateway.admin.live.routes.follow", flood)
    host, port = admin.url.removeprefix("http://").split(":")
    context_of = next(iter(admin.app.dependencies.values())).dependency()
    with socket.create_connection((host, int(port))) as reader:
        head = f"GET /admin/v1/live HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ADMIN_SECRET}\r\n"
        reader.sendall(f"{head}\r\n".encode())
        deadline = time.monotonic() + 5
        while context_of.followers.count != 1 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert context_of.followers.count == 1
        while context_of.followers.count and time.monotonic() < deadline:
            time.sleep(0.02)
        assert context_of.followers.count == 0


@pytest.mark.parametrize(
    ("query", "status", "word"),
    [
        ("topics=overview,prices", 422, "prices"),
        ("topics=flow", 422, "model=NAME"),
        ("topics=flow&model=nobody", 404, "nobody"),
        ("after=-1", 400, "after"),
    ],
)
def test_what_a_stream_cannot_bring_is_refused_before_it_begins(client, query, status, word):
    answer = client.get(f"/live?{query}")
    assert (answer.status_code, word in answer.text) == (status, True)


async def test_the_routes_tell_what_gateways_told(tmp_path: Path):
    async with world(tmp_path) as admin, admin.client() as client:
        end = time.time() // SLOT_S * SLOT_S
        rows = [
            Traffic(
                at=end - n * SLOT_S,
                gateway="g",
                model=name,
                variant="default",
                revision=revision,
                requests=10,
                completion_tokens=300,
                e2e=Latencies.of((1.0,) * 10),
            )
            for n in range(1, 12)
            for name, revision in (("smollm2", 1), ("smollm2", 2), ("smollm2-pd", 1))
        ]
        await admin.store.record_traffic(rows)

        async def told(path: str) -> Any:
            answer = await client.get(f"/admin/v1{path}")
            assert answer.status_code == 200, answer.text
            return answer.json()

        overview = await told("/overview")
        assert overview["rates"]["requests_per_s"] == 6.0
        kinds = {(one["kind"], one["name"]) for one in overview["problems"]}
        assert {("controller", ""), ("model", "canary")} <= kinds
        assert overview["problems_total"] == len(overview["problems"])
        models = {one["name"]: one for one in (await told("/models"))["items"]}
        assert models["smollm2"]["rates"]["completion_tokens_per_s"] == 120.0
        assert models["canary"]["rates"]["error_rate"] is None

        whole = await told("/series?since_s=60&step_s=5")
        own = await told("/models/smollm2/series?since_s=60&step_s=5")
        newest = await told("/models/smollm2/series?since_s=60&step_s=5&revision=2")
        assert (whole["model"], own["model"]) == ("", "smollm2")
        assert [s["points"][5]["requests"] for s in (whole, own, newest)] == [30, 20, 10]
        assert own["points"][5]["e2e_p50_s"] == pytest.approx(1.0, rel=0.3)

        flow = await told("/models/smollm2-pd/flow")
        (variant,) = flow["variants"]
        assert [worker["role"] for worker in variant["workers"]] == ["prefill", "decode", "decode"]
        assert variant["workers"][0]["kv_usage"] == 0.25
        assert variant["workers"][1]["kv_usage"] is None  # it does not answer
        assert variant["workers"][0]["devices"]

        for path in ("/models/nobody/flow", "/models/nobody/series"):
            assert (await client.get(f"/admin/v1{path}")).status_code == 404
        uneven = await client.get("/admin/v1/series?step_s=7")
        assert (uneven.status_code, uneven.json()["error"]["field"]) == (422, "step_s")


async def test_what_the_stream_carries_is_in_the_openapi_document(tmp_path: Path):
    async with world(tmp_path) as admin:
        schema = admin.app.openapi_schema.to_schema()
    content = schema["paths"]["/admin/v1/live"]["get"]["responses"]["200"]["content"]
    assert content["text/event-stream"]["schema"]["$ref"].endswith("/LiveEvents")
    carried = schema["components"]["schemas"]["LiveEvents"]["properties"]
    assert set(carried) == {"overview", "models", "flow", "event"}


async def test_no_more_follow_than_the_bound(tmp_path: Path):
    async with world(tmp_path) as admin, admin.client() as client:
        ctx = await admin.app.dependencies["ctx"]()
        ctx.followers.count = context.FOLLOWERS_MAX
        answer = await client.get("/admin/v1/live")
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "too_many")
        await asyncio.sleep(0)
