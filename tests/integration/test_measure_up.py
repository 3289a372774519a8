"""`modelyard measure` on an emulator: measured, kept, listed, planned by, deleted."""

import json
from pathlib import Path

import httpx
import pytest
from yard import eventually, run_yard

SPEC = """
name: emu
source: file:///nowhere
slo: {ttft_s: 2, tpot_s: 0.05}
variants:
  - engine: emulator
    topology:
      type: aggregated
      memory: 256MiB
      args: {ttft-ms: 30, tpot-ms: 20, prefill-tokens-per-s: 20000, max-num-batched-tokens: 1024}
"""
TRAFFIC = """
models:
  - name: emu
    source: file:///nowhere
    engines: [emulator]
    requests_per_s: 0.5
    prompt_tokens: 500
    answer_tokens: 50
    slo: {ttft_s: 2, tpot_s: 0.05}
"""


@pytest.fixture(scope="module")
def yard(tmp_path_factory):
    folder: Path = tmp_path_factory.mktemp("yard")
    file = folder / "emu.yaml"
    file.write_text(SPEC)
    for yard in run_yard(folder / "home", MODELYARD_CPU_SLOTS="4"):
        yard.start(file)
        yard.wait_ready(60)
        yield yard


@pytest.mark.timeout(180)
def test_what_is_measured_is_kept_and_planned_by_until_it_is_deleted(yard, tmp_path):
    told = yard.cli("measure", "emu", "--seconds", "15s")
    assert "loads on emu-unified-0" in told.stderr
    assert "warm-up: 1 x 64 prompt and 1 answer tokens" in told.stderr
    assert "KV cache              65536 tokens" in told.stdout

    (kept,) = json.loads(yard.cli("get", "profiles", "-o", "json").stdout)["items"]
    profile = kept["profile"]
    assert (profile["source"], profile["engine"]) == ("file:///nowhere", "emulator")
    assert (profile["batched_tokens"], profile["devices"]) == (1024, 1)
    assert kept["id"] in yard.cli("get", "profiles").stdout

    files = {name: tmp_path / name for name in ("traffic", "fleet", "profiles")}
    files["traffic"].write_text(TRAFFIC)
    files["fleet"].write_text(f"nodes: [{{device_model: {profile['device_model']}, devices: 2}}]")
    files["profiles"].write_text(json.dumps({"items": [kept]}))
    own = [f"--{name}={file}" for name, file in files.items()]
    for words in (own, own[:1]):  # without a gateway, and by what this one has
        plan = json.loads(yard.cli("plan", *words, "-o", "json").stdout)
        (shape,) = plan["models"][0]["shapes"]
        assert (shape["engine"], shape["times"]) == ("emulator", "measured here")

    assert yard.cli("profiles", "delete", kept["id"]).stdout == f"profile/{kept['id']} deleted\n"
    refused = yard.cli("plan", own[0], check=False)
    assert "was not measured here (modelyard measure)" in refused.stderr


def test_a_client_that_goes_ends_the_measurement(yard):
    with yard.admin() as admin:
        body = {"seconds": 600}
        with admin.stream("POST", "/models/emu/measure", json=body) as answer:
            lines = answer.iter_lines()  # which ends the stream where it goes
            assert json.loads(next(lines))["kind"] == "began"
            refused = admin.post("/models/emu/measure", json=body)
            assert (refused.status_code, "measured already" in refused.text) == (429, True)

        def free() -> bool:
            with admin.stream("POST", "/models/emu/measure", json=body) as again:
                return again.status_code == httpx.codes.OK

        eventually("free again", free, 10)
    assert json.loads(yard.cli("get", "profiles", "-o", "json").stdout) == {"items": []}


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        (("none",), 4, "no model named 'none'"),
        (("emu", "--variant", "x"), 1, "allowed is one of default"),
        (("emu", "--seconds", "1"), 1, "seconds: is 1.0, allowed is 10.0 to 3600.0"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_words(yard, words, code, why):
    refused = yard.cli("measure", *words, check=False)
    assert (refused.returncode, why in refused.stderr) == (code, True), refused.stderr
