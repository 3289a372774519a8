"""Proposals through the admin API and the CLI: looked at, taken, refused."""

import asyncio
import json
from pathlib import Path

import pytest
import yaml
from admin_world import ADMIN_SECRET, ME, served
from click.testing import CliRunner, Result
from msgspec.structs import replace

from registry.cli import exits
from registry.cli.main import cli
from registry.state import Proposal
from registry.store import Store


class Ground:
    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.env = {
            "MODELYARD_ADMIN_URL": url,
            "MODELYARD_ADMIN_TOKEN": ADMIN_SECRET,
            "MODELYARD_HOME": str(folder),
            "COLUMNS": "120",
        }

    def cli(self, *words: str) -> Result:
        result = CliRunner().invoke(cli, list(words), env=self.env)
        assert result.exception is None or isinstance(result.exception, SystemExit), result
        return result

    def propose(self) -> Proposal:
        return asyncio.run(self._propose())

    async def _propose(self) -> Proposal:
        store = await Store.open(f"sqlite+aiosqlite:///{self.folder / 'modelyard.db'}")
        try:
            model = await store.model("smollm2")
            (variant,) = model.spec.variants
            topology = replace(variant.topology, args={"max-num-batched-tokens": 512})
            spec = replace(model.spec, variants=(replace(variant, topology=topology),))
            return await store.propose(
                spec, base_revision=model.revision, reason="512 tokens suffice", by=ME
            )
        finally:
            await store.aclose()


@pytest.fixture
def ground(tmp_path: Path):
    with served(tmp_path) as made:
        yield Ground(tmp_path, made.url)


def test_a_proposal_says_what_it_changes_and_is_taken(ground: Ground):
    made = ground.propose()

    listed = ground.cli("proposals", "list").stdout
    shown = ground.cli("proposals", "show", made.id).stdout
    taken = ground.cli("proposals", "take", made.id)

    assert made.id in listed
    assert "512 tokens suffice" in listed
    assert "variants[default].topology.args.max-num-batched-tokens: 512" in shown
    assert "1 replaced" in shown
    assert f"modelyard proposals take {made.id}" in shown
    assert taken.stdout == "model/smollm2 changed (revision 2)\n"
    view = json.loads(ground.cli("describe", "model", "smollm2", "-o", "json").stdout)
    assert view["spec"]["variants"][0]["topology"]["args"] == {"max-num-batched-tokens": 512}
    assert "nothing differs" in ground.cli("proposals", "show", made.id).stdout


def test_a_proposal_that_the_model_has_left_behind_is_taken_by_force_only(ground: Ground):
    made = ground.propose()
    ground.cli("scale", "smollm2", "--workers", "2")

    late = ground.cli("proposals", "take", made.id)

    assert late.exit_code == exits.CONFLICT
    assert "is at revision 2" in late.stderr
    assert "(--force) undoes that" in ground.cli("proposals", "show", made.id).stdout
    assert "no, outdated" in ground.cli("proposals", "list").stdout
    forced = ground.cli("proposals", "take", made.id, "--force")
    assert forced.stdout == "model/smollm2 changed (revision 3)\n"


def test_a_refused_proposal_stays_listed_and_cannot_be_taken(ground: Ground):
    made = ground.propose()

    assert ground.cli("proposals", "refuse", made.id).stdout == f"proposal/{made.id} refused\n"

    data = yaml.safe_load(
        ground.cli("proposals", "list", "--model", "smollm2", "-o", "yaml").stdout
    )
    assert [(item["id"], item["taken"]) for item in data["items"]] == [(made.id, False)]
    assert ground.cli("proposals", "take", made.id).exit_code == exits.CONFLICT
    assert ground.cli("proposals", "show", "prp_none").exit_code == exits.NOT_FOUND
    assert json.loads(ground.cli("proposals", "list", "--model", "x", "-o", "json").stdout) == {
        "items": []
    }
