"""Which topology each model should have, asked of the admin API: the planner's own process."""

import asyncio
import time
from pathlib import Path

import httpx
import msgspec
import psutil
import pytest
from admin_world import ADMIN_SECRET, ME, World

from pipelines.planner.views import Failed, Line, Noted, Planned, TimesFrom
from registry import spec as specs
from registry.state import LoadPoint, Profile
from registry.usage import UsageRecord, UsageStatus

URL = "/admin/v1/recommendations"
HEADERS = {"authorization": f"Bearer {ADMIN_SECRET}"}
CHAT = {
    "name": "chat",
    "source": "hf://Qwen/Qwen3-8B",
    "requests_per_s": 4,
    "prompt_tokens": 800,
    "answer_tokens": 100,
    "slo": {"ttft_s": 1, "tpot_s": 0.05},
    "engines": ["vllm"],
}
FLEET = {"nodes": [{"device_model": "H100", "devices": 1}]}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def planners() -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process().children(recursive=True)
        if "pipelines.planner" in " ".join(child.cmdline())
    ]


async def ask(client: httpx.AsyncClient, **body: object) -> list[Line]:
    answer = await client.post(URL, json=body, headers=HEADERS, timeout=300)
    assert answer.status_code == 200, answer.text
    return [msgspec.json.decode(line, type=Line) for line in answer.text.splitlines()]


@pytest.mark.timeout(300)
async def test_a_plan_comes_with_specs_that_the_api_takes(client: httpx.AsyncClient):
    *noted, last = await ask(client, traffic={"models": [CHAT]}, fleet=FLEET, objective="devices")
    assert noted
    assert all(isinstance(line, Noted) for line in noted)
    assert isinstance(last, Planned), last
    assert (last.plan.objective, last.plan.devices) == ("devices", 1)
    (model,) = last.plan.models
    (shape,) = model.shapes
    assert (shape.family, shape.device_model, shape.devices) == ("aggregated", "H100", 1)
    assert model.served == 1.0
    assert model.confirmed is not None
    assert model.confirmed.share > 0.9
    assert {(one.family, one.shape is None) for one in model.alternatives} == {
        ("aggregated", False),
        ("disaggregated", True),  # one device is no pair
    }
    answer = await client.put("/admin/v1/models/chat", json=model.spec, headers=HEADERS)
    assert answer.status_code in {200, 201}, answer.text
    assert specs.from_data(model.spec).slo.tpot_s == 0.05


@pytest.mark.parametrize(
    ("change", "field", "says"),
    [
        ({"requests_per_s": 0}, "traffic.models[0].requests_per_s", "allowed is"),
        ({"trace": "/etc/passwd"}, "traffic.models[0].prompt_tokens", "leave it out"),
        ({"engines": ["x"]}, "traffic.models[0].engines", "allowed are vllm, sglang"),
    ],
)
async def test_what_means_nothing_is_refused_by_its_field(client, change, field, says):
    body = {"traffic": {"models": [CHAT | change]}, "fleet": FLEET}
    answer = await client.post(URL, json=body, headers=HEADERS)
    assert answer.status_code == 422, answer.text
    told = answer.json()["error"]
    assert (told["field"], says in told["message"]) == (field, True), told


async def test_an_objective_that_there_is_not_is_refused(client: httpx.AsyncClient):
    body = {"traffic": {"models": [CHAT]}, "fleet": FLEET, "objective": "cheap"}
    answer = await client.post(URL, json=body, headers=HEADERS)
    assert (answer.status_code, answer.json()["error"]["field"]) == (422, "objective")


async def test_no_file_of_the_servers_is_read(client: httpx.AsyncClient):
    traced = {k: v for k, v in CHAT.items() if not k.endswith("_tokens")} | {"trace": "/etc/passwd"}
    body = {"traffic": {"models": [traced]}, "fleet": FLEET}
    answer = await client.post(URL, json=body, headers=HEADERS)
    assert (answer.status_code, answer.json()["error"]["field"]) == (422, "traffic.models[0].trace")


async def test_a_model_that_is_like_nothing_measured_says_which_field_helps(client):
    strange = CHAT | {"source": "hf://acme/strange"}
    (*_, last) = await ask(client, traffic={"models": [strange]}, fleet=FLEET)
    assert isinstance(last, Failed)
    assert last.field == "models[0].measured_as"
    assert "Qwen/Qwen3-8B" in last.message


