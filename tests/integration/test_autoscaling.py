"""`modelyard up` with a pair whose roles follow their load, each alone; no request fails for it."""

import threading
import time
from contextlib import contextmanager

import pytest
from yard import eventually, run_yard

# A decode worker has room for about 16 of the streams below, half of which is its target; a prefill
# worker computes a long prompt in three quarters of a second, two at once.
SPEC = """
models:
  - name: emu
    source: file:///nowhere
    variants:
      - engine: emulator
        topology:
          type: disaggregated
          prefill:
            memory: 256MiB
            autoscale: {workers_max: 2, queued_prompt_tokens_max: 1000, stable_s: 10}
            args: {prefill-tokens-per-s: 2000, max-num-seqs: 2, max-model-len: 4096}
          decode:
            memory: 256MiB
            autoscale: {workers_max: 3, kv_usage_max: 0.5, stable_s: 10}
            args: {tpot-ms: 100, kv-blocks: 400, max-model-len: 4096}
"""


@pytest.fixture(scope="module")
def yard(tmp_path_factory):
    folder = tmp_path_factory.mktemp("autoscaling")
    (folder / "emu.yaml").write_text(SPEC)
    for yard in run_yard(folder / "home", MODELYARD_CPU_SLOTS="8"):
        yard.start(folder / "emu.yaml")
        yard.wait_ready(60)
        yield yard


@contextmanager
def load(yard, *, at_once, words, max_tokens, statuses):
    """So many clients that ask again and again, until the end; their last answers come after it."""
    over = threading.Event()
    body = {"model": "emu", "prompt": "word " * words, "max_tokens": max_tokens}

    def ask():
        with yard.client() as client:
            while not over.is_set():
                statuses.append(client.post("/v1/completions", json=body).status_code)

    threads = [threading.Thread(target=ask) for _ in range(at_once)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join(60)


def scalings(yard):
    """What was decided, as in ``decode 1 → 2``."""
    with yard.admin() as admin:
        events = admin.get("/events", params={"model": "emu"}).raise_for_status().json()["items"]
    told = [event["message"] for event in events if event["kind"] == "model-scaled"]
    return [message.partition(":")[0].replace(" of default", "") for message in told]


def ready(yard, role):
    return sum(worker["role"] == role for worker in yard.ready_workers("emu"))


@pytest.mark.timeout(300)
def test_each_role_follows_its_own_load_and_no_request_fails(yard):
    statuses = []
    with load(yard, at_once=18, words=160, max_tokens=100, statuses=statuses):
        eventually("decode grows", lambda: ready(yard, "decode") == 2, 60)
    assert scalings(yard)[:1] == ["decode 1 → 2"]
    assert not any(one.startswith("prefill") for one in scalings(yard))

    with load(yard, at_once=4, words=1500, max_tokens=2, statuses=statuses):
        eventually("prefill grows", lambda: ready(yard, "prefill") == 2, 60)
    grown = [one for one in scalings(yard) if one in {"decode 2 → 3", "prefill 1 → 2"}]
    assert grown == ["prefill 1 → 2"]

    shown = yard.cli("describe", "model", "emu").stdout
    assert "(autoscaled 1 to 2:" in " ".join(shown.split())

    with load(yard, at_once=1, words=8, max_tokens=2, statuses=statuses):
        eventually(
            "both shrink",
            lambda: (
                ready(yard, "prefill") == ready(yard, "decode") == 1
                and len(yard.workers("emu")) == 2
            ),
            90,
        )
        time.sleep(1)
    assert {"decode 2 → 1", "prefill 2 → 1"} <= set(scalings(yard))
    assert set(statuses) == {200}
    assert len(statuses) > 30
