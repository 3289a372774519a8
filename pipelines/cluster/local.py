"""The `local` backend: this machine, one detached supervisor process per worker.

It holds no state of its own that matters: everything is in the workers' folders, so a second
instance (a restarted controller, the gateway reading logs) sees the same.
"""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator

import structlog

from pipelines.cluster.base import ClusterError, Observation, Sighting
from pipelines.cluster.inventory import Inventory
from pipelines.cluster.logtail import follow_log, tail_log
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

log = structlog.get_logger()

# A supervisor writes its first report at once; without one after this long it never started.
FIRST_REPORT_S = 20.0
ENDED_KEPT = 50


class LocalCluster:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._runtimes = Runtimes(settings.runtimes)
        self._inventory = Inventory(settings)
        self._supervisors: dict[str, subprocess.Popen[bytes]] = {}  # ours to reap

    async def aclose(self) -> None:
        """Nothing is held."""

    async def inventory(self) -> tuple[NodeReport, ...]:
        return (await asyncio.to_thread(self._report),)

    def _report(self) -> NodeReport:
        return self._inventory.report(self._runtimes.installed())

    async def start(self, worker: Worker, devices: tuple[Device, ...]) -> None:
        await asyncio.to_thread(self._start, worker, devices)

    def _start(self, worker: Worker, devices: tuple[Device, ...]) -> None:
        folder = self._folder(worker.id)
        if folder.path.exists() and (folder.supervised() or folder.state() is not None):
            return
        folder.create(self._launch_file(worker, devices))
        command = [sys.executable, "-m", "pipelines.cluster.supervisor", str(folder.path)]
        try:
            with (folder.path / "supervisor.log").open("ab") as output:
                self._supervisors[worker.id] = subprocess.Popen(  # noqa: S603 (no shell, our module)
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
        except OSError as error:
            raise ClusterError(f"the supervisor of {worker.id} could not start: {error}") from None

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
            host="127.0.0.1",
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
            runtimes_dir=str(self._settings.runtimes),
            models_dir=str(self._settings.models),
        )

    async def stop(self, node: str, worker_id: str) -> None:
        assert node == self._settings.node_name, node
        await asyncio.to_thread(self._stop, worker_id)

    def _stop(self, worker_id: str) -> None:
        folder = self._folder(worker_id)
        state = folder.state() if folder.path.exists() else None
        if state is None or state.phase in ENDED_PHASES or not folder.supervised():
            return  # `observe` ends what a dead supervisor left behind
        try:
            os.kill(state.supervisor_pid, signal.SIGTERM)
        except ProcessLookupError:
            return

    async def observe(self) -> Sighting:
        workers = await asyncio.to_thread(lambda: tuple(self._observe()))
        return Sighting(nodes=frozenset((self._settings.node_name,)), workers=workers)

    def _observe(self) -> Iterator[Observation]:
        for folder in worker_folders(self._settings.workers):
            if observation := self._observe_one(folder):
                yield observation

    def _observe_one(self, folder: WorkerDir) -> Observation | None:
        supervised = folder.supervised()
        state = folder.state()
        if state is None:
            if supervised or self._is_fresh(folder):
                return None
            state = self._record_never_started(folder)
        if not supervised and state.phase not in ENDED_PHASES:
            state = self._end_orphans(folder, state)
        if not supervised and (popen := self._supervisors.pop(folder.worker_id, None)):
            popen.wait()
        return Observation(
            worker_id=folder.worker_id,
            node=self._settings.node_name,
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
        left = end_tree(folder.worker_id, state.session_id, grace_s=0.0, descendants_too=False)
        ended = StateFile(
            phase=Phase.STOPPING if left else Phase.FAILED,
            reason=f"processes {left} do not die" if left else "its supervisor was killed",
            url=state.url,
            supervisor_pid=state.supervisor_pid,
            session_id=state.session_id,
        )
        folder.write_state(ended)
        return ended

    async def forget(self, node: str, worker_id: str) -> None:
        assert node == self._settings.node_name, node
        await asyncio.to_thread(self._forget, worker_id)

    def _forget(self, worker_id: str) -> None:
        folder = self._folder(worker_id)
        if not folder.path.exists():
            return
        folder.forget_launch()  # it carries the engine's key
        ended = self._settings.workers / ENDED_FOLDER
        ended.mkdir(exist_ok=True)
        folder.path.replace(ended / worker_id)
        oldest_first = sorted(ended.iterdir(), key=lambda path: path.stat().st_mtime)
        for path in oldest_first[:-ENDED_KEPT]:
            shutil.rmtree(path, ignore_errors=True)

    async def logs(
        self, node: str, worker_id: str, *, tail_lines: int, follow: bool
    ) -> AsyncIterator[bytes]:
        del node  # a log that was left here is worth reading, whatever the node is called now
        folder = self._find(worker_id)
        yield await asyncio.to_thread(tail_log, folder, tail_lines)
        if follow:
            async for chunk in follow_log(folder):
                yield chunk

    def _find(self, worker_id: str) -> WorkerDir:
        for path in (
            self._settings.workers / worker_id,
            self._settings.workers / ENDED_FOLDER / worker_id,
        ):
            if path.is_dir():
                return WorkerDir(path)
        raise ClusterError(f"no log of worker {worker_id} on this node")

    def _folder(self, worker_id: str) -> WorkerDir:
        assert "/" not in worker_id, worker_id
        assert not worker_id.startswith("."), worker_id
        return WorkerDir(self._settings.workers / worker_id)
