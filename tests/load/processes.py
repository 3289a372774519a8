"""Processes of a benchmark: started, found, measured by the kernel's own figures, and ended."""

import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

PROC = Path("/proc")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_END_S = 10.0
# In /proc/PID/stat, counted from the field after the command's name.
_PARENT, _UTIME, _CUTIME_END, _RSS = 1, 11, 15, 21


def raise_file_limit() -> None:
    """Thousands of streams are thousands of descriptors, here and in what is started here."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def running(
    command: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen]:
    """The command's process; at the end it is asked to go, and made to go."""
    with log.open("ab") as out:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def module(name: str, *arguments: object) -> list[str]:
    """The command that runs one of this package's modules."""
    return [sys.executable, "-m", f"load.{name}", *map(str, arguments)]


def _stat(pid: int, proc: Path) -> list[str]:
    """The fields after the command's name, which may hold spaces and brackets itself."""
    return (proc / str(pid) / "stat").read_text().rpartition(")")[2].split()


def tree(root: int, proc: Path = PROC) -> dict[int, list[str]]:
    """The stat of *root* and of all that descends from it."""
    stats = {}
    for entry in proc.iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # it ended meanwhile
                stats[int(entry.name)] = _stat(int(entry.name), proc)
    inside = {root}
    grown = True
    while grown:
        more = {pid for pid, stat in stats.items() if int(stat[_PARENT]) in inside} - inside
        inside |= more
        grown = bool(more)
    return {pid: stats[pid] for pid in inside if pid in stats}


def cpu_s(root: int, proc: Path = PROC) -> float:
    """User and system time of the tree: all threads, and the children that were waited for."""
    ticks = sum(
        int(field) for stat in tree(root, proc).values() for field in stat[_UTIME:_CUTIME_END]
    )
    return ticks / _TICKS_PER_S


def rss_bytes(root: int, proc: Path = PROC) -> int:
    """Resident memory of the tree; pages shared between its processes count in each."""
    return sum(int(stat[_RSS]) for stat in tree(root, proc).values()) * _PAGE_BYTES


def queued_s(pid: int, proc: Path = PROC) -> float:
    """How long the process's main thread was ready to run and had no core: the machine's fault."""
    return int((proc / str(pid) / "schedstat").read_text().split()[1]) / 1e9
