"""A real Ray cluster of one node for tests, ended by the ids of its processes."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil


class RayNode:
    """*environ* is what its `ray start` gets besides ours. Its folder's path is short: Ray's
    sockets lie in it.
    """

    def __init__(self, **environ: str):
        self.environ = {**os.environ, **environ}
        self.folder = Path(tempfile.mkdtemp(prefix="mr", dir="/tmp"))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"

    def start(self) -> None:
        process = subprocess.run(
            [
                *(str(Path(sys.executable).with_name("ray")), "start", "--head"),
                *("--node-ip-address", "127.0.0.1", "--port", self.address.partition(":")[2]),
                *("--num-cpus", "1", "--num-gpus", "2", "--object-store-memory", "80000000"),
                *("--include-dashboard", "false", "--disable-usage-stats"),
                *("--labels", "zone=a", "--temp-dir", str(self.folder)),
            ],
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            check=False,
            timeout=60,
        )
        assert process.returncode == 0, process.stdout.decode()

    def processes(self, mark: str = "") -> list[psutil.Process]:
        """Ray's own, by the folder that they name or their descent from one that does."""
        named = [p for p in psutil.process_iter() if str(self.folder) in " ".join(_command(p))]
        family = {p.pid: p for one in named for p in (one, *_descendants(one))}
        return [p for p in family.values() if mark in " ".join(_command(p))]

    def kill(self) -> None:
        """All of it at once, until nothing of it is left."""
        deadline = time.monotonic() + 30
        while found := self.processes():
            for process in found:
                process.kill()
            psutil.wait_procs(found, timeout=1)
            assert time.monotonic() < deadline, found

    def remove(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []
