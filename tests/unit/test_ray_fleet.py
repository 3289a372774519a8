"""Nodes of a Ray cluster as one fleet, with fakes in Ray's place."""

import asyncio
import os
import subprocess
import sys

import msgspec
import pytest

from pipelines.cluster.base import ClusterError, Observation, Sighting
from pipelines.cluster.logtail import LogPiece
from pipelines.cluster.open import open_cluster
from pipelines.cluster.ray import fleet as module
from pipelines.cluster.ray.environment import cleaned, named
from pipelines.cluster.ray.fleet import AgentGoneError, Fleet, Member, assemble, owners
from pipelines.cluster.ray.wire import Ask, Hello, Reply
from registry.settings import SettingsError, load
from registry.state import DeviceKind, NodeReport, Phase


def reply(value):
    return msgspec.json.encode(Reply(value=msgspec.Raw(msgspec.json.encode(value))))


def observation(worker_id: str, node: str, phase: Phase = Phase.STARTING) -> Observation:
    return Observation(
        worker_id=worker_id, node=node, phase=phase, reason="", url="", events_url="ipc:///e"
    )


class FakeRay:
    """*names* is what the agent of each node calls itself."""

    here = "id-a"

    def __init__(self, **names: str):
        self.names = {f"id-{id_}": name for id_, name in names.items()}
        self.code = dict.fromkeys(self.names, "new")
        self.after_restart = "new"
        self.workers = dict.fromkeys(self.names, ())
        self.hung: set[str] = set()
        self.gone: set[str] = set()
        self.kept: set[str] = set()
        self.calls: list[tuple[str, ...]] = []

    async def members(self):
        return tuple(Member(id=id_, address="10.0.0.1", labels={"zone": "z"}) for id_ in self.names)

    async def make_agent(self, node_id):
        self.calls.append(("make_agent", node_id))
        self.gone.discard(node_id)

    async def end_agent(self, node_id):
        self.calls.append(("end_agent", node_id))
        self.code[node_id] = self.after_restart

    async def ask_agent(self, node_id, method, *arguments):
        if node_id in self.hung:
            await asyncio.sleep(3600)
        if node_id in self.gone:
            raise AgentGoneError("it died")
        name = self.names[node_id]
        if method == "hello":
            return reply(Hello(name=name, code=self.code[node_id]))
        if method == "observe":
            return reply(Sighting(nodes=frozenset((name,)), workers=self.workers[node_id]))
        if method == "log":
            return reply(LogPiece(data=b"hello", position=5, alive=True))
        assert method == "report"
        labels = {"host": "h"}
        return reply(
            NodeReport(
                name=name,
                address="10.0.0.1",
                device_kind=DeviceKind.CPU,
                runtimes=(),
                labels=labels,
                devices=(),
            )
        )

    async def keepers(self):
        return frozenset(self.kept)

    async def keep(self, node_id, worker_id, order):
        self.calls.append(("keep", node_id, worker_id, "adopt" if order is None else "start"))
        self.kept.add(worker_id)
        return reply(None)

    async def end_keeper(self, worker_id):
        self.kept.discard(worker_id)


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setattr(module, "CALL_S", 0.1)
    monkeypatch.setattr(module, "IMPATIENT_S", 0.02)
    monkeypatch.setattr(module, "START_SHOWN_S", 0.05)
    monkeypatch.setattr(module, "FIRST_LOOK_S", 0.05)


async def test_nodes_and_their_workers_are_put_together_with_ray_s_labels():
    ray = FakeRay(a="one", b="two")
    ray.workers["id-b"] = (observation("w", "two"),)
    fleet = Fleet(ray, code="new")

    reports, sighting = await fleet.inventory(), await fleet.observe()

    assert {report.name for report in reports} == {"one", "two"} == sighting.nodes
    assert reports[0].labels == {"zone": "z", "host": "h"}
    assert [worker.worker_id for worker in sighting.workers] == ["w"]


async def test_a_node_that_hangs_is_left_out_and_holds_up_no_other():
    ray = FakeRay(a="one", b="two")
    fleet = Fleet(ray, code="new")
    await fleet.observe()
    ray.hung = {"id-b"}

    async with asyncio.timeout(2):
        assert (await fleet.observe()).nodes == {"one"}
        assert [report.name for report in await fleet.inventory()] == ["one"]
    with pytest.raises(ClusterError):
        await fleet.stop("two", "w")
    ray.hung = set()
    assert (await fleet.observe()).nodes == {"one", "two"}


async def test_a_node_whose_agent_hangs_from_the_start_is_left_out():
    ray = FakeRay(a="one", b="two")
    ray.hung = {"id-b"}

    assert (await Fleet(ray, code="new").observe()).nodes == {"one"}


