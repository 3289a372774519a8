"""A fleet under test: `modelyard up` on a Ray cluster, with models of several kinds."""

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import httpx
from host_machine import HEAD, Host
from yard import Yard, eventually

from registry.state import LIVE_PHASES

NODE_LOST_S = 6
JOINED_S = 60.0
WHOLE_S = 90.0
_GIB = 2**30
LARGE, SMALL = "NVIDIA H100 80GB HBM3", "NVIDIA L40S"
GPUS = tuple(
    json.dumps({"gpus": [{"name": name, "memory_bytes": gib * _GIB}] * 4})
    for name, gib in ((LARGE, 80), (LARGE, 80), (SMALL, 48))
)
# Short, for a test's sake; each is far above what a busy machine needs.
LIMITS = {
    "connect_s": 2,
    "first_token_s": 10,
    "transfer_s": 5,
    "between_tokens_s": 5,
    "total_s": 40,
    "queued_s": 10,
    "retry_after_s": 1,
}
# An answer takes about half a second, so that some are always under way.
_PACE = {"ttft-ms": 20, "tpot-ms": 20, "max-model-len": 100_000, "kv-timeout-s": 1}


def _role(workers: int, memory: str, device_model: str = "") -> dict:
    role = {"workers": workers, "memory": memory, "args": _PACE}
    return role | ({"placement": {"device_model": device_model}} if device_model else {})


def _model(name: str, topology: dict) -> dict:
    return {
        "name": name,
        "source": "hf://org/m",
        "limits": LIMITS,
        "variants": [{"engine": "emulator", "topology": topology}],
    }


def _small(name: str) -> dict:
    return _model(name, {"type": "aggregated", **_role(1, "16GiB", "L40S")})


# *wide* has a replica on each host; the *pair* prefills on large GPUs and decodes on the smaller
# ones, so that its KV crosses the network; of the small models two share a GPU.
MODELS = (
    _model("wide", {"type": "aggregated", **_role(3, "40GiB")}),
    _model(
        "pair",
        {
            "type": "disaggregated",
            "prefill": _role(2, "60GiB", "H100"),
            "decode": _role(2, "30GiB", "L40S"),
        },
    ),
    _small("small-a"),
    _small("small-b"),
    _model("mover", {"type": "aggregated", **_role(1, "16GiB", "H100")}),
)
NAMES = tuple(model["name"] for model in MODELS)


class Fleet(Yard):
    """The parts of Modelyard on host 1. It is asked from there: ``with fleet.head.inside()``."""

    def __init__(self, hosts: list[Host]) -> None:
        self.hosts = hosts
        self.head = hosts[0]
        super().__init__(self.head.home)
        self.environ |= self.head.environ | {
            "MODELYARD_CLUSTER": "ray",
            "MODELYARD_RAY_ADDRESS": HEAD,
            "MODELYARD_NODE_LOST_S": str(NODE_LOST_S),
        }

    def by_name(self, node: str) -> Host:
        return next(host for host in self.hosts if host.name == node)

    def rows(self, question: str, *values: object) -> list[tuple]:
        """What the registry says, by SQL alone."""
        with contextlib.closing(sqlite3.connect(self.home / "modelyard.db", timeout=10)) as base:
            return base.execute(question, values).fetchall()

    def live(self) -> dict[str, str]:
        """The nodes of the workers that the registry takes for living, by the workers' ids."""
        return {
            worker: node
            for worker, node, phase in self.rows(
                "SELECT id, node, phase FROM workers WHERE ended_at IS NULL"
            )
            if phase in LIVE_PHASES
        }

    def engines(self) -> dict[str, str]:
        """The nodes where engines really run, by their workers' ids. A worker that runs on two
        is named by both.
        """
        found: dict[str, str] = {}
        for host in self.hosts:
            for worker in host.engines():
                found[worker] = f"{found[worker]},{host.name}" if worker in found else host.name
        return found

    def node(self, name: str) -> dict:
        with self.admin() as admin:
            nodes = admin.get("/nodes").raise_for_status().json()["items"]
        return next(node for node in nodes if node["name"] == name)

    def on(self, host: Host) -> dict[str, str]:
        """The models of the workers that live on *host*, by the workers' ids."""
        return dict(
            self.rows("SELECT id, model FROM workers WHERE ended_at IS NULL AND node=?", host.name)
        )

    def has_all_hosts(self) -> bool:
        with self.admin() as admin:
            nodes = admin.get("/nodes").raise_for_status().json()["items"]
        ready = {node["name"] for node in nodes if node["state"] == "ready"}
        return ready >= {host.name for host in self.hosts}

    def is_whole(self) -> bool:
        """Every model is ready, every node too, and what runs is what the registry knows."""
        try:
            return (
                all(map(self.is_ready, NAMES))
                and self.has_all_hosts()
                and self.live() == self.engines()
            )
        except httpx.HTTPError:
            return False

    def wait_whole(self, within_s: float = WHOLE_S) -> None:
        def whole() -> bool:
            for host in self.hosts:
                host.revive()
            return self.is_whole()

        try:
            eventually("the fleet is whole", whole, within_s)
        except AssertionError as error:
            error.add_note(self.told())
            raise

    def told(self) -> str:
        """What an operator would look at."""
        with contextlib.suppress(httpx.HTTPError), self.admin() as admin:
            models = [admin.get(f"/models/{name}").json() for name in NAMES]
            conditions = {model["name"]: model["condition"] for model in models}
            nodes = {node["name"]: node["state"] for node in admin.get("/nodes").json()["items"]}
            return (
                f"{conditions}\n{nodes}\nregistry: {self.live()}\nrunning: {self.engines()}\n"
                f"up: {self.log.read_text()[-4000:]}"
            )
        return f"no answer; up: {self.log.read_text()[-4000:]}"


@contextlib.contextmanager
def a_fleet(hosts: list[Host], spec: Path) -> Iterator[Fleet]:
    """With the models of *spec*. They are declared once all hosts are known, else the first ones
    would take all.
    """
    with hosts[0].inside():
        fleet = Fleet(hosts)
        fleet.start()
    try:
        with hosts[0].inside():
            fleet.wait_ready(JOINED_S)
            eventually("all have joined", fleet.has_all_hosts, JOINED_S)
            fleet.cli("apply", "-f", str(spec))
        yield fleet
    finally:
        try:
            fleet.stop()
        finally:
            fleet.kill_all()
            fleet.process.wait()
