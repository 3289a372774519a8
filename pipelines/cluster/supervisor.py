"""The supervisor: one small process that owns one worker's process tree.

    python -m pipelines.cluster.supervisor <worker folder> [--background]

It makes the weights ready, starts the engine in a session of its own, keeps its log within bounds
and reports into state.json. SIGTERM ends the whole tree. It outlives the controller on purpose;
it never restarts an engine: that is the reconciler's decision.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

import msgspec
import structlog
from filelock import Timeout

from pipelines.cluster.linux import become_subreaper, free_ports
from pipelines.cluster.processes import WORKER_MARK, end_tree
from pipelines.cluster.workerdir import LaunchFile, StateFile, WorkerDir
from pipelines.engines import ENGINES
from pipelines.engines.base import Launch
from pipelines.runtimes import Runtimes, RuntimeUnavailableError
from pipelines.weights import Weights, WeightsError, ensure_weights
from registry.settings import PREFIX
from registry.state import DeviceKind, Phase

log = structlog.get_logger()

GRACE_S = 10.0
LOG_BYTES_MAX = 32 * 1024 * 1024
# Engines on CPUs compete with the gateway for the same cores; KV transfer threads spin.
CPU_ENGINE_NICENESS = 5
LOCK_WAIT_S = 2.0
_POLL_S = 0.2


class _StopAskedError(BaseException):
    """SIGTERM arrived. Not an Exception, so that no handler on the way swallows it."""


class Supervisor:
    """Runs one worker from its launch file to its end."""

    def __init__(self, folder: WorkerDir) -> None:
        self._folder = folder
        self._launch = folder.launch()
        self._state = StateFile(phase=Phase.PREPARING, supervisor_pid=os.getpid())
        self._engine: subprocess.Popen[bytes] | None = None
        self._exit_code: int | None = None

    def run(self) -> None:
        signal.signal(signal.SIGTERM, _raise_stop)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        become_subreaper()
        try:
            self._report(Phase.PREPARING, "preparing")
            self._start(self._prepare())
            self._watch()
        except _StopAskedError:
            self._end(Phase.STOPPED, "stopped as asked")
        except (RuntimeUnavailableError, WeightsError, OSError) as error:
            self._end(Phase.FAILED, str(error))

    def _prepare(self) -> Weights:
        launch = self._launch
        python = Runtimes(Path(launch.runtimes_dir)).python(launch.runtime)
        if not ENGINES[launch.engine].needs_weights:
            return Weights(path="", revision="")
        return ensure_weights(
            launch.source,
            python=python,
            models_dir=Path(launch.models_dir),
            progress=lambda text: self._report(Phase.PREPARING, text),
        )

    def _start(self, weights: Weights) -> None:
        launch = self._launch
        port, kv_port = free_ports(launch.host, launch.worker_id, 2)
        events_url = self._folder.events_url() if launch.kv_events else ""
        resolved = _resolve(launch, weights, port, kv_port, events_url)
        command = ENGINES[launch.engine].command(resolved)
        python = Runtimes(Path(launch.runtimes_dir)).python(launch.runtime)
        with self._folder.log.open("ab") as output:
            self._engine = subprocess.Popen(  # noqa: S603 (argv is built by the adapter)
                [python, *command.argv],
                env={**_base_environment(), **command.env, WORKER_MARK: launch.worker_id},
                cwd=self._folder.path,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        if launch.device_kind is DeviceKind.CPU:
            os.setpriority(os.PRIO_PROCESS, self._engine.pid, CPU_ENGINE_NICENESS)
        url = f"http://{launch.host}:{port}"
        self._state = msgspec.structs.replace(
            self._state, url=url, events_url=events_url, kv_port=kv_port
        )
        self._report(Phase.STARTING, "the engine starts")

    def _watch(self) -> None:
        assert self._engine is not None
        while self._exit_code is None:
            time.sleep(_POLL_S)
            self._reap()
            self._bound_log()
        self._end(Phase.FAILED, f"the engine {_how(self._exit_code)}: {self._last_log_line()}")

    def _end(self, phase: Phase, reason: str) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        grace_s = GRACE_S if phase is Phase.STOPPED else 0.0
        self._report(Phase.STOPPING, reason)
        while left := end_tree(
            self._launch.worker_id,
            self._session_id,
            grace_s=grace_s,
            descendants_too=True,
            reap=self._reap,
        ):
            # The claim must stay held: these processes still have its memory.
            self._report(Phase.STOPPING, f"processes {left} do not die")
        self._report(phase, reason)

    @property
    def _session_id(self) -> int | None:
        return self._engine.pid if self._engine else None

    def _report(self, phase: Phase, reason: str) -> None:
        self._state = msgspec.structs.replace(
            self._state, phase=phase, reason=reason[:500], session_id=self._session_id
        )
        self._folder.write_state(self._state)
        log.info("worker", worker=self._launch.worker_id, phase=phase, reason=reason)

    def _reap(self) -> None:
        """Collects every child that ended: as a subreaper we also inherit the engine's orphans."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if self._engine is not None and pid == self._engine.pid:
                self._exit_code = os.waitstatus_to_exitcode(status)
                self._engine.returncode = self._exit_code

    def _bound_log(self) -> None:
        """The engine appends, so after the copy it simply goes on at the file's new beginning."""
        path = self._folder.log
        if path.stat().st_size > LOG_BYTES_MAX:
            self._folder.older_log.write_bytes(path.read_bytes())
            os.truncate(path, 0)

    def _last_log_line(self) -> str:
        with self._folder.log.open("rb") as file:
            file.seek(max(0, self._folder.log.stat().st_size - 4096))
            lines = file.read().decode(errors="replace").strip().splitlines()
        return lines[-1][-300:] if lines else "it printed nothing"


def _resolve(
    launch: LaunchFile, weights: Weights, port: int, kv_port: int, events_url: str
) -> Launch:
    return Launch(
        worker_id=launch.worker_id,
        model=launch.model,
        model_path=weights.path,
        model_revision=weights.revision,
        role=launch.role,
        transfer=launch.transfer,
        host=launch.host,
        port=port,
        kv_port=kv_port,
        events_url=events_url,
        token=launch.token,
        device_kind=launch.device_kind,
        device_indexes=launch.device_indexes,
        device_uuids=launch.device_uuids,
        memory_bytes=launch.memory_bytes,
        device_memory_bytes=launch.device_memory_bytes,
        tensor_parallel=launch.tensor_parallel,
        pipeline_parallel=launch.pipeline_parallel,
        args=launch.args,
        task=launch.task,
        sleeps=launch.sleeps,
    )


def _base_environment() -> dict[str, str]:
    """Ours without what is Modelyard's own: its variables may hold keys."""
    return {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}


def _how(exit_code: int) -> str:
    if exit_code < 0:
        return f"was killed by {signal.Signals(-exit_code).name}"
    return f"exited with code {exit_code}"


def _raise_stop(number: int, frame: FrameType | None) -> None:
    del number, frame
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise _StopAskedError


def _leave_for_background() -> None:
    """Into a session of its own under init, so that nobody counts us among his children."""
    if os.fork():
        os._exit(0)
    os.setsid()


def main() -> None:
    folder = WorkerDir(Path(sys.argv[1]))
    if "--background" in sys.argv[2:]:
        _leave_for_background()
    lock = folder.lock()
    try:
        # Who asks whether this worker is supervised holds the lock for a moment.
        lock.acquire(timeout=LOCK_WAIT_S)
    except Timeout:
        return  # this worker already has its supervisor
    with lock:
        Supervisor(folder).run()


if __name__ == "__main__":
    main()
