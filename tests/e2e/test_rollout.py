"""Real vLLM under constant load: from one aggregated worker to a pair, and no request fails.

One yard for the module, in which both shapes live beside each other for a while: three engines.
"""

import json
from pathlib import Path

import pytest
import yaml
from steady_load import SteadyLoad
from yard import Yard, eventually, run_yard

from registry.settings import load

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1500)]

EXAMPLES = Path(__file__).parents[2] / "examples"
MODEL = "smollm2"
READY_S = 600.0
ROLLED_S = 1200
# Three engines start and serve on whatever cores there are: patience, and a small load.
SLOW = {"first_token_s": 240, "between_tokens_s": 240, "total_s": 480, "transfer_s": 120}
CLIENTS = 2


def declared(file: str, **change) -> dict:
    models = yaml.safe_load((EXAMPLES / file).read_text())["models"]
    (model,) = [model for model in models if model["name"] == MODEL]
    return {**model, "limits": SLOW, **change}


def written(folder: Path, model: dict) -> Path:
    file = folder / "model.yaml"
    file.write_text(yaml.safe_dump(model))
    return file


@pytest.fixture(scope="module")
def yard(tmp_path_factory):
    shared = load({})  # runtimes and weights are the machine's, all other state is the test's own
    home = tmp_path_factory.mktemp("rollout") / "home"
    for yard in run_yard(
        home, MODELYARD_RUNTIMES_DIR=str(shared.runtimes), MODELYARD_MODELS_DIR=str(shared.models)
    ):
        yard.start(written(tmp_path_factory.mktemp("spec"), declared("starter.yaml")))
        yard.wait_ready(READY_S)
        yield yard


def rollout(yard: Yard) -> dict:
    return json.loads(yard.cli("rollout", "status", MODEL, "-o", "json").stdout)


def test_a_rollout_from_aggregated_to_a_pair_fails_no_request(yard, tmp_path):
    policy = {"canary": [25, 100], "pause_s": 45, "ready_s": ROLLED_S}
    pair = declared("rollout.yaml", rollout=policy)
    states = []

    def is_over() -> bool:
        told = rollout(yard)
        states.append((told["state"], told["percent"]))
        return told["state"] != "progressing"

    with SteadyLoad(yard, MODEL, clients=CLIENTS, pause_s=0.5, timeout_s=500) as load:
        eventually("they ask", lambda: len(load.got) >= 4, 120)
        yard.cli("apply", "-f", str(written(tmp_path, pair)))
        eventually("it is over", is_over, ROLLED_S)
        told, before = rollout(yard), len(load.got)
        eventually("they ask on", lambda: len(load.got) >= before + 3 * CLIENTS, 240)

    assert load.failed == []
    assert (told["state"], told["percent"], told["step"]) == ("done", 100, 2), told
    assert [(r["role"], r["ready"], r["wanted"]) for r in told["new"]["roles"]] == [
        ("prefill", 1, 1),
        ("decode", 1, 1),
    ]
    assert ("progressing", 25) in states
    assert {streamed for *_, streamed in ((g.wrong, g.streamed) for g in load.got)} == {True, False}
    seen = load.seen()
    assert seen["1", "aggregated"]
    late = {(got.revision, got.mode) for got in load.got[before + CLIENTS :]}
    assert late == {("2", "disaggregated")}
    assert {revision for revision, mode in seen if mode == "disaggregated"} == {"2"}
    roles = sorted(worker["role"] for worker in yard.workers(MODEL))
    assert roles == ["decode", "prefill"], "the old worker is gone"
    assert yard.kv_transfers(MODEL) > 0
    assert "[25 ✓] [100 ✓]" in yard.cli("rollout", "status", MODEL).stdout
