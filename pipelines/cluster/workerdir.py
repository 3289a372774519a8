"""A worker's folder on its node: what the backend wrote, what the supervisor reports.

launch.json   what to start (mode 0600: it carries the engine's key)
state.json    the supervisor's report, replaced atomically
lock          held by the supervisor for as long as it lives
engine.log    the engine's output; engine.log.1 the part before
kv-events     a socket: the engine publishes there what its KV cache holds
"""

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
from filelock import FileLock, Timeout

from registry.engine_args import Arg
from registry.spec import EngineName, Role, Task
from registry.state import DeviceKind, Phase

ENDED_FOLDER = "ended"  # beside the workers': logs of those that were forgotten
SOCKET_PATH_BYTES_MAX = 107  # Linux's, without the closing zero


class LaunchFile(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the node needs to start the worker, without its own paths and ports."""

    worker_id: str
    model: str
    role: Role
    engine: EngineName
    runtime: str
    source: str
    transfer: str
    host: str
    token: str
    device_kind: DeviceKind
    device_indexes: tuple[int, ...]
    device_uuids: tuple[str, ...] = ()
    claims: dict[str, int] = {}  # bytes, by the device's id
    memory_bytes: int
    device_memory_bytes: int
    tensor_parallel: int
    pipeline_parallel: int
    args: dict[str, Arg]
    kv_events: bool = False
    task: Task = Task.GENERATE
    sleeps: bool = False
    runtimes_dir: str
    models_dir: str


class StateFile(msgspec.Struct, frozen=True, kw_only=True):
    """The supervisor's report. *session_id* is the engine's, which outlives the supervisor."""

    phase: Phase
    reason: str = ""
    url: str = ""
    events_url: str = ""
    kv_port: int = 0
    supervisor_pid: int
    session_id: int | None = None


class WorkerDir:
    """Reads and writes the files of one worker."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def worker_id(self) -> str:
        return self.path.name

    @property
    def log(self) -> Path:
        return self.path / "engine.log"

    @property
    def older_log(self) -> Path:
        return self.path / "engine.log.1"

    def events_url(self) -> str:
        """A socket and not a port: KV events carry the tokens of prompts, and any user of this
        machine could read a port. It is for gateways of this machine, as this backend is.

        Raises OSError where the path is too long for one.
        """
        socket = self.path.resolve() / "kv-events"
        if len(bytes(socket)) > SOCKET_PATH_BYTES_MAX:
            raise OSError(
                f"{socket} is too long for the socket of KV events, allowed are "
                f"{SOCKET_PATH_BYTES_MAX} bytes: choose a shorter MODELYARD_HOME"
            )
        return f"ipc://{socket}"

    def create(self, launch: LaunchFile) -> None:
        self.path.mkdir(parents=True, mode=0o700, exist_ok=True)
        self._write("launch.json", msgspec.json.encode(launch))

    def launch(self) -> LaunchFile:
        return msgspec.json.decode((self.path / "launch.json").read_bytes(), type=LaunchFile)

    def launch_or_none(self) -> LaunchFile | None:
        try:
            return self.launch()
        except FileNotFoundError:
            return None

    def forget_launch(self) -> None:
        (self.path / "launch.json").unlink(missing_ok=True)

    def write_state(self, state: StateFile) -> None:
        self._write("state.json", msgspec.json.encode(state))

    def state(self) -> StateFile | None:
        try:
            data = (self.path / "state.json").read_bytes()
        except FileNotFoundError:
            return None
        return msgspec.json.decode(data, type=StateFile)

    def lock(self) -> FileLock:
        return FileLock(self.path / "lock", timeout=0)

    def supervised(self) -> bool:
        """Whether a supervisor lives: it holds the lock, and the kernel drops it at its death."""
        lock = self.lock()
        try:
            lock.acquire()
        except Timeout:
            return True
        lock.release()
        return False

    def _write(self, name: str, data: bytes) -> None:
        temporary = self.path / f".{name}.{os.getpid()}"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        temporary.replace(self.path / name)


def worker_folders(root: Path) -> Iterator[WorkerDir]:
    """Those of workers that are not forgotten yet."""
    if not root.exists():
        return
    for path in sorted(root.iterdir()):
        if path.name != ENDED_FOLDER and path.is_dir():
            yield WorkerDir(path)
