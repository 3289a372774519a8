"""Finds and ends every process of a worker, whatever its parents did.

A killed vLLM front end leaves its EngineCore and Worker behind, holding memory and answering KV
reads with stale content; so a worker's end is only an end once nothing of it is left. Three marks
find a process: it is in the engine's session, it carries the worker's id in its environment, or
(for the supervisor, which asks for itself) it descends from the caller.
"""

import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil

WORKER_MARK = "MODELYARD_WORKER_ID"


def worker_processes(
    worker_id: str, session_id: int | None, *, descendants_too: bool
) -> list[psutil.Process]:
    """The living processes of a worker, without the caller and its ancestors."""
    me = psutil.Process()
    own = {me.pid, *(parent.pid for parent in me.parents())}
    descendants = {child.pid for child in me.children(recursive=True)} if descendants_too else set()
    mark = f"{WORKER_MARK}={worker_id}".encode()
    return [
        process
        for process in psutil.process_iter(["status"])
        if process.pid not in own
        and process.info["status"] != psutil.STATUS_ZOMBIE
        and (
            process.pid in descendants
            or _session(process.pid) == session_id
            or mark in _environment(process.pid)
        )
    ]


class WorkerProcesses:
    """Tells whose processes are those of workers: their ids with the engines' *sessions*, where
    there is one. A supervisor computes nothing, so descent from one is no mark here.
    """

    def __init__(self, sessions: Mapping[str, int | None]) -> None:
        self._sessions = {session for session in sessions.values() if session is not None}
        self._marks = {f"{WORKER_MARK}={worker_id}".encode() for worker_id in sessions}

    def include(self, pid: int) -> bool:
        return _session(pid) in self._sessions or not self._marks.isdisjoint(_environment(pid))


def process_name(pid: int) -> str:
    """Its program's; "" where there is none. Never its command line: there are keys in some."""
    try:
        return Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    except OSError:
        return ""


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:
        return -1


def _environment(pid: int) -> list[bytes]:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123 (hot over all of /proc)
            return file.read().split(b"\0")
    except OSError:
        return []


def end_tree(
    worker_id: str,
    session_id: int | None,
    *,
    grace_s: float,
    descendants_too: bool,
    reap: Callable[[], None] = lambda: None,
    kill_timeout_s: float = 15.0,
) -> list[int]:
    """SIGTERM to the engine's first process, then SIGKILL to all. Returns the ids that still
    live (uninterruptible ones); [] means that everything is gone. *reap* collects zombies.
    """

    def living() -> list[psutil.Process]:
        reap()
        return worker_processes(worker_id, session_id, descendants_too=descendants_too)

    deadline = time.monotonic() + grace_s
    if session_id is not None and grace_s > 0 and _session(session_id) == session_id:
        _signal(session_id, signal.SIGTERM)
    while time.monotonic() < deadline:
        if not living():
            return []
        time.sleep(0.1)
    deadline = time.monotonic() + kill_timeout_s
    while True:
        left = living()
        for process in left:
            _signal(process.pid, signal.SIGKILL)
        if not left or time.monotonic() > deadline:
            return [process.pid for process in left]
        time.sleep(0.1)


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return
