"""`modelyard up` with models that sleep: twenty requests at once wake each of them once."""

import json
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from yard import Yard, eventually, run_yard

SPEC = """
models:
  - name: light
    source: file:///nowhere
    idle: {after_s: 2, then: sleep, wake_s: 60}
    variants:
      - engine: emulator
        topology: {type: aggregated, memory: 256MiB, args: {wake-s: 1}}
  - name: stops
    source: file:///nowhere
    idle: {after_s: 2, then: stop, wake_s: 60}
    variants:
      - engine: emulator
        topology: {type: aggregated, memory: 256MiB}
  - name: pair
    source: file:///nowhere
    idle: {after_s: 2, wake_s: 60}
    variants:
      - engine: emulator
        topology: {type: disaggregated, prefill: {memory: 256MiB}, decode: {memory: 256MiB}}
"""
ASKERS = 20


@pytest.fixture(scope="module")
def yard(tmp_path_factory):
    home = tmp_path_factory.mktemp("yard") / "home"
    spec = home.parent / "spec.yaml"
    spec.write_text(SPEC)
    for yard in run_yard(home, MODELYARD_CPU_SLOTS="12"):
        yard.start(spec)
        yard.wait_ready(90)
        yield yard


def state(yard: Yard, model: str) -> str:
    with yard.admin() as admin:
        return admin.get(f"/models/{model}").raise_for_status().json()["state"]


def sleeps(yard: Yard, model: str) -> bool:
    return {worker["phase"] for worker in yard.workers(model)} == {"asleep"}


def ask(client: httpx.Client, model: str, *, stream: bool) -> str:
    """Its text; fails unless the answer is whole."""
    body = {"model": model, "prompt": "Tell me.", "max_tokens": 4, "stream": stream}
    answer = client.post("/v1/completions", json=body).raise_for_status()
    if not stream:
        return answer.json()["choices"][0]["text"]
    assert answer.text.startswith(f": waking {model}\n\n"), answer.text
    assert answer.text.endswith("data: [DONE]\n\n")
    events = [line[6:] for line in answer.text.splitlines() if line.startswith("data: {")]
    return "".join(json.loads(event)["choices"][0]["text"] for event in events)


def wakes(yard: Yard, model: str) -> int:
    with yard.admin() as admin:
        events = admin.get("/events", params={"model": model}).raise_for_status().json()["items"]
    begun = ("waking: ", "assigned: ")
    return sum(event["message"].startswith(begun) for event in events)


@pytest.mark.parametrize("model", ["light", "stops", "pair"])
def test_an_idle_model_sleeps_and_wakes_once_for_all_who_ask(yard, model):
    eventually(f"{model} is asleep", lambda: sleeps(yard, model), 90)
    assert state(yard, model) == "asleep"
    view = yard.describe(model)
    assert view["condition"].endswith("the next request wakes it")
    workers = [worker for variant in view["variants"] for worker in variant["workers"]]
    before = {worker["id"] for worker in workers}
    modes = {worker["sleep_mode"] for worker in workers}
    assert modes == {"weights-on-host" if model == "light" else "stopped"}
    assert bool(yard.engine_processes(workers[0]["id"])) == (model == "light")
    counted = wakes(yard, model)
    with yard.client() as client, ThreadPoolExecutor(ASKERS) as threads:
        asked = [
            threads.submit(ask, client, model, stream=number % 2 == 0) for number in range(ASKERS)
        ]
        texts = {one.result() for one in asked}
    assert len(texts) == 1, "the same prompt, the same answer"
    assert wakes(yard, model) - counted == len(before)
    assert {worker["id"] for worker in yard.workers(model)} == before


def test_by_hand(yard):
    yard.cli("wake", "light", "--wait", "--timeout", "60s", check=False)
    with yard.client() as client:
        ask_any = {"model": "light", "prompt": "x", "max_tokens": 1}
        client.post("/v1/completions", json=ask_any).raise_for_status()
    told = yard.cli("sleep", "light")
    assert "model/light" in told.stdout
    eventually("light is asleep", lambda: sleeps(yard, "light"), 60)
    assert "asleep" in yard.cli("get", "models").stdout
    assert "asleep" in yard.cli("get", "workers").stdout
    woken = yard.cli("wake", "light")
    assert woken.stdout.startswith("model/light wakes up: light-unified-0-")
    eventually("it is awake", lambda: yard.ready_workers("light"))
    yard.cli("sleep", "light")
    at_once = yard.cli("wake", "light", "--wait")
    assert at_once.stdout.startswith("model/light wakes up: "), "once it has fallen asleep"
    assert yard.cli("apply", "-f", str(yard.home.parent / "spec.yaml"), "--wait").returncode == 0


@pytest.mark.timeout(240)
def test_a_model_that_sleeps_with_its_weights_in_memory_is_asleep_after_a_restart(yard):
    """Last: it ends the `up` of the others."""
    yard.cli("sleep", "light", check=False)
    eventually("light is asleep", lambda: sleeps(yard, "light"), 60)
    (before,) = yard.workers("light")
    assert yard.stop() == 0
    assert not yard.engine_processes(before["id"])

    yard.start()
    yard.wait_ready(90)

    (after,) = yard.workers("light")
    assert (after["id"], after["phase"]) == (before["id"], "asleep")
    with yard.client() as client:
        ask(client, "light", stream=False)
    assert [worker["id"] for worker in yard.ready_workers("light")] == [before["id"]]
