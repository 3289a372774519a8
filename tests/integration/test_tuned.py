"""`modelyard tune prefill` on emulators: measured, proposed, taken, started anew with the flag."""

import json
from pathlib import Path

import httpx
import pytest
from yard import Yard, eventually, run_yard

SPEC = """
name: emu-pd
source: file:///nowhere
variants:
  - engine: emulator
    topology:
      type: disaggregated
      prefill:
        memory: 256MiB
        args: {ttft-ms: 40, prefill-tokens-per-s: 20000, max-model-len: 4096}
      decode: {memory: 256MiB}
"""
FLAG = "max-num-batched-tokens"
# time(T) = 40 ms + T / 20,000: 22,000 tokens have 96 % of the best, 8,000 have 91 %, 4,000 84 %.
TUNE = ("tune", "prefill", "emu-pd", "--tokens", "512,4096,8192,16384", "--seconds", "12")


@pytest.fixture(scope="module")
def yard(tmp_path_factory):
    folder: Path = tmp_path_factory.mktemp("yard")
    file = folder / "emu.yaml"
    file.write_text(SPEC)
    for yard in run_yard(folder / "home", MODELYARD_CPU_SLOTS="8"):
        yard.start(file)
        yard.wait_ready(60)
        yield yard


def prefill(yard: Yard) -> str:
    """The id of the one that is ready."""
    found = [w["id"] for w in yard.ready_workers("emu-pd") if w["role"] == "prefill"]
    return found[0] if len(found) == 1 else ""


def test_what_is_measured_is_shown_and_nothing_changes(yard):
    before = prefill(yard)

    told = yard.cli(*TUNE)

    assert f"measuring 512, 4096, 8192, 16384 tokens on {before}" in told.stderr
    assert "warm-up: 512 tokens in 1 prompts" in told.stderr
    knees = [line.split()[0] for line in told.stdout.splitlines() if line.endswith("← knee")]
    assert len(knees) == 1
    assert knees[0] in {"4096", "8192"}
    assert f"Proposed: {FLAG} {knees[0]}" in told.stdout
    assert "modelyard proposals take prp_" in told.stdout
    assert yard.describe("emu-pd")["revision"] == 1
    assert prefill(yard) == before


def test_what_was_measured_too_seldom_is_not_proposed(yard):
    words = ("tune", "prefill", "emu-pd", "--tokens", "512,65536", "--seconds", "5", "--force")
    topology = yard.describe("emu-pd")["spec"]["variants"][0]["topology"]
    assert topology["prefill"]["args"]["max-model-len"] == 4096  # so they are seventeen prompts

    tuned = json.loads(yard.cli(*words, "-o", "json").stdout)

    assert tuned["points"][-1]["rounds"] < 2
    assert tuned["proposal"] == ""
    assert "give it more seconds" in tuned["message"]


def test_a_proposal_that_is_taken_starts_the_workers_anew_with_the_flag(yard):
    before = prefill(yard)
    tuned = json.loads(yard.cli(*TUNE, "-o", "json").stdout)
    knee = next(point["tokens"] for point in tuned["points"] if point["knee"])
    shown = yard.cli("proposals", "show", tuned["proposal"]).stdout
    assert f"variants[default].topology.prefill.args.{FLAG}: {knee}" in shown

    yard.cli("proposals", "take", tuned["proposal"])

    after = eventually("another prefill", lambda: (w := prefill(yard)) != before and w, 60)
    words = [process.cmdline() for process in yard.engine_processes(after)]
    assert any(f"--{FLAG}={knee}" in line for line in words)
    view = yard.describe("emu-pd")
    topology = view["spec"]["variants"][0]["topology"]
    assert (topology["prefill"]["args"][FLAG], "args" in topology["decode"]) == (knee, False)
    with yard.client() as client:
        body = {"model": "emu-pd", "prompt": "word " * 40, "max_tokens": 2}
        assert client.post("/v1/completions", json=body).status_code == 200


def test_a_client_that_goes_ends_the_measurement(yard):
    with yard.admin() as admin:
        body = {"tokens": [512, 1024], "seconds": 600}
        with admin.stream("POST", "/models/emu-pd/tune-prefill", json=body) as answer:
            lines = answer.iter_lines()
            assert json.loads(next(lines))["kind"] == "began"
            refused = admin.post("/models/emu-pd/tune-prefill", json=body)
            assert (refused.status_code, "measured already" in refused.text) == (429, True)

        def free() -> bool:
            with admin.stream("POST", "/models/emu-pd/tune-prefill", json=body) as again:
                return again.status_code == httpx.codes.OK

        eventually("free again", free, 10)


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        (("none",), 4, "no model named 'none'"),
        (("emu-pd", "--variant", "x"), 1, "allowed is one of default"),
        (("emu-pd", "--tokens", "512"), 1, "tokens: are 1, allowed are 2 to 16"),
        (("emu-pd", "--tokens", "512,1000"), 1, "tokens[1]: is 1000, allowed is a multiple"),
        (("emu-pd", "--tokens", "a,b"), 2, "allowed are numbers"),
        (("emu-pd", "--seconds", "1"), 1, "seconds: is 1.0, allowed is 5.0 to 600.0"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_words(yard, words, code, why):
    refused = yard.cli("tune", "prefill", *words, check=False)
    assert (refused.returncode, why in refused.stderr) == (code, True), refused.stderr
