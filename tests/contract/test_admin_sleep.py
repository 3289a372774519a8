"""Models are put to sleep and woken by hand, over the admin API and the command line."""

from pathlib import Path

import pytest
from admin_world import ME, World, served
from test_cli_commands import Cli

from registry.state import Phase, Quota


async def test_its_ready_workers_fall_asleep_and_all_that_sleep_wake(admin: World):
    async with admin.client() as client:

        async def post(verb: str) -> list[dict]:
            return (await client.post(f"/admin/v1/models/smollm2/{verb}")).json()["items"]

        (told,) = await post("sleep")
        assert (told["phase"], told["sleep_mode"]) == ("falling-asleep", "stopped")
        assert await post("sleep") == [], "said once"
        await admin.store.worker_sleeps(told["id"], {})
        view = (await client.get("/admin/v1/models/smollm2")).json()
        assert view["state"] == "asleep"
        assert [role["asleep"] for variant in view["variants"] for role in variant["roles"]] == [1]
        (woken,) = await post("wake")
        assert (woken["id"], woken["phase"]) == (told["id"], "assigned")
        assert await post("wake") == []
        audit = (await client.get("/admin/v1/audit")).json()["items"]
        assert [item["action"] for item in audit][-2:] == ["model.sleep", "model.wake"]


async def test_what_has_no_room_is_not_woken_and_it_is_said_why(admin: World):
    async with admin.client() as client:
        (told,) = (await client.post("/admin/v1/models/smollm2/sleep")).json()["items"]
        await admin.store.worker_sleeps(told["id"], {})
        await admin.store.put_quota(Quota(owner="default", devices=3), by=ME)
        refused = await client.post("/admin/v1/models/smollm2/wake")
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "conflict")
        assert "may hold 3 devices, not 4" in refused.json()["error"]["message"]
    assert (await admin.store.worker(told["id"])).phase is Phase.ASLEEP


@pytest.mark.parametrize("verb", ["sleep", "wake"])
async def test_a_model_that_is_not_there_is_not_found(admin: World, verb: str):
    async with admin.client() as client:
        assert (await client.post(f"/admin/v1/models/none/{verb}")).status_code == 404


def test_the_command_line_says_who(tmp_path: Path):
    with served(tmp_path) as made:
        cli = Cli(made.url, tmp_path)
        told = cli("sleep", "smollm2").stdout
        assert told.startswith("model/smollm2 falls asleep: smollm2-unified-0-")
        assert cli("sleep", "smollm2").stdout == "model/smollm2 has no ready worker\n"
        falls = "model/smollm2 is falling asleep: wake it when it sleeps\n"
        assert cli("wake", "smollm2").stdout == falls
        assert "falling-asleep" in cli("get", "workers").stdout
        assert "asleep" in cli("get", "models").stdout
        assert cli("sleep", "none").exit_code == 4
