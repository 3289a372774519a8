"""`modelyard up` with emulator workers: what is killed comes back, what serves is left alone.

The same on real engines is in tests/e2e; here are the cases that need many turns.
"""

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
from yard import Yard, eventually, is_alive, run_yard

SPEC = """
models:
  - name: emu
    source: file:///nowhere
    variants:
      - engine: emulator
        topology: {type: aggregated, workers: 2, memory: 256MiB}
    routing: {policy: kv_events}
  - name: emu-pd
    source: file:///nowhere
    variants:
      - engine: emulator
        topology: {type: disaggregated, prefill: {memory: 256MiB}, decode: {memory: 256MiB}}
"""
POOLING = """
models:
  - name: emb
    task: embed
    source: file:///nowhere
    variants: [{engine: emulator, topology: {type: aggregated, memory: 256MiB}}]
  - name: rank
    task: rerank
    source: file:///nowhere
    variants: [{engine: emulator, topology: {type: aggregated, memory: 256MiB}}]
"""
PROMPT = "a prompt that is long enough to be worth a prefill of its own " * 4


@pytest.fixture(scope="module")
def spec(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("spec") / "emu.yaml"
    file.write_text(SPEC)
    return file


@pytest.fixture(scope="module")
def yard(tmp_path_factory, spec):
    home = tmp_path_factory.mktemp("yard") / "home"
    for yard in run_yard(home, MODELYARD_CPU_SLOTS="12"):
        yard.start(spec)
        yard.wait_ready(60)
        yield yard


def complete(client: httpx.Client, model: str, **more) -> httpx.Response:
    return client.post(
        "/v1/completions", json={"model": model, "prompt": PROMPT, "max_tokens": 8, **more}
    )


def ids(yard: Yard, model: str) -> set[str]:
    return {worker["id"] for worker in yard.ready_workers(model)}


def test_both_topologies_answer_and_kv_moves(yard):
    before = yard.kv_transfers("emu-pd")
    with yard.client() as client:
        whole, apart = complete(client, "emu"), complete(client, "emu-pd")

    assert whole.headers["x-modelyard-mode"] == "aggregated"
    assert apart.headers["x-modelyard-mode"] == "disaggregated"
    assert yard.kv_transfers("emu-pd") == before + 1


def test_a_prompt_goes_where_its_kv_is(yard):
    """The workers tell what they hold, over a socket in their folders."""
    long = "it was told so often that everybody knew it by heart " * 40
    with yard.client() as client:

        def who(number: int) -> str:
            answer = complete(client, "emu", prompt=f"story {number}: {long}")
            return answer.headers["x-modelyard-workers"]

        first = {number: who(number) for number in range(4)}
        eventually("told", lambda: yard.metric("modelyard_kv_events_total", kind="applied"))
        assert {number: who(number) for number in range(4)} == first
    assert yard.metric("modelyard_kv_events_total", kind="bad") == 0


def test_models_that_embed_and_rerank_are_ready_once_they_have(yard, tmp_path):
    """The probes have asked them by then: an engine started for another task has no such route."""
    file = tmp_path / "pooling.yaml"
    file.write_text(POOLING)
    yard.cli("apply", "-f", str(file))
    try:
        for model in ("emb", "rank"):
            eventually(f"{model} is ready", lambda model=model: yard.is_ready(model))
    finally:
        for model in ("emb", "rank"):
            yard.cli("delete", "model", model, "--yes")
            eventually(f"{model} is gone", lambda model=model: not yard.workers(model))


def test_the_files_that_hold_keys_are_their_owners_alone(yard):
    files = [yard.home / "admin.token", yard.home / "api.key", yard.home / "modelyard.db"]
    files += (yard.home / "workers").glob("*/launch.json")

    assert {0o600} == {file.stat().st_mode & 0o777 for file in files}
    assert len(files) == 7


def test_no_key_is_on_a_command_line_or_in_a_log(yard):
    secrets = {yard.key, (yard.home / "admin.token").read_text().strip()}
    texts = [" ".join(process.cmdline()) for process in yard.processes()]
    texts += [log.read_text() for log in yard.home.rglob("*.log")]

    assert not [text for text in texts for secret in secrets if secret in text]


def test_a_killed_worker_is_replaced_and_no_request_is_lost(yard):
    victim = yard.ready_workers("emu")[0]["id"]
    for process in yard.engine_processes(victim):
        process.kill()

    with yard.client() as client:
        answers = [complete(client, "emu").status_code for _ in range(20)]

    assert {200} == set(answers), "the other worker answers"
    eventually("two ready workers", lambda: len(ids(yard, "emu") - {victim}) == 2)


def test_a_killed_prefill_leaves_decode_serving_alone_until_it_is_back(yard):
    worker = next(w for w in yard.ready_workers("emu-pd") if w["role"] == "prefill")
    for process in yard.engine_processes(worker["id"]):
        process.kill()

    with yard.client() as client:
        answer = complete(client, "emu-pd")
    assert (answer.status_code, answer.headers["x-modelyard-mode"]) == (200, "degraded")

    eventually("the pair is whole", lambda: len(ids(yard, "emu-pd") - {worker["id"]}) == 2)
    with yard.client() as client:
        eventually(
            "kv moves again",
            lambda: complete(client, "emu-pd").headers["x-modelyard-mode"] == "disaggregated",
        )


def test_a_killed_supervisor_takes_its_engine_along(yard):
    victim = yard.ready_workers("emu")[0]["id"]
    engines = yard.engine_processes(victim)
    supervisor = psutil.Process(engines[0].pid).parent()
    assert "pipelines.cluster.supervisor" in supervisor.cmdline()

    supervisor.kill()

    eventually("replaced", lambda: len(ids(yard, "emu") - {victim}) == 2)
    assert not [engine for engine in engines if is_alive(engine)], "no orphan keeps its memory"


@pytest.mark.parametrize("part", ["gateway", "controller"])
def test_workers_outlive_a_killed_part_and_are_adopted(yard, part):
    before = ids(yard, "emu") | ids(yard, "emu-pd")
    killed = yard.part(part)
    killed.kill()

    eventually(f"a new {part}", lambda: _is_new(yard, part, killed.pid))
    eventually("everything ready", lambda: yard.is_ready("emu") and yard.is_ready("emu-pd"))
    assert before == ids(yard, "emu") | ids(yard, "emu-pd"), "none was started again"
    with yard.client() as client:
        eventually("answers", lambda: _answers(client, "emu-pd"))


def _is_new(yard: Yard, part: str, old: int) -> bool:
    try:
        return yard.part(part).pid != old
    except (StopIteration, psutil.Error):
        return False


def _answers(client: httpx.Client, model: str) -> bool:
    try:
        return complete(client, model).status_code == 200
    except httpx.TransportError:
        return False


def test_scaling_adds_and_drains_without_touching_the_others(yard):
    before = ids(yard, "emu")

    yard.cli("scale", "emu", "--workers", "3")
    eventually("three", lambda: len(ids(yard, "emu")) == 3)
    assert before < ids(yard, "emu")

    yard.cli("scale", "emu", "--workers", "2")
    eventually("two", lambda: len(yard.workers("emu")) == 2)
    assert before == ids(yard, "emu")


def test_a_new_revision_replaces_the_workers_and_requests_go_on(yard, tmp_path):
    before = ids(yard, "emu")
    file = tmp_path / "next.yaml"
    file.write_text(SPEC.replace("workers: 2, memory", "workers: 2, args: {seed: 7}, memory"))

    yard.cli("apply", "-f", str(file))

    statuses = []
    with yard.client() as client:

        def replaced() -> bool:
            statuses.append(complete(client, "emu").status_code)
            return yard.is_ready("emu") and not before & {w["id"] for w in yard.workers("emu")}

        eventually("replaced", replaced)
    assert {200} == set(statuses)


def test_a_crashing_worker_is_started_with_growing_pauses_and_says_why(yard, tmp_path):
    file = tmp_path / "bad.yaml"
    file.write_text(
        "name: bad\nsource: file:///nowhere\nvariants:\n"
        "  - {engine: emulator, topology: {type: aggregated, memory: 256MiB, args: {no-such: 1}}}\n"
    )
    yard.cli("apply", "-f", str(file))

    def waits() -> bool:
        condition = yard.describe("bad")["condition"]
        return "starts again at" in condition and "no-such" in condition  # the engine's own words

    eventually("it waits", waits)
    with yard.client() as client:
        answer = complete(client, "bad")
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0

    yard.cli("delete", "model", "bad", "--yes")
    with yard.client() as client:
        eventually("unknown", lambda: complete(client, "bad").status_code == 404)
    eventually("gone", lambda: not yard.workers("bad"))


def test_a_model_that_does_not_fit_says_which_node_refused_and_why(yard, tmp_path):
    file = tmp_path / "big.yaml"
    file.write_text(
        "name: big\nsource: file:///nowhere\nvariants:\n"
        "  - {engine: emulator, topology: {type: aggregated, memory: 900GiB}}\n"
    )
    yard.cli("apply", "-f", str(file))

    eventually(
        "told", lambda: "needs 900.0 GiB of each device" in yard.describe("big")["condition"]
    )
    yard.cli("delete", "model", "big", "--yes")


def test_a_pair_that_runs_elsewhere_is_served_limited_and_metered_like_our_own(yard, tmp_path):
    with an_engine("prefill") as (prefill, _), an_engine("decode") as (decode, process):
        file = tmp_path / "elsewhere.yaml"
        file.write_text(
            "name: elsewhere\nlimits: {in_flight_per_worker: 7}\nvariants:\n"
            "  - engine: emulator\n"
            "    topology: {type: external, served_name: theirs, "
            f"prefill: [{{url: '{prefill}'}}], decode: [{{url: '{decode}'}}]}}\n"
        )
        yard.cli("apply", "-f", str(file), "--wait", "--timeout", "60s")
        before = yard.kv_transfers("elsewhere")
        with yard.client() as client:
            eventually("routed", lambda: complete(client, "elsewhere").status_code == 200)
            answer = complete(client, "elsewhere")

        assert answer.headers["x-modelyard-mode"] == "disaggregated"
        assert yard.kv_transfers("elsewhere") >= before + 2
        assert {worker["node"] for worker in yard.workers("elsewhere")} == {"external"}
        eventually("metered", lambda: "elsewhere" in yard.cli("usage").stdout)

        yard.cli("delete", "model", "elsewhere", "--yes")
        eventually("let go", lambda: not yard.workers("elsewhere"))
        assert process.poll() is None, "we do not stop what we have not started"


@contextmanager
def an_engine(role: str):
    """An emulator that the yard did not start: its URL and its process."""
    command = [sys.executable, "-m", "pipelines.engines.emulator_server", "--model", "theirs"]
    with subprocess.Popen([*command, "--role", role], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline().split()[1], process
        finally:
            process.kill()


def test_logs_of_a_worker_can_be_read(yard):
    worker = yard.ready_workers("emu")[0]["id"]

    assert yard.cli("logs", worker, "--tail", "5").returncode == 0


def test_a_killed_up_leaves_the_workers_to_the_next_one(yard, spec):
    before = {w["id"] for model in ("emu", "emu-pd") for w in yard.workers(model)}
    parts = [yard.part("gateway"), yard.part("controller")]
    yard.process.kill()
    yard.process.wait()
    eventually("the parts end with their parent", lambda: not any(map(is_alive, parts)), 20)
    assert len(yard.processes()) >= 2 * len(before), "workers and supervisors go on"

    yard.start()
    yard.wait_ready(60)

    assert before == {w["id"] for model in ("emu", "emu-pd") for w in yard.ready_workers(model)}


def test_ctrl_c_leaves_no_process_and_the_next_up_starts_anew(yard):
    assert yard.stop() == 0
    assert yard.processes() == []

    yard.start()
    yard.wait_ready(60)
    assert len(yard.ready_workers("emu")) == 2


def test_a_second_up_on_the_same_home_is_refused(yard):
    again = Yard(yard.home)
    again.log = yard.home.parent / "again.log"
    again.start()

    assert again.process.wait(30) == 1
    assert "another `modelyard up` already runs" in again.log.read_text()


def test_the_parts_stop_on_sigterm(yard):
    os.kill(yard.process.pid, signal.SIGTERM)

    assert yard.process.wait(60) == 0
    assert yard.processes() == []
