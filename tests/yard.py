"""Runs a whole Modelyard as its user would: `modelyard up`, in a home of its own."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def eventually(what: str, check: Callable[[], object], timeout_s: float = 30.0):
    """The first truthy value of *check*; fails with its last one."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = check()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what} (last: {value!r})"
        time.sleep(0.2)


def is_alive(process: psutil.Process) -> bool:
    """A zombie is dead: what a killed `up` left to this machine's init may never be reaped."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


MODELYARD = str(Path(sys.executable).parent / "modelyard")


class Yard:
    """One home, its `up` process, and clients for its two listeners."""

    def __init__(self, home: Path, **environ: str) -> None:
        self.home = home
        self.port, self.admin_port = free_port(), free_port()
        self.log = home.parent / "up.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.environ = {
            **{k: v for k, v in os.environ.items() if not k.startswith("MODELYARD_")},
            "MODELYARD_HOME": str(home),
            "MODELYARD_PORT": str(self.port),
            "MODELYARD_ADMIN_PORT": str(self.admin_port),
            **environ,
        }

    def start(self, *files: Path) -> None:
        arguments = [part for file in files for part in ("-f", str(file))]
        with self.log.open("wb") as output:
            self._process = subprocess.Popen(
                [MODELYARD, "up", *arguments],
                env=self.environ,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_ready(self, timeout_s: float) -> None:
        def ready() -> bool:
            assert self.process.poll() is None, f"up ended:\n{self.log.read_text()}"
            return "Modelyard is ready." in self.log.read_text()

        eventually(f"up is ready:\n{self.log.read_text()}", ready, timeout_s)

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        assert self._process is not None
        return self._process

    @property
    def key(self) -> str:
        return (self.home / "api.key").read_text().strip()

    def stop(self, timeout_s: float = 90.0) -> int:
        """Ctrl-C."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout_s)

    def client(self, timeout_s: float = 60.0) -> httpx.Client:
        return httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}",
            headers={"authorization": f"Bearer {self.key}"},
            timeout=timeout_s,
            trust_env=False,
        )

    def admin(self) -> httpx.Client:
        token = (self.home / "admin.token").read_text().strip()
        return httpx.Client(
            base_url=f"http://127.0.0.1:{self.admin_port}/admin/v1",
            headers={"authorization": f"Bearer {token}"},
            timeout=10.0,
            trust_env=False,
        )

    def cli(
        self, *arguments: str, check: bool = True, timeout_s: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [MODELYARD, *arguments],
            env=self.environ,
            capture_output=True,
            text=True,
            check=check,
            timeout=timeout_s,
        )

    def describe(self, model: str) -> dict:
        return json.loads(self.cli("describe", "model", model, "-o", "json").stdout)

    def workers(self, model: str) -> list[dict]:
        with self.admin() as admin:
            return admin.get("/workers", params={"model": model}).raise_for_status().json()["items"]

    def ready_workers(self, model: str) -> list[dict]:
        return [worker for worker in self.workers(model) if worker["phase"] == "ready"]

    def kv_transfers(self, model: str) -> int:
        return sum(variant["kv_transfers"] for variant in self.describe(model)["variants"])

    def generated(self, model: str, worker_id: str) -> int:
        """Tokens the worker's engine has generated, by its own count."""
        workers = [w for variant in self.describe(model)["variants"] for w in variant["workers"]]
        metrics = next(worker["metrics"] for worker in workers if worker["id"] == worker_id)
        return metrics["generation_tokens"] if metrics else 0

    def exposition(self) -> str:
        with self.admin() as admin:
            return admin.get(admin.base_url.copy_with(path="/metrics")).raise_for_status().text

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a gateway metric's samples with these labels."""
        families = text_string_to_metric_families(self.exposition())
        return sum(
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def upstream_failures(self) -> set[str]:
        """The reasons that the gateway's metrics give for legs that failed."""
        text = self.exposition()
        return set(re.findall(r'modelyard_upstream_failures_total{.*reason="(.*?)"', text))

    def is_ready(self, model: str) -> bool:
        try:
            with self.admin() as admin:
                view = admin.get(f"/models/{model}").raise_for_status().json()
        except httpx.HTTPError:
            return False
        return view["state"] == "ready" and not view["condition"]

    def processes(self) -> list[psutil.Process]:
        """Everything that runs for this home: parts, supervisors, engines and their children."""
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    def engine_processes(self, worker_id: str) -> list[psutil.Process]:
        folder = str(self.home / "workers" / worker_id)
        return [
            process
            for process in psutil.process_iter()
            if _cwd(process) == folder and "pipelines.cluster.supervisor" not in _command(process)
        ]

    def part(self, name: str) -> psutil.Process:
        """The gateway or the controller of this `up`."""
        wanted = {"gateway": "gateway", "controller": "pipelines.controller"}[name]
        children = psutil.Process(self.process.pid).children()
        return next(child for child in children if _command(child)[2:3] == [wanted])

    def _is_ours(self, process: psutil.Process) -> bool:
        if process.pid == os.getpid():
            return False
        if _cwd(process).startswith(str(self.home)):
            return True
        try:
            return process.environ().get("MODELYARD_HOME") == str(self.home)
        except psutil.Error:
            return False

    def kill_all(self) -> None:
        """The last resort of a failed test: nothing may stay behind."""
        for process in self.processes():
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _cwd(process: psutil.Process) -> str:
    try:
        return process.cwd()
    except psutil.Error:
        return ""


def run_yard(home: Path, **environ: str) -> Iterator[Yard]:
    """For fixtures: a yard that is stopped, and leaves nothing, whatever the tests did."""
    yard = Yard(home, **environ)
    try:
        yield yard
    finally:
        try:
            yard.stop()
        finally:
            yard.kill_all()
