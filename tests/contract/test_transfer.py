"""Export and restore: over the admin API and with the CLI, into a registry of its own."""

import stat
from pathlib import Path

import httpx
import pytest
import yaml
from admin_world import INFERENCE_SECRET, ME, World, served, world
from test_cli_commands import Cli

from registry.keys import digest
from registry.state import Pool, Quota

WHERE = "/admin/v1/restore"


@pytest.fixture
async def one(tmp_path: Path):
    async with world(tmp_path / "one") as made:
        await made.store.put_quota(Quota(owner="default", devices=9), by=ME)
        yield made


@pytest.fixture
async def other(tmp_path: Path):
    async with world(tmp_path / "other") as made:
        for model in await made.store.models():
            await made.store.delete_model(model.name, by=ME)
        yield made


async def exported(world: World, **params: bool) -> str:
    async with world.client() as client:
        answer = await client.get("/admin/v1/export", params=params)
    assert answer.is_success, answer.text
    return answer.text


async def restored(world: World, text: str, **params: bool) -> httpx.Response:
    async with world.client() as client:
        return await client.post(WHERE, content=text.encode(), params=params)


async def test_another_registry_becomes_the_same_and_stays_so(one: World, other: World):
    text = await exported(one, with_keys=True)
    dry = (await restored(other, text, dry_run=True)).json()
    assert (await other.store.models(), dry["dry_run"]) == ((), True)
    assert {item["kind"]: item["outcome"] for item in dry["items"]} == {
        "quota": "created",
        "key": "unchanged",  # the same secrets as in the first world, under ids of their own
        "model": "created",
    }
    assert [view["name"] for view in dry["diffs"]] == ["canary", "smollm2", "smollm2-pd"]
    done = (await restored(other, text)).json()
    assert done["items"] == dry["items"]
    assert await exported(other) == await exported(one)
    again = (await restored(other, text)).json()
    assert {item["outcome"] for item in again["items"]} == {"unchanged"}
    actions = [entry.action for entry in await other.store.audit()]
    assert actions[-4:] == ["quota.set", *["model.restore"] * 3]


async def test_nothing_is_written_if_anything_is_bad(one: World, other: World):
    await one.store.create_key(name="more", kind="inference", by=ME)
    documents = list(yaml.safe_load_all(await exported(one, with_keys=True)))
    before = await other.store.version()

    async def refused(status: int, words: str) -> None:
        answer = await restored(other, yaml.safe_dump_all(documents))
        assert (answer.status_code, words in answer.text) == (status, True), answer.text
        assert await other.store.version() == before

    documents.append({"quotas": [{"owner": "t", "devices": -1}]})
    await refused(422, "quotas[1].devices")
    documents[-1] = {"pools": [{"name": "p", "overcommit": 0.5}]}
    await refused(422, "pools[0].overcommit")
    documents.pop()
    keys = next(document for document in documents if "keys" in document)["keys"]
    keys[-1]["name"] = "\n"
    await refused(422, f"keys[{len(keys) - 1}].name")
    keys[-1] |= {"name": "more", "id": "../x"}
    await refused(422, f"keys[{len(keys) - 1}].id")


async def test_a_key_that_was_rotated_since_is_not_brought_back(one: World):
    key = next(key for key in await one.store.keys() if key.name == "app")
    text = await exported(one, with_keys=True)
    await one.store.rotate_key(key.id, overlap_s=60, by=ME)
    answer = await restored(one, text)
    assert answer.status_code == 409
    assert f"a former one of the inference key {key.id}" in answer.text
    await one.store.rotate_key(key.id, overlap_s=0, by=ME)
    answer = await restored(one, text)
    assert (answer.status_code, "was rotated since" in answer.text) == (409, True)


async def test_a_revoked_key_stays_revoked_over_there(one: World, other: World):
    key = next(key for key in await one.store.keys() if key.name == "app")
    await one.store.revoke_key(key.id, by=ME)
    await restored(other, await exported(one, with_keys=True))
    there = {k.digest: k for k in await other.store.keys()}[digest(INFERENCE_SECRET)]
    assert there.revoked_at is not None


async def test_digests_leave_only_when_asked_for_and_that_is_audited(one: World):
    assert digest(INFERENCE_SECRET).hex() not in await exported(one)
    assert "keys" not in await exported(one)
    seen = [entry.action for entry in await one.store.audit()]
    assert "keys.export" not in seen
    assert digest(INFERENCE_SECRET).hex() in await exported(one, with_keys=True)
    assert (await one.store.audit())[-1].action == "keys.export"
    assert INFERENCE_SECRET not in await exported(one, with_keys=True)


async def test_pools_are_part_of_it(one: World, other: World):
    text = "pools: [{name: tail, overcommit: 3}]"
    assert (await restored(one, text)).is_success
    assert (await one.store.snapshot()).pools == (Pool(name="tail", overcommit=3.0),)
    await restored(other, await exported(one))
    assert (await other.store.snapshot()).pools == (Pool(name="tail", overcommit=3.0),)


async def test_what_is_no_export_is_refused(one: World):
    for text, status in (("\xff".encode("latin-1"), 400), (b"a: [", 422), (b"", 422)):
        async with one.client() as client:
            answer = await client.post(WHERE, content=text)
        assert answer.status_code == status, answer.text


def test_the_command_writes_a_private_file_and_takes_it_back(tmp_path: Path):
    file = tmp_path / "all.yaml"
    file.write_text("old")
    with served(tmp_path / "one") as made:
        cli = Cli(made.url, tmp_path)
        assert cli("export", "-o", str(file), "--with-keys").stderr == f"exported to {file}\n"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        models = cli("export").stdout
        assert cli("apply", "-f", "-", stdin=models).stdout.count("unchanged") == 3
        cli("delete", "model", "canary", "--yes")
        dry = cli("restore", "-f", str(file), "--dry-run").stdout
        assert "model  canary" in dry
        assert "model/canary: new, revision 1" in dry
        lines = cli("restore", "-f", str(file)).stdout.splitlines()
        assert lines[0].split() == ["KIND", "NAME", "IS", "NOW"]
        assert [line.split()[-1] for line in lines if "model" in line] == [
            "created",
            "unchanged",
            "unchanged",
        ]
        wrong = cli("restore", "-f", "-", stdin="quotas: [{owner: t, devices: x}]")
        assert (wrong.exit_code, "quotas[0].devices" in wrong.stderr) == (1, True)