@pytest.mark.timeout(300)
async def test_what_was_measured_here_is_planned_by_though_no_data_knows_it(
    admin: World, client: httpx.AsyncClient
):
    points = [
        LoadPoint(requests=1, prompt_tokens=n, answer_tokens=1, seconds=0.01 + n / 2e4, rounds=1)
        for n in (64, 1024)
    ]
    points += [
        LoadPoint(requests=n, prompt_tokens=32, answer_tokens=32, seconds=0.01, rounds=1)
        for n in (1, 16)
    ]
    strange = Profile(
        source="hf://acme/strange",
        engine="vllm",
        device_model="NVIDIA H100 80GB HBM3",
        devices=1,
        memory_bytes=2**36,
        batched_tokens=2048,
        kv_tokens=100_000,
        is_kv_told=True,
        points=tuple(points),
    )
    kept = await admin.store.put_profile(
        strange, model="smollm2", variant="default", runtime="vllm-gpu", by=ME
    )
    listed = (await client.get("/admin/v1/profiles", headers=HEADERS)).json()["items"]
    assert [(one["id"], one["profile"]["devices"]) for one in listed] == [(kept.id, 1)]
    assert listed[0]["fit"]["error"] < 0.05

    asked = CHAT | {"source": strange.source}
    (*_, last) = await ask(client, traffic={"models": [asked]}, fleet=FLEET)

    assert isinstance(last, Planned), last
    (model,) = last.plan.models
    assert model.measured == ("vllm on 1x NVIDIA H100 80GB HBM3",)
    assert (model.measured_as, model.is_estimate) == ("", False)
    assert [shape.times for shape in model.shapes] == [TimesFrom.MEASURED]
    gone = await client.delete(f"/admin/v1/profiles/{kept.id}", headers=HEADERS)
    assert (gone.status_code, gone.json()["id"]) == (200, kept.id)
    assert await admin.store.profiles() == ()


async def test_one_plan_at_a_time_and_none_without_its_client(admin: World):
    from gateway.admin import recommendations

    given = msgspec.json.encode({"traffic": {"models": [CHAT]}, "fleet": FLEET})
    lines = recommendations._planner(given)
    first = msgspec.json.decode(await anext(lines), type=Line)
    assert isinstance(first, Noted)
    (process,) = planners()
    await lines.aclose()
    deadline = time.monotonic() + 10
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "it went on without anybody who asks"
        await asyncio.sleep(0.05)


async def test_what_is_there_and_was_asked_comes_in_the_form_it_is_asked_for_with(
    admin: World, client: httpx.AsyncClient
):
    chat = specs.from_data(
        {
            "name": "chat",
            "source": "hf://Qwen/Qwen3-8B",
            "slo": {"ttft_s": 1, "tpot_s": 0.05},
            "variants": [{"engine": "vllm", "topology": {"type": "aggregated"}}],
        }
    )
    await admin.store.apply_model(chat, by=ME)
    now = time.time()
    used = [record(n, "chat", now - 30, 1000 + 2 * n, 50) for n in range(60)]
    used.append(record(60, "smollm2", now - 20, 10, 10))
    used.append(record(61, "chat", now - 7200, 9, 9))
    await admin.store.record_usage(used)

    answer = await client.get(f"{URL}/live", params={"seconds": 600}, headers=HEADERS)
    told = answer.json()
    assert answer.status_code == 200, told
    (model,) = told["traffic"]["models"]
    assert model["name"] == "chat"
    assert model["requests_per_s"] == pytest.approx(0.1)
    assert (model["prompt_tokens"], model["answer_tokens"]) == (pytest.approx(1059), 50)
    assert told["left_out"] == {"smollm2": "its slo promises no ttft_s or no tpot_s"}
    assert told["fleet"]["nodes"], "the world has a node"


def record(number: int, model: str, at: float, prompt: int, answer: int) -> UsageRecord:
    return UsageRecord(
        request_id=f"r{number}",
        key_id="key_1",
        model=model,
        variant="default",
        revision=1,
        mode="aggregated",
        status=UsageStatus.OK,
        prompt_tokens=prompt,
        completion_tokens=answer,
        opened_at=at - 1,
        closed_at=at,
        operation="chat.completions",
        cost_nano=0,
    )
