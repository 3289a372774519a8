"""How far a rollout is, over the admin API and for people; and a word in it."""

import asyncio
import json
import re
from pathlib import Path

import msgspec
import pytest
from admin_world import ME, World, served, world
from click.testing import Result
from test_cli_commands import Cli

from gateway.admin.views import iso
from registry.spec import from_data
from registry.store import Store
from registry.traffic import SLOT_S, Latencies, Traffic

POLICY = {"canary": [5, 25, 100], "pause_s": 60, "gate": {"requests_min": 10}}
TO_A_PAIR = {
    "name": "smollm2",
    "source": "hf://org/smollm2",
    "rollout": POLICY,
    "variants": [
        {
            "engine": "vllm",
            "topology": {
                "type": "disaggregated",
                "prefill": {"workers": 2, "memory": "4GiB"},
                "decode": {"memory": "4GiB"},
            },
        }
    ],
}
MODEL = "/admin/v1/models/smollm2"


async def begin(store: Store) -> None:
    """At its second step, with traffic in which the new revision is slower and fails at times."""
    await store.apply_model(from_data(TO_A_PAIR), by=ME)
    await store.enter_step("smollm2", 2, step=1, percent=5, reason="the first step")
    rollout = await store.enter_step("smollm2", 2, step=2, percent=25, reason="watches its gate")
    row = Traffic(at=rollout.step_at, gateway="g", model="smollm2", variant="default", revision=1)
    change = msgspec.structs.replace
    await store.record_traffic(
        [
            change(row, at=row.at - 60, requests=1000, errors=500),  # of the step before
            change(row, requests=60, ttft=Latencies.of((0.1,) * 9), tpot=Latencies.of((0.02,) * 9)),
            change(row, at=row.at + 5, requests=20, errors=0),
            change(row, revision=2, requests=40, errors=1, ttft=Latencies.of((0.2,) * 9)),
            change(row, model="canary", revision=2, requests=7, errors=7),
        ]
    )


async def test_it_says_where_it_is_and_how_both_revisions_do(tmp_path: Path):
    async with world(tmp_path) as admin, admin.client() as client:
        await begin(admin.store)
        view = (await client.get(f"{MODEL}/rollout")).raise_for_status().json()
        (rollout,) = await admin.store.rollouts("smollm2")
        assert (await client.get("/admin/v1/rollouts")).json() == {"items": [view]}
        summary = (await client.get(MODEL)).json()["rollout"]
        listed = (await client.get("/admin/v1/models")).json()["items"]

    about = {key: view[key] for key in ("model", "state", "from_revision", "to_revision")}
    assert about == {
        "model": "smollm2",
        "state": "progressing",
        "from_revision": 1,
        "to_revision": 2,
    }
    assert (view["step"], view["steps"], view["percent"]) == (2, [5, 25, 100], 25)
    assert view["reason"] == "watches its gate"
    assert view["step_at"] == iso(rollout.step_at)
    assert view["ended_at"] is None
    assert view["gate"]["requests_min"] == 10
    assert view["gate"]["ttft_ratio_max"] == 1.5, "defaults are told, too"
    old, new = view["old"], view["new"]
    assert (old["revision"], old["percent"], old["requests"], old["error_rate"]) == (1, 75, 80, 0)
    assert (new["revision"], new["percent"], new["requests"]) == (2, 25, 40)
    assert new["error_rate"] == pytest.approx(1 / 40)
    assert old["ttft_s"] == pytest.approx(0.1, rel=0.3)
    assert new["ttft_s"] == pytest.approx(0.2, rel=0.3)
    assert (new["tpot_s"], old["tpot_s"] > 0) == (None, True)
    assert view["seen"] == {
        "percent": 25,
        "since": view["step_at"],
        "until": iso(rollout.step_at + 5 + SLOT_S),
    }
    assert [(r["role"], r["ready"], r["live"], r["wanted"]) for r in old["roles"]] == [
        ("unified", 1, 1, 1)
    ]
    assert [(r["role"], r["ready"], r["wanted"]) for r in new["roles"]] == [
        ("prefill", 0, 2),
        ("decode", 0, 1),
    ]
    assert summary == {
        key: view[key]
        for key in (
            *("state", "from_revision", "to_revision", "step", "steps", "percent"),
            "reason",
        )
    }
    assert {item["name"]: item["rollout"] for item in listed} == {
        "smollm2": summary,
        "smollm2-pd": None,
        "canary": None,
    }