async def test_two_nodes_of_one_name_are_never_mixed():
    ray = FakeRay(b="same")
    fleet = Fleet(ray, code="new")
    ray.workers["id-b"] = (observation("mine", "same"),)
    await fleet.observe()
    ray.names["id-a"], ray.code["id-a"] = "same", "new"
    ray.workers["id-a"] = (observation("other", "same"),)

    for _ in range(2):
        assert [worker.worker_id for worker in (await fleet.observe()).workers] == ["mine"]
    ray.hung = {"id-b"}  # its silence gives the name to nobody
    assert (await fleet.observe()).nodes == frozenset()
    del ray.names["id-b"]  # Ray has given it up
    assert [worker.worker_id for worker in (await fleet.observe()).workers] == ["other"]


def test_who_has_a_name_keeps_it_as_long_as_it_has_it():
    assert owners({"x": "n", "y": "n"}, {}) == ({"n": "x"}, ("y",))
    assert owners({"x": "n", "y": "n"}, {"n": "y"}) == ({"n": "y"}, ("x",))
    assert owners({"x": "n", "y": "m"}, {"n": "y"}) == ({"n": "x", "m": "y"}, ())


async def test_an_agent_of_other_code_is_made_anew():
    ray = FakeRay(a="one")
    ray.code["id-a"] = "old"

    assert (await Fleet(ray, code="new").observe()).nodes == {"one"}
    assert [call[0] for call in ray.calls] == ["make_agent", "end_agent", "make_agent"]


async def test_a_node_with_another_modelyard_is_left_out():
    ray = FakeRay(a="one")
    ray.code["id-a"] = ray.after_restart = "old"

    assert (await Fleet(ray, code="new").observe()).nodes == frozenset()


async def test_an_agent_that_is_no_more_is_made_anew():
    ray = FakeRay(a="one")
    fleet = Fleet(ray, code="new")
    await fleet.observe()
    ray.gone = {"id-a"}

    assert (await fleet.observe()).nodes == frozenset()
    assert (await fleet.observe()).nodes == {"one"}


async def test_a_worker_that_lives_without_a_keeper_gets_one_and_an_ended_one_does_not():
    ray = FakeRay(a="one")
    ray.workers["id-a"] = (observation("w", "one"), observation("gone", "one", Phase.FAILED))
    fleet = Fleet(ray, code="new")

    for _ in range(3):
        await fleet.observe()
        await asyncio.sleep(0)

    assert [call for call in ray.calls if call[0] == "keep"] == [("keep", "id-a", "w", "adopt")]


async def test_a_log_can_be_asked_for_first_and_an_unknown_node_is_named():
    fleet = Fleet(FakeRay(a="one"), code="new")

    assert (await fleet.log(Ask(id=1, what="log", node="one", worker_id="w"))).data == b"hello"
    with pytest.raises(ClusterError, match="node two is not in the Ray cluster now"):
        await fleet.stop("two", "w")


def test_kv_events_of_other_nodes_do_not_exist_for_us():
    seen = {
        "id-a": Sighting(nodes=frozenset("a"), workers=(observation("w", "a"),)),
        "id-b": Sighting(nodes=frozenset("b"), workers=(observation("v", "b"),)),
    }
    urls = {one.worker_id: one.events_url for one in assemble(seen, here="id-a").workers}
    assert urls == {"w": "ipc:///e", "v": ""}


def test_an_engine_s_environment_has_nothing_of_ray_and_the_node_s_own_view_of_devices():
    block = b"PATH=/bin\0RAY_AUTH_TOKEN=x\0CUDA_VISIBLE_DEVICES=3\0SPT_NOENV=1\0MODELYARD_HOME=/h\0"
    assert cleaned(block) == {
        "PATH": "/bin",
        "CUDA_VISIBLE_DEVICES": "3",
        "MODELYARD_HOME": "/h",
    }
    assert named({"MODELYARD_NODE_NAME": "n"})["MODELYARD_NODE_NAME"] == "n"
    assert named({})["MODELYARD_NODE_NAME"] == os.uname().nodename


@pytest.mark.parametrize("address", ["10.0.0.1", "http://h:1", ":6379", "h:port", "ray://h:1"])
def test_an_address_that_is_none_is_refused(address):
    with pytest.raises(SettingsError, match="MODELYARD_RAY_ADDRESS: must be host:port"):
        load({"MODELYARD_RAY_ADDRESS": address})


def test_without_ray_the_backend_says_what_to_install(monkeypatch):
    monkeypatch.setattr("pipelines.cluster.ray.cluster.find_spec", lambda name: None)
    with pytest.raises(ClusterError, match=r"pip install 'modelyard\[ray\]'"):
        open_cluster(load({"MODELYARD_CLUSTER": "ray"}))


def test_who_uses_the_backend_does_not_load_ray():
    modules = "sys, gateway.__main__, pipelines.controller, pipelines.cluster.ray.cluster"
    code = f"import {modules}; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
