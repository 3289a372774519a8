"""A model on real vLLM changes while it serves: from one aggregated worker to a pair under constant
load, then to the size of batch that is measured best for its prefill.

One yard for the module, whose tests run in the order they stand. For a while both shapes live
beside each other: three engines.
"""

import json
import time
from datetime import datetime

import pytest
from real_models import example, written
from steady_load import SteadyLoad
from yard import Yard, eventually, run_yard

from registry.settings import load

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1500)]

MODEL = "smollm2"
READY_S = 600.0
ROLLED_S = 1200
# Three engines start and serve on whatever cores there are: patience, and a small load.
SLOW = {"first_token_s": 240, "between_tokens_s": 240, "total_s": 480, "transfer_s": 120}
CLIENTS = 2
# The step lasts until the pair has answered so many, however long these take.
GATE = {"watch_s": 5, "requests_min": 2, "ttft_ratio_max": 1000, "tpot_ratio_max": 1000}
SIZES = (64, 256, 1024, 2048)  # in float32 on a CPU 1,024 tokens saturate, and 256 do not
SECONDS = (120, 240)  # the second where the machine is too busy for the first
FLAG = "max-num-batched-tokens"


def declared(file: str, **change) -> dict:
    (model,) = [model for model in example(file) if model["name"] == MODEL]
    return {**model, "limits": SLOW, **change}


@pytest.fixture(scope="module")
def yard(tmp_path_factory):
    shared = load({})  # runtimes and weights are the machine's, all other state is the test's own
    folder = tmp_path_factory.mktemp("changes")
    for yard in run_yard(
        folder / "home",
        MODELYARD_RUNTIMES_DIR=str(shared.runtimes),
        MODELYARD_MODELS_DIR=str(shared.models),
    ):
        yard.start(written(folder / "model.yaml", declared("starter.yaml")))
        yard.wait_ready(READY_S)
        yield yard


def rollout(yard: Yard) -> dict:
    return json.loads(yard.cli("rollout", "status", MODEL, "-o", "json").stdout)


def prefill(yard: Yard) -> str:
    """The id of the one that is ready."""
    found = [w["id"] for w in yard.ready_workers(MODEL) if w["role"] == "prefill"]
    return found[0] if len(found) == 1 else ""


def test_a_rollout_from_aggregated_to_a_pair_fails_no_request(yard, tmp_path):
    policy = {"canary": [25, 100], "gate": GATE, "ready_s": ROLLED_S}
    pair = declared("rollout.yaml", rollout=policy)
    states = []

    def is_over() -> bool:
        told = rollout(yard)
        states.append((told["state"], told["percent"]))
        return told["state"] != "progressing"

    with SteadyLoad(yard, MODEL, clients=CLIENTS, pause_s=0.5, timeout_s=500) as load:
        eventually("they ask", lambda: len(load.got) >= 4, 120)
        yard.cli("apply", "-f", str(written(tmp_path / "pair.yaml", pair)))
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
    last_step_at = datetime.fromisoformat(told["step_at"]).timestamp()
    asked_before = last_step_at - (time.time() - time.monotonic())
    at_25 = [got for got in load.got if got.at < asked_before and got.mode == "disaggregated"]
    assert len(at_25) >= GATE["requests_min"], "the step's part of the traffic goes to the pair"
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


def test_the_smallest_batch_that_saturates_is_measured_taken_and_started_with(yard, tmp_path):
    at_once = declared("rollout.yaml", rollout={})  # there is no load that a canary could watch
    yard.cli("apply", "-f", str(written(tmp_path / "pair.yaml", at_once)))
    before = eventually(
        "the pair is ready", lambda: yard.is_ready(MODEL) and prefill(yard), READY_S
    )
    revision = yard.describe(MODEL)["revision"]

    for seconds in SECONDS:
        told = yard.cli(
            *("tune", "prefill", MODEL, "--tokens", ",".join(map(str, SIZES))),
            *("--seconds", f"{seconds}s", "-o", "json"),
            timeout_s=4 * SECONDS[-1],
        )
        tuned = json.loads(told.stdout)
        if tuned["proposal"]:
            break

    assert tuple(point["tokens"] for point in tuned["points"]) == SIZES
    assert all(point["rounds"] >= 2 for point in tuned["points"]), told.stderr
    (knee,) = [point for point in tuned["points"] if point["knee"]]
    # A batch of 64 tokens leaves an engine's fixed costs in view; 2,048 are more than it takes.
    assert tuned["points"][0]["throughput"] < knee["throughput"] or knee["tokens"] == 64
    assert knee["ttft_s"] < tuned["points"][-1]["ttft_s"]
    assert tuned["flag"] == FLAG
    assert tuned["proposal"], tuned["message"]
    assert yard.describe(MODEL)["revision"] == revision
    assert prefill(yard) == before

    shown = yard.cli("proposals", "show", tuned["proposal"]).stdout
    assert f"{FLAG}" in shown
    yard.cli("proposals", "take", tuned["proposal"])

    worker = eventually("started anew", lambda: (w := prefill(yard)) != before and w, READY_S)
    words = [process.cmdline() for process in yard.engine_processes(worker)]
    assert any(f"--{FLAG}={knee['tokens']}" in line for line in words)
    eventually("told so", lambda: yard.is_ready(MODEL), 60)
    with yard.client(180) as client:
        body = {"model": MODEL, "prompt": "The capital of France is", "max_tokens": 4}
        assert client.post("/v1/completions", json=body).status_code == 200
