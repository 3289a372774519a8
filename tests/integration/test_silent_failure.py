"""A pair whose decode computes prompts again, under load: degraded within a minute, then well.

Every process of it stays healthy, and every answer right.
"""

import itertools
import json
import threading
import time
from pathlib import Path
from typing import Self

import httpx
import pytest
from yard import Yard, eventually, run_yard

SPEC = """
name: emu-pd
source: file:///nowhere
variants:
  - engine: emulator
    topology: {type: disaggregated, prefill: {memory: 256MiB}, decode: {memory: 256MiB}}
"""
FOUND_S = 60.0
WELL_S = 75.0
EVERY_S = 0.25
SAID = "requests went to prefill and decode in the last 45 s"

pytestmark = pytest.mark.timeout(400)


@pytest.fixture
def yard(tmp_path: Path):
    file = tmp_path / "emu.yaml"
    file.write_text(SPEC)
    for yard in run_yard(tmp_path / "home", MODELYARD_CPU_SLOTS="4"):
        yard.start(file)
        yard.wait_ready(60)
        yield yard


class Load:
    """A request every `EVERY_S`, each with a prompt of its own; *statuses* tells what came."""

    def __init__(self, yard: Yard) -> None:
        self.statuses: dict[tuple[int, str | None], int] = {}
        self._yard = yard
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        with self._yard.client() as client:
            for number in itertools.count():
                body = {"model": "emu-pd", "prompt": f"{number} " * 40, "max_tokens": 4}
                answer = client.post("/v1/completions", json=body)
                seen = (answer.status_code, answer.headers.get("x-modelyard-mode"))
                self.statuses[seen] = self.statuses.get(seen, 0) + 1
                if self._ended.wait(EVERY_S):
                    return


def decode_fault(yard: Yard, method: str) -> None:
    """The engine's own key is in its environment only, as of any engine."""
    (worker,) = [w for w in yard.ready_workers("emu-pd") if w["role"] == "decode"]
    (process,) = yard.engine_processes(worker["id"])[:1]
    headers = {"authorization": f"Bearer {process.environ()['EMULATOR_API_KEY']}"}
    fault = {"kind": "kv_recompute", "count": -1}
    url = f"http://{worker['address']}/fault"
    sent = httpx.request(method, url, headers=headers, json=fault if method == "POST" else None)
    assert sent.status_code == httpx.codes.OK, sent.text


def test_a_pair_that_moves_no_kv_is_degraded_within_a_minute_and_well_again_when_it_does(yard):
    with Load(yard) as load:
        time.sleep(50)  # a whole window of good service
        healthy = yard.describe("emu-pd")
        assert (healthy["state"], healthy["condition"]) == ("ready", "")
        before = {worker["id"] for worker in yard.ready_workers("emu-pd")}

        decode_fault(yard, "POST")
        eventually("degraded", lambda: yard.describe("emu-pd")["state"] == "degraded", FOUND_S)
        found = yard.describe("emu-pd")
        assert SAID in found["condition"]
        assert "decode recomputes prompts" in found["condition"]
        assert {worker["phase"] for worker in yard.workers("emu-pd")} == {"ready"}
        events = json.loads(yard.cli("events", "--model", "emu-pd", "-o", "json").stdout)["items"]
        said = [
            item for item in events if item["kind"] == "model-condition" and SAID in item["message"]
        ]
        assert len(said) == 1

        decode_fault(yard, "DELETE")
        eventually("well again", lambda: yard.describe("emu-pd")["state"] == "ready", WELL_S)
        assert yard.describe("emu-pd")["condition"] == ""
        assert {worker["id"] for worker in yard.ready_workers("emu-pd")} == before
    assert set(load.statuses) == {(200, "disaggregated")}
