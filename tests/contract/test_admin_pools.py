"""Pools over the admin API, and as the command line shows them."""

import json
from pathlib import Path

from admin_world import ME, served, world
from test_cli_commands import Cli

from registry import spec

POOLED = """
name: {name}
source: hf://org/m
pool: tail
variants:
- {{engine: vllm, topology: {{type: aggregated, memory: {memory}}}}}
"""


async def test_a_pool_tells_its_members_and_who_waits(tmp_path: Path):
    async with world(tmp_path) as made, made.client() as client:
        for name in ("a", "b"):
            one = spec.from_yaml(POOLED.format(name=name, memory="1GiB"))[0]
            await made.store.apply_model(one, by=ME)
        assert (await client.get("/admin/v1/pools")).json()["items"] == [
            {
                "name": "tail",
                "is_set": False,
                "overcommit": 4.0,
                "awake_min_s": 30.0,
                "members": [
                    {
                        "model": name,
                        "awake": 0,
                        "asleep": 0,
                        "queued": 0,
                        "in_flight": 0,
                        "asked_at": None,
                    }
                    for name in ("a", "b")
                ],
                "devices": [],
            }
        ]
        answer = await client.put("/admin/v1/pools/tail", json={"overcommit": 2})
        assert (answer.status_code, answer.json()["overcommit"]) == (200, 2.0)
        assert (answer.json()["is_set"], answer.json()["awake_min_s"]) == (True, 30.0)
        gone = await client.delete("/admin/v1/pools/tail")
        assert (gone.status_code, gone.json()["is_set"]) == (200, False)


def test_the_command_line_sets_and_shows_pools(tmp_path: Path):
    with served(tmp_path) as made:
        cli = Cli(made.url, tmp_path)
        assert "no pools" in cli("get", "pools").stderr
        said = cli("pools", "set", "tail", "--overcommit", "3", "--awake-min-s", "10")
        assert said.stdout == "pool/tail set: overcommit 3, awake ≥ 10 s\n"
        assert cli("pools", "set", "tail", "--overcommit", "0").exit_code == 2
        text = POOLED.format(name="lonely", memory="1GiB")
        assert cli("apply", "-f", "-", stdin=text).exit_code == 0
        shown = cli("get", "pools").stdout
        for word in ("tail", "10 s", "no place", "lonely"):
            assert word in shown
        (item,) = json.loads(cli("get", "pools", "-o", "json").stdout)["items"]
        assert [member["model"] for member in item["members"]] == ["lonely"]
        assert cli("pools", "delete", "tail").stdout == "pool/tail deleted\n"
        assert cli("pools", "delete", "tail").exit_code == 4
