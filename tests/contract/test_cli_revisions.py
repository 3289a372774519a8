"""`diff`, `history` and `rollback` as people see them."""

import json
from pathlib import Path

import pytest
import yaml
from admin_world import served
from test_cli_commands import Cli

FRESH = """
name: fresh
source: hf://org/fresh
variants:
- {engine: vllm, topology: {type: aggregated, workers: 2}}
"""
PAIR = """
name: fresh
source: hf://org/fresh
rollout: {canary: [5, 25, 100], pause_s: 60, gate: {}}
variants:
- engine: vllm
  topology: {type: disaggregated, prefill: {workers: 2}, decode: {}}
"""
STEPS = (
    "  rollout: traffic moves from revision 1 in steps of 5 % → 25 % → 100 %, each for 1m0s "
    "at least, if the gate holds"
)


@pytest.fixture
def cli(tmp_path: Path):
    with served(tmp_path) as made:
        yield Cli(made.url, tmp_path)


def test_a_diff_reads_well_and_its_exit_code_tells(cli: Cli):
    new = cli("diff", "-f", "-", stdin=FRESH)
    assert (new.exit_code, new.stdout.splitlines()[0]) == (8, "model/fresh: new, revision 1")
    cli("apply", "-f", "-", stdin=FRESH)
    same = cli("diff", "-f", "-", stdin=FRESH)
    assert (same.exit_code, same.stdout) == (0, "model/fresh: nothing differs (revision 1)\n")
    changed = cli("diff", "-f", "-", stdin=PAIR)
    assert (changed.exit_code, changed.stderr) == (8, "")
    assert changed.stdout.splitlines() == [
        "model/fresh: revision 1 → 2",
        "  ~ variants[default].topology.type: aggregated → disaggregated",
        "  - variants[default].topology.workers: 2",
        "  + variants[default].topology.prefill.workers: 2",
        "  + variants[default].topology.decode: {} (its defaults)",
        "  ~ rollout.canary: [100] → [5,25,100]",
        "  ~ rollout.pause_s: 0.0 → 60.0",
        "  + rollout.gate: {} (its defaults)",
        "  workers: default unified: 2 stopped",
        "  workers: default prefill: 2 started",
        "  workers: default decode: 1 started",
        STEPS,
    ]
    dry = cli("apply", "-f", "-", "--dry-run", stdin=PAIR)
    assert dry.stdout.splitlines()[1:] == changed.stdout.splitlines()
    assert dry.exit_code == 0
    two = cli("diff", "-f", "-", "-o", "json", stdin=f"{FRESH}---{PAIR.replace('fresh', 'more')}")
    assert [item["name"] for item in json.loads(two.stdout)["items"]] == ["fresh", "more"]


def test_history_and_the_way_back(cli: Cli):
    cli("apply", "-f", "-", stdin=FRESH)
    cli("apply", "-f", "-", stdin=PAIR)
    assert "revision 1 → 2" in cli("diff", "fresh").stdout
    assert "revision 2 → 1" in cli("diff", "fresh", "2", "1").stdout
    assert cli("diff", "fresh", "2").exit_code == 0, "the newest against itself"
    dry = cli("rollback", "fresh", "--dry-run")
    assert dry.stdout.splitlines()[:2] == [
        "model/fresh would be changed (revision 2)",
        "model/fresh: revision 2 → 3",
    ]
    assert cli("rollback", "fresh", "--now").stdout == "model/fresh changed (revision 3)\n"
    lines = cli("history", "fresh").stdout.splitlines()
    assert lines[0].split() == ["REVISION", "AGE", "BY", "TRAFFIC", "CHANGED"]
    assert lines[3].endswith("as revision 1 (newest)")
    assert " op " in lines[1]
    old = cli("history", "fresh", "--revision", "2", "-o", "yaml").stdout
    assert yaml.safe_load(old)["models"][0]["rollout"]["canary"] == [5, 25, 100]
    assert cli("apply", "-f", "-", stdin=old).stdout == "model/fresh changed (revision 4)\n"
    assert cli("rollback", "fresh", "--to", "9").exit_code == 4


def test_a_diff_is_of_files_or_of_a_model(cli: Cli):
    assert cli("diff").exit_code == 2
    assert cli("diff", "fresh", "-f", "-", stdin=FRESH).exit_code == 2
    assert cli("diff", "fresh", "1", "2", "3").exit_code == 2
    assert cli("diff", "none").exit_code == 4
