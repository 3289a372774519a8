"""External workers through the admin API and the command: declared, shown, never scaled."""

from pathlib import Path

import httpx
import pytest
from admin_world import ADMIN_SECRET, ME, served, world
from click.testing import CliRunner

from pipelines.topology import expand
from registry.cli.main import cli
from registry.spec import from_yaml
from registry.state import Phase

EXAMPLE = Path(__file__).parents[2] / "examples/external.yaml"
TOKEN = "sk-theirs"


@pytest.fixture
async def admin(tmp_path: Path):
    """With every external worker of the example ready, the first of all with a remark."""
    async with world(tmp_path) as made:
        for spec in from_yaml(EXAMPLE.read_text()):
            model, _ = await made.store.apply_model(spec, by=ME)
            for (plan,) in expand(model):
                worker = await made.store.admit_external(plan, token=TOKEN)
                await made.store.set_worker(worker.id, Phase.READY, reason="remark")
        yield made


async def test_they_are_shown_where_they_are_and_with_no_device(client: httpx.AsyncClient):
    answer = await client.get("/admin/v1/workers", params={"model": "qwen-32b"})
    items = answer.json()["items"]
    assert {item["node"] for item in items} == {"external"}
    assert {tuple(item["devices"]) for item in items} == {()}
    assert "10.0.0.11:8000" in {item["address"] for item in items}
    assert TOKEN not in answer.text


async def test_a_model_that_is_whole_is_ready_and_names_its_transfer(client: httpx.AsyncClient):
    view = (await client.get("/admin/v1/models/qwen-32b")).json()
    assert view["state"] == "ready"
    shown = [(item["topology"], item["transfer"]) for item in view["variants"]]
    assert shown == [("external", "nixl"), ("external", "mooncake")]
    assert view["variants"][0]["kv_transfers"] == 36, "12 of each of three workers"
    view = (await client.get("/admin/v1/models/llama-70b")).json()
    assert view["variants"][0]["transfer"] == ""
    assert {worker["metrics"] for worker in view["variants"][0]["workers"]} == {None}


async def test_no_node_is_listed_for_them(client: httpx.AsyncClient):
    nodes = (await client.get("/admin/v1/nodes")).json()["items"]
    assert [node["name"] for node in nodes] == ["local"]


async def test_they_have_no_log_here(client: httpx.AsyncClient):
    workers = await client.get("/admin/v1/workers", params={"model": "llama-70b"})
    worker_id = workers.json()["items"][0]["id"]
    answer = await client.get(f"/admin/v1/workers/{worker_id}/logs")
    assert answer.status_code == 404
    assert "external worker" in answer.text


async def test_they_cannot_be_scaled(client: httpx.AsyncClient):
    answer = await client.patch("/admin/v1/models/llama-70b/scale", json={"workers": 5})
    assert answer.status_code == 422
    assert "is external: apply a spec that names other workers" in answer.text


def test_the_example_can_be_applied_and_described_with_the_command(tmp_path: Path):
    with served(tmp_path) as made:
        env = {
            "MODELYARD_ADMIN_URL": made.url,
            "MODELYARD_ADMIN_TOKEN": ADMIN_SECRET,
            "MODELYARD_HOME": str(tmp_path),
        }

        def run(*words: str) -> str:
            result = CliRunner().invoke(cli, list(words), env=env)
            assert result.exit_code == 0, result.output
            return result.stdout

        run("apply", "-f", str(EXAMPLE))
        assert "external" in run("get", "models")
        assert "unified  0/2 ready" in run("describe", "model", "llama-70b")
        assert "decode  0/2 ready" in run("describe", "model", "qwen-32b")