async def test_when_it_is_over_its_last_step_s_numbers_are_still_there(tmp_path: Path):
    async with world(tmp_path) as admin, admin.client() as client:
        await begin(admin.store)
        before = (await client.get(f"{MODEL}/rollout")).json()
        await admin.store.enter_step("smollm2", 2, step=3, percent=100, reason="the last step")
        leaving = (await client.get(f"{MODEL}/rollout")).json()
        await admin.store.finish_rollout("smollm2", 2, reason="alone")
        over = (await client.get(f"{MODEL}/rollout")).json()
    for view in (leaving, over):
        assert view["seen"] == before["seen"]
        for side in ("old", "new"):
            for field in ("requests", "error_rate", "ttft_s", "tpot_s"):
                assert view[side][field] == before[side][field]


async def test_a_step_that_has_just_begun_has_no_numbers(tmp_path: Path):
    async with world(tmp_path) as admin, admin.client() as client:
        await begin(admin.store)
        await admin.store.pause_rollout("smollm2", by=ME)
        await admin.store.resume_rollout("smollm2", by=ME)
        view = (await client.get(f"{MODEL}/rollout")).json()
    assert (view["seen"], view["old"]["requests"], view["new"]["error_rate"]) == (None, 0, None)


async def test_pause_resume_and_abort_are_written_down(tmp_path: Path):
    async with world(tmp_path) as admin, admin.client() as client:
        await begin(admin.store)
        states = []
        for word in ("pause", "resume", "abort"):
            answer = await client.post(f"{MODEL}/rollout:{word}")
            states.append(answer.raise_for_status().json()["state"])
        again = await client.post(f"{MODEL}/rollout:abort")
        ended = (await client.get(f"{MODEL}/rollout")).json()
        whole = (await client.get(MODEL)).json()
        audit = (await client.get("/admin/v1/audit")).json()["items"]
        under_way = (await client.get("/admin/v1/rollouts")).json()

    assert states == ["paused", "progressing", "rolled-back"]
    assert (again.status_code, ended["to_revision"]) == (409, 2)
    assert "`modelyard rollout status smollm2`" in again.json()["error"]["message"]
    assert ended["ended_at"]
    assert [role["role"] for role in ended["new"]["roles"]] == ["prefill", "decode"], "as it was"
    assert (whole["revision"], whole["spec"]["variants"][0]["topology"]["type"]) == (
        3,
        "aggregated",
    )
    assert whole["rollout"]["state"] == "rolled-back"
    asked = [item["action"] for item in audit if item["action"].startswith("rollout.")]
    assert asked == ["rollout.pause", "rollout.resume", "rollout.abort"]
    assert under_way == {"items": []}


# --- for people


@pytest.fixture
def rolling(tmp_path: Path):
    with served(tmp_path) as made:
        asyncio.run(_begin_there(tmp_path))
        yield made


async def _begin_there(folder: Path) -> None:
    store = await Store.open(f"sqlite+aiosqlite:///{folder / 'modelyard.db'}")
    try:
        await begin(store)
    finally:
        await store.aclose()


@pytest.fixture
def cli(rolling: World, tmp_path: Path) -> Cli:
    return Cli(rolling.url, tmp_path)


def test_status_reads_well(cli: Cli):
    def page(*words: str) -> str:
        return re.sub(r"\b\d+s\b", "Ns", cli("rollout", "status", *words).stdout)

    assert page("smollm2") == (
        "smollm2  progressing  revision 1 → 2  began Ns ago\n"
        "██████████░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░  25 % of the traffic is the new revision's\n"
        "[5 ✓] [25 ●] [100]  step 2 of 3, for Ns\n"
        "\n"
        "     REVISION  TRAFFIC  READY                    REQUESTS  ERRORS    TTFT   TPOT\n"
        "old         1     75 %  unified 1/1                    80    0.0%  109 ms  19 ms\n"
        "new         2     25 %  prefill 0/2, decode 0/1        40    2.5%  219 ms      -\n"
        "REQUESTS to TPOT: of this step, as of Ns ago\n"
        "Gate, over Ns and 10 requests: errors at most 2 % more than the old one's, TTFT 1.5 "
        "times, TPOT 1.5 times\n"
        "watches its gate\n"
    )
    assert page() == page("smollm2")
    assert json.loads(cli("rollout", "status", "smollm2", "-o", "json").stdout)["percent"] == 25


