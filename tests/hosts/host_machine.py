"""A host of the fleet: a network namespace with a Ray node, a home and a name of its own."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
from host_network import SUBNET, Network, kill_all_in, processes_in

RAY = str(Path(sys.executable).parent / "ray")
RAY_PORT = 6379
HEAD = f"{SUBNET}.1:{RAY_PORT}"
# Ray would take a third of the memory for objects that we have none of.
_OBJECT_STORE_BYTES = 80 * 2**20
_RAY_ENVIRON = {
    # A host that is gone is found out in seconds and not in half a minute.
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "5",
    # Of Ray's own workers only those that are asked for.
    "RAY_enable_worker_prestart": "0",
    "RAY_prestart_worker_first_driver": "0",
}


class Host:
    """The first one has Ray's head. *environ* is what the node's processes see beside ours."""

    def __init__(self, network: Network, number: int, root: Path, **environ: str) -> None:
        self.number = number
        self.name = f"host{number}"
        self.address = f"{SUBNET}.{number}"
        self.home = root / self.name
        self._network = network
        self._namespace = network.connect(number)
        # Ray's Unix sockets lie in it, and their paths have little room.
        self._ray_dir = Path(f"/tmp/{self._namespace.name}")
        self.environ = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("MODELYARD_", "RAY_"))},
            **_RAY_ENVIRON,
            "MODELYARD_HOME": str(self.home),
            "MODELYARD_NODE_NAME": self.name,
            **environ,
        }

    def __repr__(self) -> str:
        return f"<{self.name} {self.address}>"

    def inside(self):
        """``with host.inside():`` — sockets and processes of this thread are the host's."""
        return self._namespace.inside()

    def run(self, *command: str, timeout_s: float = 60.0) -> str:
        """What a command says that is run on the host. Fails with it where the command does."""
        done = subprocess.run(
            self.command(*command),
            env=self.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
        )
        assert done.returncode == 0, f"{command} on {self.name}: {done.stdout}{done.stderr}"
        return done.stdout

    def command(self, *command: str) -> list[str]:
        """It with what brings it onto the host, whose /sys is the host's, too."""
        return ["ip", "netns", "exec", self._namespace.name, *command]

    def start(self) -> None:
        """Switches it on: its cable, and its Ray node."""
        self.heal()
        shutil.rmtree(self._ray_dir, ignore_errors=True)  # of its last life
        role = (
            ["--head", "--port", str(RAY_PORT), "--include-dashboard", "false"]
            if self.number == 1
            else ["--address", HEAD]
        )
        self.run(
            *(RAY, "start", *role),
            *("--node-ip-address", self.address),
            *("--num-cpus", "2"),
            *("--temp-dir", str(self._ray_dir)),
            *("--object-store-memory", str(_OBJECT_STORE_BYTES)),
            "--disable-usage-stats",
        )

    def kill(self) -> None:
        """As if its plug was pulled: no connection of its ends, all processes are gone at once."""
        self.cut()
        kill_all_in(self._namespace.name)

    def revive(self) -> None:
        """Starts the Ray node again where it has ended, as an init system would."""
        if "raylet" not in map(_name, self.processes()):
            self.kill_ray()
            self.start()

    def kill_ray(self) -> None:
        """Kills Ray's processes; those that Ray has started without being part of it go on."""
        for process in self.processes():
            if is_rays(process):
                with contextlib.suppress(psutil.Error):
                    process.kill()

    def cut(self) -> None:
        self._network.cut(self.number)

    def heal(self) -> None:
        self._network.heal(self.number)

    def bytes_sent(self) -> int:
        """Over its cable, since it was made."""
        return self._network.bytes_from(self.number)

    def engines(self) -> dict[str, set[int]]:
        """The process ids of the workers' engines on this host, by the workers' ids."""
        found: dict[str, set[int]] = {}
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                folder = Path(process.cwd())
                if folder.parent == self.home / "workers":
                    found.setdefault(folder.name, set()).add(process.pid)
        return found

    def processes(self) -> list[psutil.Process]:
        return processes_in(self._namespace.name)

    def end(self) -> None:
        kill_all_in(self._namespace.name)
        shutil.rmtree(self._ray_dir, ignore_errors=True)


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.Error:
        return ""


@contextlib.contextmanager
def three_hosts(root: Path, *environs: dict[str, str]) -> Iterator[list[Host]]:
    """Host 1, 2 and 3 with their *environs*, switched on. All that runs on them ends with it."""
    with contextlib.ExitStack() as stack:
        network = Network()
        stack.callback(network.close)
        hosts = []
        for number, environ in enumerate(environs, start=1):
            hosts.append(Host(network, number, root, **environ))
            stack.callback(hosts[-1].end)
        for host in hosts:
            host.start()
        yield hosts


def is_rays(process: psutil.Process) -> bool:
    """Whether it is a part of Ray, one of its workers, or connected to it."""
    try:
        return any(
            part.startswith("ray::") or "/ray/" in part or ".ray." in part
            for part in process.cmdline()
        )
    except psutil.Error:
        return False
