"""A whole Modelyard with emulator workers: models change under constant load, and nobody notices.

The same on real engines is in tests/e2e/test_changes.py.
"""

import json
from pathlib import Path

import pytest
from steady_load import SteadyLoad
from yard import Yard, eventually, run_yard

MODEL = "emu"
AGGREGATED = "{type: aggregated, workers: 1, memory: 256MiB}"
PAIRS = "{type: disaggregated, prefill: {workers: 2, memory: 256MiB}, decode: {memory: 256MiB}}"
BROKEN = "{type: aggregated, memory: 256MiB, args: {no-such: 1}}"
FAILING = "{type: aggregated, memory: 256MiB, args: {failure-rate: 0.5}}"
SLOWER = "{type: aggregated, memory: 256MiB, args: {ttft-ms: 3000}}"
CANARY = "{canary: [25, 100], pause_s: 2}"


def spec(folder: Path, topology: str, rollout: str = CANARY) -> Path:
    file = folder / "emu.yaml"
    file.write_text(
        f"name: {MODEL}\nsource: file:///nowhere\nrollout: {rollout}\n"
        f"variants:\n  - engine: emulator\n    topology: {topology}\n"
    )
    return file


@pytest.fixture(scope="module")
def yard(tmp_path_factory):
    home = tmp_path_factory.mktemp("yard") / "home"
    for yard in run_yard(home, MODELYARD_CPU_SLOTS="8"):
        yard.start(spec(tmp_path_factory.mktemp("spec"), AGGREGATED))
        yard.wait_ready(60)
        yield yard


def rollout(yard: Yard) -> dict:
    return json.loads(yard.cli("rollout", "status", MODEL, "-o", "json").stdout)


def roles(yard: Yard) -> list[str]:
    return sorted(worker["role"] for worker in yard.ready_workers(MODEL))


def apply(yard: Yard, file: Path, *more: str, check: bool = True):
    return yard.cli("apply", "-f", str(file), *more, check=check)


def test_from_aggregated_to_disaggregated_by_a_canary_no_request_fails(yard, tmp_path):
    with SteadyLoad(yard, MODEL) as load:
        eventually("they ask", lambda: len(load.got) > 10)
        done = apply(yard, spec(tmp_path, PAIRS), "--wait", "--timeout", "50s")
        assert "rollout" in done.stderr, "what it waits for is told"
        before = len(load.got)
        eventually("they ask on", lambda: len(load.got) > before + 10)

    assert load.failed == []
    seen = load.seen()
    assert set(seen) == {("1", "aggregated"), ("2", "disaggregated")}
    assert {(got.revision, got.mode) for got in load.got[before + 4 :]} == {("2", "disaggregated")}
    told = rollout(yard)
    assert (told["state"], told["percent"], told["step"]) == ("done", 100, 2)
    assert roles(yard) == ["decode", "prefill", "prefill"]
    page = yard.cli("rollout", "status", MODEL).stdout
    assert "[25 ✓] [100 ✓]" in page
    assert "prefill 2/2, decode 1/1" in page


def test_what_never_gets_ready_is_rolled_back_and_apply_says_so(yard, tmp_path):
    policy = "{canary: [50, 100], ready_s: 4}"
    with SteadyLoad(yard, MODEL, clients=2) as load:
        failed = apply(yard, spec(tmp_path, BROKEN, policy), "--wait", check=False)

    assert failed.returncode == 9
    assert "was rolled back" in failed.stderr
    assert load.failed == []
    assert {mode for _, mode in load.seen()} == {"disaggregated"}
    assert rollout(yard)["state"] == "rolled-back"
    eventually("as before", lambda: yard.is_ready(MODEL))
    assert roles(yard) == ["decode", "prefill", "prefill"]


@pytest.mark.parametrize(
    ("topology", "why"), [(FAILING, "of its requests fail"), (SLOWER, "its median TTFT is")]
)
def test_what_does_worse_is_rolled_back_and_clients_do_not_notice(yard, tmp_path, topology, why):
    """Whose requests fail are served by the old revision, and count for the gate all the same.
    Streams alone tell how long a first token took.
    """
    policy = "{canary: [30, 100], gate: {watch_s: 3, requests_min: 5}}"
    with SteadyLoad(yard, MODEL, all_stream=True) as load:
        failed = apply(yard, spec(tmp_path, topology, policy), "--wait", check=False)

    assert failed.returncode == 9
    assert "was rolled back: the gate failed: " in failed.stderr
    assert why in failed.stderr
    assert load.failed == []
    told = rollout(yard)
    assert told["state"] == "rolled-back"
    eventually("as before", lambda: yard.is_ready(MODEL))
    assert roles(yard) == ["decode", "prefill", "prefill"]


def test_one_that_is_paused_stands_and_one_that_is_aborted_goes_back(yard, tmp_path):
    policy = "{canary: [50, 100], promote: manual}"
    with SteadyLoad(yard, MODEL, clients=2) as load:
        apply(yard, spec(tmp_path, AGGREGATED, policy))
        eventually("at its step", lambda: rollout(yard)["percent"] == 50)
        eventually("it waits", lambda: rollout(yard)["state"] == "paused")
        eventually("both answer", lambda: len({mode for _, mode in load.seen()}) == 2)
        again = yard.cli("rollout", "abort", MODEL).stdout
        assert "rolled-back" in again
        eventually("as before", lambda: roles(yard) == ["decode", "prefill", "prefill"])
        eventually("told so", lambda: yard.is_ready(MODEL))

    assert load.failed == []
    nothing = yard.cli("rollout", "pause", MODEL, check=False)
    assert nothing.returncode == 5
    assert "no rollout under way" in nothing.stderr
    assert yard.cli("rollout", "status").stdout == ""