def test_of_one_that_is_over_it_says_of_which_step_its_numbers_are(cli: Cli):
    cli("rollout", "abort", "smollm2")
    page = re.sub(r"\b\d+s\b", "Ns", cli("rollout", "status", "smollm2").stdout)
    rows = [line.split() for line in page.splitlines()]
    assert ["old", "1", "100", "%", "unified", "1/1", "80", "0.0%"] in [row[:8] for row in rows]
    assert ["new", "2", "0", "%", "-", "40", "2.5%"] in [row[:7] for row in rows]
    assert "\nREQUESTS to TPOT: of the last step with traffic at both, 25 %, as of Ns ago\n" in page


async def test_a_model_that_rolls_out_is_told_by_revision(tmp_path: Path):
    async with world(tmp_path) as admin, admin.client() as client:
        before = (await client.get(MODEL)).json()["revisions"]
        await begin(admin.store)
        old, new = (await client.get(MODEL)).json()["revisions"]
        (worker,) = [w for w in (await admin.store.snapshot()).workers if w.plan.model == "smollm2"]
    assert before == []
    assert (old["revision"], old["percent"], old["workers"]) == (1, 100.0, [worker.id])
    assert [(r["role"], r["ready"], r["wanted"]) for r in old["roles"]] == [("unified", 1, 1)]
    assert (new["revision"], new["percent"], new["workers"]) == (2, 0.0, []), "nobody serves there"
    assert [(r["role"], r["ready"], r["wanted"]) for r in new["roles"]] == [
        ("prefill", 0, 2),
        ("decode", 0, 1),
    ]


def test_describe_shows_both_revisions_with_their_workers_and_traffic(cli: Cli):
    page = cli("describe", "model", "smollm2").stdout
    tree = page[page.index("Topology") : page.index("Workers")]
    shown = [line.strip(" │├└─").rstrip() for line in tree.splitlines()[2:] if line.strip()]
    assert shown[0] == "revision 1  old, 100 % of traffic"
    assert shown[1] == "unified  1/1 ready"
    assert shown[2].startswith("● smollm2-")
    assert shown[3:] == [
        "revision 2  new, 0 % of traffic",
        "prefill  0/2 ready",
        "decode  0/1 ready",
    ]
    assert re.search(r"WORKER +REVISION +PHASE", page)


def test_other_pages_tell_of_it(cli: Cli):
    told = "progressing at 25 %, revision 1 → 2: watches its gate"
    assert told in cli("describe", "model", "smollm2").stdout
    assert f"smollm2: rollout {told}" in cli("get", "models").stderr


def test_watch_tells_each_change_until_the_end_and_its_exit_code(cli: Cli):
    paused = cli("rollout", "pause", "smollm2").stdout
    assert paused.startswith("smollm2: paused at 25 %, revision 1 → 2: ")
    assert "rolled-back" in cli("rollout", "abort", "smollm2").stdout
    watched = cli("rollout", "status", "smollm2", "--watch")
    assert watched.exit_code == 9
    assert watched.stdout.count("\n") == 1
    assert "rollout of smollm2 was rolled back" in watched.stderr
    assert cli("rollout", "status").stderr == "no rollout is under way\n"
    assert cli("rollout", "status", "--watch").exit_code == 2
    assert cli("rollout", "resume", "smollm2").exit_code == 5
    assert cli("rollout", "status", "none").exit_code == 4


def apply(cli: Cli, *words: str, **change) -> Result:
    return cli("apply", "-f", "-", *words, stdin=json.dumps(TO_A_PAIR | change))


def test_apply_waits_for_the_end_of_its_rollout(cli: Cli):
    waited = apply(cli, "--wait", "--timeout", "1s")
    assert waited.exit_code == 6
    assert "rollout progressing at 25 %: watches its gate" in waited.stderr
    cli("rollout", "abort", "smollm2")
    again = apply(cli, "--wait", "--timeout", "1s", price={"input": 1})
    assert again.exit_code == 6, "what failed before is not its own"


def test_apply_ends_where_its_rollout_failed(cli: Cli, rolling: World, tmp_path: Path):
    async def stall() -> None:
        store = await Store.open(f"sqlite+aiosqlite:///{tmp_path / 'modelyard.db'}")
        try:
            await store.stall_rollout("smollm2", 2, reason="its gate failed")
        finally:
            await store.aclose()

    asyncio.run(stall())
    waited = apply(cli, "--wait", "--timeout", "30s")
    assert waited.exit_code == 9
    assert "the rollout of smollm2 stands still: its gate failed" in waited.stderr
    assert rolling.url
