"""A network of several hosts on one machine: namespaces, and a bridge in a namespace of its own.

Nothing is added to the machine's own network, and no address outside can be reached. The names
begin with the process id of the run that made them, so that runs may stand beside each other, and
that a run can clear away what a dead one left.
"""

import contextlib
import ctypes
import itertools
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

SUBNET = "10.77.0"
_NETNS = Path("/run/netns")
_OURS = re.compile(r"myhosts-(\d+)-\w+")
_CLONE_NEWNET = 0x40000000
_GONE_S = 20.0
_serials = itertools.count(1)
_libc = ctypes.CDLL(None, use_errno=True)


def ip(*arguments: str) -> str:
    """Runs iproute2's `ip`. Fails with what it said."""
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr.strip()}"
    return done.stdout


def require() -> None:
    """Fails where this machine cannot have namespaces, and says what it lacks."""
    assert os.geteuid() == 0, "the tests of several hosts need root, for network namespaces"
    assert shutil.which("ip"), "the tests of several hosts need `ip` (Debian's package iproute2)"


class Namespace:
    """A network namespace by name."""

    def __init__(self, name: str) -> None:
        self.name = name
        ip("netns", "add", name)
        ip("-n", name, "link", "set", "lo", "up")

    def ip(self, *arguments: str) -> str:
        return ip("-n", self.name, *arguments)

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Sockets that this thread makes, and processes that it starts, belong to the namespace."""
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            _enter(_NETNS / self.name)
            try:
                yield
            finally:
                _enter(Path(f"/proc/self/fd/{before}"))
        finally:
            os.close(before)


def _enter(namespace: Path) -> None:
    descriptor = os.open(namespace, os.O_RDONLY)
    try:
        if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(namespace))
    finally:
        os.close(descriptor)


def processes_in(name: str) -> list[psutil.Process]:
    """All that runs in the namespace, but for this process."""
    wanted = (_NETNS / name).stat().st_ino
    found = []
    for pid in psutil.pids():
        with contextlib.suppress(OSError, psutil.Error):  # it has just ended
            if pid != os.getpid() and Path(f"/proc/{pid}/ns/net").stat().st_ino == wanted:
                process = psutil.Process(pid)
                if process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
    return found


def kill_all_in(name: str) -> None:
    """SIGKILL for every process of the namespace, and for what they start meanwhile."""
    deadline = time.monotonic() + _GONE_S
    while found := processes_in(name):
        assert time.monotonic() < deadline, f"do not die: {found}"
        for process in found:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(found, timeout=1)


def remove(name: str) -> None:
    kill_all_in(name)
    ip("netns", "delete", name)


def remove_leftovers() -> None:
    """Removes what runs left that were killed themselves."""
    if not _NETNS.exists():
        return
    for path in sorted(_NETNS.iterdir()):
        found = _OURS.fullmatch(path.name)
        if found and not psutil.pid_exists(int(found[1])):
            remove(path.name)
    for folder in Path("/tmp").glob("myhosts-*"):
        found = _OURS.fullmatch(folder.name)
        if found and not psutil.pid_exists(int(found[1])):
            shutil.rmtree(folder, ignore_errors=True)


class Network:
    """The bridge between the hosts. ``connect`` makes a host's namespace and its cable."""

    def __init__(self) -> None:
        require()
        remove_leftovers()
        self._stem = f"myhosts-{os.getpid()}-{next(_serials)}"
        self._bridge = Namespace(f"{self._stem}b")
        self._hosts: list[Namespace] = []
        self._bridge.ip("link", "add", "bridge", "type", "bridge")
        self._bridge.ip("link", "set", "bridge", "up")

    def connect(self, number: int) -> Namespace:
        """The host with the address ``SUBNET.number``."""
        host = Namespace(f"{self._stem}h{number}")
        self._hosts.append(host)
        cable = f"cable{number}"
        self._bridge.ip(
            *("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", host.name)
        )
        self._bridge.ip("link", "set", cable, "master", "bridge")
        self._bridge.ip("link", "set", cable, "up")
        host.ip("address", "add", f"{SUBNET}.{number}/24", "dev", "eth0")
        host.ip("link", "set", "eth0", "up")
        # It leads nowhere. Programs find out with it which address of theirs faces the others.
        host.ip("route", "add", "default", "dev", "eth0")
        return host

    def cut(self, number: int) -> None:
        """Nothing goes to the host or comes from it, and no connection of its is told so."""
        self._bridge.ip("link", "set", f"cable{number}", "nomaster")

    def heal(self, number: int) -> None:
        self._bridge.ip("link", "set", f"cable{number}", "master", "bridge")

    def bytes_from(self, number: int) -> int:
        """How many bytes have come over the host's cable, sent by it."""
        (link,) = json.loads(self._bridge.ip("-j", "-s", "link", "show", f"cable{number}"))
        return link["stats64"]["rx"]["bytes"]

    def close(self) -> None:
        for namespace in [*self._hosts, self._bridge]:
            remove(namespace.name)
