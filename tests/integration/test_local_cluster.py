"""The `local` backend with a real supervisor: what it is asked to start, and what it reports."""

import asyncio
import os
import stat
from pathlib import Path

import msgspec
import pytest
from fleets import a_worker
from registry_world import device, planned

from pipelines.cluster import machine, processes
from pipelines.cluster.local import LocalCluster
from pipelines.cluster.workerdir import (
    SOCKET_PATH_BYTES_MAX,
    StateFile,
    WorkerDir,
    worker_folders,
)
from registry.settings import load
from registry.state import Phase, Worker


def an_order(*, kv_events: bool) -> Worker:
    plan = msgspec.structs.replace(planned().plan, kv_events=kv_events)
    return a_worker(
        plan, Phase.ASSIGNED, id=f"w-{kv_events}", node="n", url="", token="worker-token"
    )


async def seen(cluster: LocalCluster, phase: Phase):
    async with asyncio.timeout(60):
        while True:
            observed = (await cluster.observe()).workers
            if [observation.phase for observation in observed] == [phase, phase]:
                return observed
            await asyncio.sleep(0.05)


async def stop(cluster: LocalCluster, workers: list[Worker]):
    """Until their supervisors are gone: one that has not reported yet cannot be stopped yet."""
    async with asyncio.timeout(60):
        while cluster._machine._children:
            for worker in workers:
                await cluster.stop("local", worker.id)
            await cluster.observe()
            await asyncio.sleep(0.1)


async def test_a_worker_with_kv_events_has_an_address_for_them_that_is_its_own(tmp_path: Path):
    cluster = LocalCluster(load({"MODELYARD_HOME": str(tmp_path)}))
    workers = [an_order(kv_events=kv_events) for kv_events in (False, True)]
    try:
        for worker in workers:
            await cluster.start(worker, (device(memory_bytes=2**28),))
        without, with_events = await seen(cluster, Phase.STARTING)
    finally:
        await stop(cluster, workers)
    folder = tmp_path / "workers" / "w-True"
    assert with_events.events_url == f"ipc://{folder}/kv-events"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700, "others could read prompts there"
    assert (without.events_url, without.url != "") == ("", True)
    ports = {int(without.url.rpartition(":")[2]), without.kv_port}
    assert len(ports - {0}) == 2, "a port of its own, where its KV is handed over"
    ended = await seen(cluster, Phase.STOPPED)
    assert [observation.events_url for observation in ended] == ["", with_events.events_url]


def test_a_path_that_is_too_long_for_a_socket_is_refused_with_the_way_out(tmp_path: Path):
    fits = WorkerDir(tmp_path / "x")
    assert fits.events_url().startswith("ipc:///")
    longest = tmp_path / ("x" * (SOCKET_PATH_BYTES_MAX - len(f"{tmp_path}//kv-events")))
    assert len(WorkerDir(longest).events_url()) == len("ipc://") + SOCKET_PATH_BYTES_MAX
    with pytest.raises(OSError, match="choose a shorter MODELYARD_HOME"):
        WorkerDir(longest.with_name(longest.name + "x")).events_url()


async def test_a_worker_that_is_forgotten_while_it_is_looked_at_is_forgotten_for_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The look at its lock makes its folder anew, which must not be in the way for ever."""
    cluster = LocalCluster(load({"MODELYARD_HOME": str(tmp_path)}))
    folder = WorkerDir(tmp_path / "workers" / "w")
    folder.path.mkdir(parents=True)
    folder.write_state(StateFile(phase=Phase.STOPPED, reason="drained", supervisor_pid=0))
    found = list(worker_folders(tmp_path / "workers"))
    await cluster.forget("local", "w")
    monkeypatch.setattr(machine, "worker_folders", lambda _root: found)
    monkeypatch.setattr(machine, "FIRST_REPORT_S", 0.0)
    assert (await cluster.observe()).workers, "it is there again"

    await cluster.forget("local", "w")

    assert not folder.path.exists()
    kept = WorkerDir(tmp_path / "workers" / "ended" / "w").state()
    assert kept is not None
    assert kept.reason == "drained"


async def test_a_worker_that_slept_leaves_the_log_of_its_last_time_and_one_that_runs_is_kept(
    tmp_path: Path,
):
    cluster = LocalCluster(load({"MODELYARD_HOME": str(tmp_path)}))
    folder = WorkerDir(tmp_path / "workers" / "w")
    for turn in ("first", "second"):
        folder.path.mkdir(parents=True)
        folder.log.write_text(turn)
        folder.write_state(StateFile(phase=Phase.STOPPED, reason="", supervisor_pid=1))
        with folder.lock():
            await cluster.forget("local", "w")
            assert folder.path.exists(), "a supervisor runs: it was started again since"
        await cluster.forget("local", "w")
        assert not folder.path.exists()
    assert WorkerDir(tmp_path / "workers" / "ended" / "w").log.read_text() == "second"


async def test_orphans_that_do_not_die_hold_no_look_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    settings = load({"MODELYARD_HOME": str(tmp_path)})
    for name in ("w-1", "w-2"):
        folder = WorkerDir(settings.workers / name)
        folder.path.mkdir(parents=True)
        folder.write_state(StateFile(phase=Phase.STARTING, supervisor_pid=2**22))
    monkeypatch.setattr(processes, "_signal", lambda _pid, _number: None)
    environment = {**os.environ, processes.WORKER_MARK: "w-1"}
    orphan = await asyncio.create_subprocess_exec("sleep", "60", env=environment)
    try:
        cluster = LocalCluster(settings)
        async with asyncio.timeout(5):  # whoever says nothing for so long may be lost
            workers = (await cluster.observe()).workers
        assert [worker.phase for worker in workers] == [Phase.STOPPING, Phase.FAILED]
    finally:
        orphan.kill()
        await orphan.wait()
    workers = (await cluster.observe()).workers
    assert [worker.phase for worker in workers] == [Phase.FAILED, Phase.FAILED]
