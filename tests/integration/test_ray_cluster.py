"""The `ray` backend on a real Ray cluster of one node: workers outlive everything of Ray's."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import psutil
import pytest
from fleets import a_worker
from ray_node import RayNode
from registry_world import device, planned
from yard import is_alive

from pipelines.cluster.base import ClusterError, Observation
from pipelines.cluster.ray.cluster import RayCluster
from pipelines.cluster.workerdir import WorkerDir
from registry.state import Phase, Worker


@pytest.fixture
def node(tmp_path: Path) -> Iterator[RayNode]:
    node = RayNode(
        MODELYARD_HOME=str(tmp_path), MODELYARD_NODE_NAME="n1", CUDA_VISIBLE_DEVICES="3,4"
    )
    try:
        node.start()
        yield node
    finally:
        node.remove()


@pytest.fixture
async def cluster(node: RayNode) -> AsyncIterator[RayCluster]:
    cluster = RayCluster(node.address)
    yield cluster
    await cluster.aclose()


def an_order() -> Worker:
    return a_worker(
        planned().plan, Phase.ASSIGNED, id="w-1", node="n1", url="", token="worker-token"
    )


async def seen(cluster: RayCluster, phase: Phase) -> Observation:
    async with asyncio.timeout(40):
        while True:
            try:
                for one in (await cluster.observe()).workers:
                    if one.phase is phase:
                        return one
            except ClusterError:
                pass
            await asyncio.sleep(0.1)


async def until(what: Callable[[], object]) -> None:
    async with asyncio.timeout(40):
        while True:
            if what():
                return
            await asyncio.sleep(0.1)


@pytest.mark.timeout(240)  # Ray starts twice
async def test_a_worker_outlives_its_agent_its_keeper_and_ray_itself(
    node: RayNode, cluster: RayCluster, tmp_path: Path
):
    (report,) = await cluster.inventory()
    assert (report.name, report.labels["zone"]) == ("n1", "a")
    worker, folder = an_order(), WorkerDir(tmp_path / "workers" / "w-1")
    await cluster.start(worker, (device(memory_bytes=2**28),))
    await cluster.start(worker, (device(memory_bytes=2**28),))  # asked twice, done once
    first = await seen(cluster, Phase.STARTING)
    assert first.url.startswith(f"http://{report.address}:")
    engine = psutil.Process(folder.state().session_id)
    try:
        environ = engine.environ()
        assert not [name for name in environ if name.startswith("RAY_")]
        assert environ["CUDA_VISIBLE_DEVICES"] == "3,4", "the node's own, not Ray's"
        assert "OMP_NUM_THREADS" not in environ

        (agent,) = node.processes("ray::NodeAgent")
        (keeper,) = node.processes("ray::WorkerKeeper")
        agent.kill()
        keeper.terminate()  # Ray then ends what are the children of an actor
        await until(lambda: not is_alive(agent))
        assert await seen(cluster, Phase.STARTING) == first
        await until(lambda: node.processes("ray::WorkerKeeper"))

        node.kill()
        with pytest.raises(ClusterError):
            await cluster.observe()
        assert is_alive(engine)
        node.start()
        assert await seen(cluster, Phase.STARTING) == first
        await until(lambda: node.processes("ray::WorkerKeeper"))
        assert (is_alive(engine), folder.state().session_id) == (True, engine.pid)

        log = cluster.logs("n1", "w-1", tail_lines=5, follow=True)
        assert isinstance(await anext(log), bytes)
        await cluster.stop("n1", "w-1")
        assert (await seen(cluster, Phase.STOPPED)).reason == "stopped as asked"
        async with asyncio.timeout(10):
            async for _ in log:
                """It ends with the worker."""
        await cluster.forget("n1", "w-1")
        assert (await cluster.observe()).workers == ()
        await until(lambda: not node.processes("ray::WorkerKeeper"))
    finally:
        if is_alive(engine):  # the test failed: its supervisor ends the tree
            psutil.Process(folder.state().supervisor_pid).terminate()
            engine.wait(20)


async def test_where_there_is_no_cluster_it_is_said_soon():
    cluster = RayCluster("127.0.0.1:9")
    async with asyncio.timeout(20):
        with pytest.raises(ClusterError, match=r"no Ray cluster at 127\.0\.0\.1:9"):
            await cluster.observe()
    await cluster.aclose()
