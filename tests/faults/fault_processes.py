"""The processes under fault: emulators and a gateway, started as anybody would start them."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil

# One emulator's pace; a test that needs another one asks for it.
TTFT_MS = 10
TPOT_MS = 8
PACE = {"ttft-ms": TTFT_MS, "tpot-ms": TPOT_MS, "max-model-len": 100_000, "kv-timeout-s": 1}
_SAMPLE = re.compile(r"vllm:(\w+)\{[^}]*?(?:finished_reason=\"(\w+)\")?\} (\S+)")
_GONE_S = 10


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ask(port: int, path: str, *, method="GET", body=None, headers=()) -> str:
    """On a connection of its own, which is gone when sockets are counted."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(
            method,
            path,
            body=None if body is None else json.dumps(body),
            headers={"connection": "close", **dict(headers)},
        )
        response = connection.getresponse()
        text = response.read().decode()
        assert response.status == 200, text
        return text
    finally:
        connection.close()


class Emulator:
    """A worker's process. Its counts are read at its own /metrics."""

    def __init__(self, role, options):
        flags = [text for name, value in options.items() for text in (f"--{name}", str(value))]
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "pipelines.engines.emulator_server"),
                *("--model", "m", "--role", role, *flags),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        self.role = role
        self.stopped = False
        self.worker_id = ""  # in the registry, while it serves there

    def wait_ready(self):
        assert self._process.stdout is not None
        ready, self.url, *_ = self._process.stdout.readline().split()
        assert ready == "ready"
        self._port = int(self.url.rpartition(":")[2])

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def kill(self):
        """As the kernel does it: no goodbye on any connection but their end."""
        self._process.kill()
        self._process.wait(_GONE_S)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def stop(self):
        """Its sockets stay open, and nothing answers on them."""
        self._process.send_signal(signal.SIGSTOP)
        self.stopped = True

    def cont(self):
        self._process.send_signal(signal.SIGCONT)
        self.stopped = False

    def fault(self, kind, **more):
        """*more*: count (-1: for all that come), after_tokens, status, factor."""
        ask(self._port, "/fault", method="POST", body={"kind": kind, "count": -1, **more})

    def heal(self):
        """Runs again, and well."""
        if self.stopped:
            self.cont()
        ask(self._port, "/fault", method="DELETE")

    def counts(self):
        """Its metrics without vLLM's prefix; ends are counted as ``ended_stop`` and so on."""
        return {
            f"ended_{reason}" if reason else name: int(float(value))
            for name, reason, value in _SAMPLE.findall(ask(self._port, "/metrics"))
        }

    @property
    def busy(self) -> int:
        """Requests on it, be they running or waiting."""
        counts = self.counts()
        return counts["num_requests_running"] + counts["num_requests_waiting"]

    @property
    def ended(self) -> int:
        return sum(n for name, n in self.counts().items() if name.startswith("ended_"))


class GatewayProcess:
    """``python -m gateway serve`` on the registry of *home*, with *workers* processes."""

    def __init__(
        self, home: Path, admin_secret: str, *, workers: int = 1, port: int = 0, environ=()
    ):
        self.port, self._admin_port = port or free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.admin_url = f"http://127.0.0.1:{self._admin_port}"
        self._headers = {"authorization": f"Bearer {admin_secret}"}
        self.log = home / f"gateway-{self.port}.log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gateway", "serve", "--workers", str(workers)],
                env={
                    **os.environ,
                    "MODELYARD_HOME": str(home),
                    "MODELYARD_PORT": str(self.port),
                    "MODELYARD_ADMIN_PORT": str(self._admin_port),
                    "MODELYARD_LOG_LEVEL": "warning",
                    **dict(environ),
                },
                stdout=log,
                stderr=log,
            )

    @property
    def ready(self) -> bool:
        assert self._process.poll() is None, self.log.read_text()[-3000:]
        with contextlib.suppress(OSError, KeyError):
            return self.samples("modelyard_routing_table_version")[""] >= 0
        return False

    def samples(self, name: str) -> dict[str, float]:
        """The values of one metric by their labels, as text."""
        text = ask(self._admin_port, "/metrics", headers=self._headers)
        found = re.findall(rf"^{name}(?:\{{(.*)\}})? (\S+)$", text, re.MULTILINE)
        return {labels: float(value) for labels, value in found}

    @property
    def sockets(self) -> int:
        folder = Path(f"/proc/{self._process.pid}/fd")
        count = 0
        for fd in folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                count += str(fd.readlink()).startswith("socket:")
        return count

    @property
    def children(self) -> list[psutil.Process]:
        """Those that serve inference, where there are several."""
        return psutil.Process(self._process.pid).children()

    def terminate(self):
        self._process.terminate()

    def kill(self):
        """This one process, as the kernel does it."""
        self._process.kill()
        self._process.wait(_GONE_S)

    def stop(self):
        """Its sockets and its locks stay, and it does nothing."""
        self._process.send_signal(signal.SIGSTOP)

    def cont(self):
        self._process.send_signal(signal.SIGCONT)

    def wait(self, timeout_s: float) -> int:
        return self._process.wait(timeout_s)

    def end(self):
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(_GONE_S)
