"""One machine's workers: a detached supervisor process for each, found again by its folder.

The same code on every backend: `local` calls it in its own process, Ray's agents on their nodes.
It holds no state of its own that matters: everything is in the workers' folders, so a second
instance (a restarted controller, the gateway reading logs) sees the same.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping

import msgspec

from pipelines.cluster.base import ClusterError, Observation, Sighting
from pipelines.cluster.inventory import Inventory
from pipelines.cluster.processes import end_tree
from pipelines.cluster.workerdir import (
    ENDED_FOLDER,
    LaunchFile,
    StateFile,
    WorkerDir,
    worker_folders,
)
from pipelines.runtimes import Runtimes
from registry.settings import Settings
from registry.state import ENDED_PHASES, Device, NodeReport, Phase, Worker

# A supervisor writes its first report at once; without one after this long it never started.
FIRST_REPORT_S = 20.0
ENDED_KEPT = 50
# Of a look: a machine that says nothing for long is held to be lost. The next look goes on.
ORPHANS_S_MAX = 0.3


class Machine:
    """*address* is where its workers listen. *environ* is what its supervisors get; None: ours.

    With *background*, supervisors leave our process tree: Ray kills the children of an actor that
    ends. Else they stay our children, which we reap.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        address: str,
        environ: Mapping[str, str] | None = None,
        background: bool = False,
    ) -> None:
        self._settings = settings
        self._address = address
        self._environ = environ
        self._background = background
        self._runtimes = Runtimes(settings.runtimes)
        self._inventory = Inventory(settings)
        self._children: list[subprocess.Popen[bytes]] = []  # ours to reap

    @property
    def name(self) -> str:
        return self._settings.node_name

    def report(self) -> NodeReport:
        report = self._inventory.report(self._runtimes.installed())
        return msgspec.structs.replace(report, address=self._address)

    def start(self, worker: Worker, devices: tuple[Device, ...]) -> None:
        """Once only, however often it is asked. Raises ClusterError."""
        folder = self.folder(worker.id)
        if folder.path.exists() and (folder.supervised() or folder.state() is not None):
            return
        command = [sys.executable, "-m", "pipelines.cluster.supervisor", str(folder.path)]
        if self._background:
            command.append("--background")
        try:
            folder.create(self._launch_file(worker, devices))
            with (folder.path / "supervisor.log").open("ab") as output:
                child = subprocess.Popen(  # noqa: S603 (no shell, our module)
                    command,
                    env=self._environ,
                    cwd=folder.path,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
        except OSError as error:
            raise ClusterError(f"the supervisor of {worker.id} could not start: {error}") from None
        if self._background:
            child.wait()  # it ends as soon as the real one runs
        else:
            self._children.append(child)

    def _launch_file(self, worker: Worker, devices: tuple[Device, ...]) -> LaunchFile:
        plan = worker.plan
        claims = {device.id: plan.memory_bytes or device.memory_bytes for device in devices}
        # An engine takes one share of all its devices: the least, so that it keeps every claim.
        least = min(devices, key=lambda d: (claims[d.id] / d.memory_bytes, d.memory_bytes))
        return LaunchFile(
            worker_id=worker.id,
            model=plan.model,
            role=plan.role,
            engine=plan.engine,
            runtime=worker.runtime,
            source=plan.source,
            transfer=plan.transfer,
            host=self._address,
            token=worker.token,
            device_kind=devices[0].kind,
            device_indexes=tuple(device.index for device in devices),
            device_uuids=tuple(device.uuid for device in devices if device.uuid),
            claims=claims,
            memory_bytes=claims[least.id],
            device_memory_bytes=least.memory_bytes,
            tensor_parallel=plan.tensor_parallel,
            pipeline_parallel=plan.pipeline_parallel,
            args=plan.args,
            kv_events=plan.kv_events,
            task=plan.task,
            sleeps=plan.sleeps,
            runtimes_dir=str(self._settings.runtimes),
            models_dir=str(self._settings.models),
        )

    def lives(self, worker_id: str) -> bool:
        """Whether its supervisor runs, or may be about to."""
        folder = self.folder(worker_id)
        if not folder.path.exists():
            return False
        return folder.supervised() or (folder.state() is None and self._is_fresh(folder))

    def stop(self, worker_id: str) -> None:
        folder = self.folder(worker_id)
        state = folder.state() if folder.path.exists() else None
        if state is None or state.phase in ENDED_PHASES or not folder.supervised():
            return  # `observe` ends what a dead supervisor left behind
        try:
            os.kill(state.supervisor_pid, signal.SIGTERM)
        except ProcessLookupError:
            return

    def observe(self) -> Sighting:
        self._children = [child for child in self._children if child.poll() is None]
        seen = (self._observe_one(folder) for folder in worker_folders(self._settings.workers))
        return Sighting(
            nodes=frozenset((self.name,)), workers=tuple(one for one in seen if one is not None)
        )

    def _observe_one(self, folder: WorkerDir) -> Observation | None:
        supervised = folder.supervised()
        state = folder.state()
        if state is None:
            if supervised or self._is_fresh(folder):
                return None
            state = self._record_never_started(folder)
        if not supervised and state.phase not in ENDED_PHASES:
            state = self._end_orphans(folder, state)
        return Observation(
            worker_id=folder.worker_id,
            node=self.name,
            phase=state.phase,
            reason=state.reason,
            url=state.url,
            events_url=state.events_url,
            kv_port=state.kv_port,
        )

    def _is_fresh(self, folder: WorkerDir) -> bool:
        return time.time() - folder.path.stat().st_mtime < FIRST_REPORT_S

    def _record_never_started(self, folder: WorkerDir) -> StateFile:
        state = StateFile(
            phase=Phase.FAILED, reason="its supervisor never started", supervisor_pid=0
        )
        folder.write_state(state)
        return state

    def _end_orphans(self, folder: WorkerDir, state: StateFile) -> StateFile:
        """The supervisor was killed: whatever it left still holds memory and must go."""
        left = end_tree(
            folder.worker_id,
            state.session_id,
            grace_s=0.0,
            descendants_too=False,
            kill_timeout_s=ORPHANS_S_MAX,
        )
        ended = StateFile(
            phase=Phase.STOPPING if left else Phase.FAILED,
            reason=f"processes {left} do not die" if left else "its supervisor was killed",
            url=state.url,
            supervisor_pid=state.supervisor_pid,
            session_id=state.session_id,
        )
        folder.write_state(ended)
        return ended

    def forget(self, worker_id: str) -> None:
        folder = self.folder(worker_id)
        # A worker that slept without a process may have been started again since it was asked.
        if not folder.path.exists() or self.lives(worker_id):
            return
        folder.forget_launch()  # it carries the engine's key
        ended = self._settings.workers / ENDED_FOLDER
        ended.mkdir(exist_ok=True)
        if (ended / worker_id).exists():
            state = folder.state()
            if state is None or not state.supervisor_pid:
                # A look at its lock has made the folder anew since.
                shutil.rmtree(folder.path, ignore_errors=True)
                return
            shutil.rmtree(ended / worker_id, ignore_errors=True)  # from before it slept
        folder.path.replace(ended / worker_id)
        oldest_first = sorted(ended.iterdir(), key=lambda path: path.stat().st_mtime)
        for path in oldest_first[:-ENDED_KEPT]:
            shutil.rmtree(path, ignore_errors=True)

    def logged(self, worker_id: str) -> WorkerDir:
        """The folder with a worker's log, also of one that has ended. Raises ClusterError."""
        for path in (
            self.folder(worker_id).path,
            self._settings.workers / ENDED_FOLDER / worker_id,
        ):
            if path.is_dir():
                return WorkerDir(path)
        raise ClusterError(f"no log of worker {worker_id} on node {self.name}")

    def folder(self, worker_id: str) -> WorkerDir:
        assert "/" not in worker_id, worker_id
        assert not worker_id.startswith("."), worker_id
        return WorkerDir(self._settings.workers / worker_id)
