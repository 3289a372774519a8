"""Three models of one pool on a device for two of them: asked in turn, watched all the while."""

import threading
import time
from pathlib import Path
from typing import Self

import yaml
from yard import Yard, eventually

NAMES = ("tail-a", "tail-b", "tail-c")
_UP = {"assigned", "preparing", "starting", "waking", "ready"}


def memory_of_two(yard: Yard) -> int:
    """MiB of which two workers fit on the node's only device, and three do not."""
    with yard.admin() as admin:
        (node,) = admin.get("/nodes").raise_for_status().json()["items"]
    (device,) = node["devices"]
    return int(device["memory_bytes"] * 0.4) >> 20


def write_models(file: Path, *, engine: str, source: str, memory_mib: int, **args) -> Path:
    topology = {"type": "aggregated", "memory": f"{memory_mib}MiB", "args": args}
    models = [
        {
            "name": name,
            "source": source,
            "pool": "tail",
            "idle": {"then": "stop", "wake_s": 600},
            "limits": {"queued_s": 600, "first_token_s": 600, "total_s": 900},
            "variants": [{"engine": engine, "topology": topology}],
        }
        for name in NAMES
    ]
    file.write_text(yaml.safe_dump({"models": models}))
    return file


class Watch:
    """Looks at all workers, again and again, until it is closed."""

    def __init__(self, yard: Yard) -> None:
        self._yard = yard
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.most_up = self.looks = 0
        self.seen: set[str] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()

    def _run(self) -> None:
        with self._yard.admin() as admin:
            while not self._ends.wait(0.2):
                answer = admin.get("/workers")
                if answer.status_code != 200:
                    continue
                phases = [worker["phase"] for worker in answer.json()["items"]]
                self.seen.update(phases)
                self.most_up = max(self.most_up, sum(phase in _UP for phase in phases))
                self.looks += 1


def take_turns(yard: Yard, file: Path, *, asks: int, ready_s: float) -> None:
    yard.cli("pools", "set", "tail", "--overcommit", "2", "--awake-min-s", "1")
    yard.cli("apply", "-f", str(file))

    def settled() -> bool:
        with yard.admin() as admin:
            items = admin.get("/workers").raise_for_status().json()["items"]
        return sorted(item["phase"] for item in items) == ["asleep", "ready", "ready"]

    eventually("two are awake, and one is placed asleep", settled, ready_s)
    assert "asleep" in yard.cli("get", "workers").stdout
    with Watch(yard) as watch, yard.client(900) as client:
        for number in range(asks):
            name = NAMES[-1 - number % len(NAMES)]
            began_at = time.monotonic()
            body = {"model": name, "prompt": "The capital of France is", "max_tokens": 8}
            answer = client.post("/v1/completions", json=body)
            assert answer.status_code == 200, (name, answer.text)
            assert answer.headers["x-modelyard-model"] == name
            print(f"{name}: {time.monotonic() - began_at:.1f} s")  # noqa: T201 - for who measures
    assert watch.looks > 10
    assert watch.most_up <= 2, "never more than two awake"
    assert {"asleep", "falling-asleep", "ready"} <= watch.seen
    told = yard.cli("get", "pools").stdout
    assert all(name in told for name in NAMES)
