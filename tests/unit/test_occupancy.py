"""Devices by what is on them: islands, MIG, programs that are not ours, use beyond claims."""

import os
import subprocess
import sys
from contextlib import contextmanager

import msgspec
import pytest

from pipelines.cluster.gpus import Accelerator, Gpu, GpuProcess, found_devices, island_names
from pipelines.cluster.inventory import Inventory, device_kind
from pipelines.cluster.occupancy import Occupancy
from pipelines.cluster.processes import WORKER_MARK
from pipelines.cluster.workerdir import LaunchFile, StateFile, WorkerDir
from registry.settings import Settings
from registry.spec import EngineName, Role
from registry.state import DeviceKind, Phase

GIB = 2**30


def gpu(index, links=(), **whole):
    facts = {"name": "H100", "uuid": f"GPU-{index}", "memory_bytes": 80 * GIB, **whole}
    return Gpu(index=index, whole=Accelerator(**facts), links=links)


@contextmanager
def process(**environment):
    child = subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); input()"],
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        child.stdout.readline()
        yield child.pid
    finally:
        child.communicate(b"\n")


class Node:
    """One with GPUs that a test sets."""

    def __init__(self, home, *, own_pids=True):
        self.workers = home / "workers"
        self.gpus = (gpu(0),)
        self.slept = []
        self.occupancy = Occupancy(self.workers, own_pids=own_pids, sleep=self.slept.append)

    def devices(self):
        return self.occupancy.judge(lambda: tuple(found_devices("n", self.gpus)))

    def quarantine(self):
        return self.devices()[0].quarantine

    def on_it(self, *processes, used_bytes=0):
        self.gpus = (gpu(0, used_bytes=used_bytes, processes=processes),)

    def add_worker(self, worker_id="w", session=None, **claims):
        folder = WorkerDir(self.workers / worker_id)
        folder.create(launch(worker_id, {f"n/{name}": size for name, size in claims.items()}))
        folder.write_state(StateFile(phase=Phase.READY, supervisor_pid=1, session_id=session))
        return folder


def launch(worker_id, claims):
    return LaunchFile(
        worker_id=worker_id,
        model="m",
        role=Role.UNIFIED,
        engine=EngineName.EMULATOR,
        runtime="builtin",
        source="emulator://",
        transfer="",
        host="127.0.0.1",
        token="t",
        device_kind=DeviceKind.CUDA,
        device_indexes=(0,),
        claims=claims,
        memory_bytes=1,
        device_memory_bytes=1,
        tensor_parallel=1,
        pipeline_parallel=1,
        args={},
        runtimes_dir="",
        models_dir="",
    )


@pytest.fixture
def node(tmp_path):
    node = Node(tmp_path)
    assert node.quarantine() == ""
    return node


def test_gpus_are_one_island_over_any_path_of_links():
    pairs = tuple(gpu(index, links=(index ^ 1,)) for index in range(4))
    switch = tuple(gpu(index, links=("switch",)) for index in range(8))

    assert island_names(pairs) == {0: "nvlink0", 1: "nvlink0", 2: "nvlink2", 3: "nvlink2"}
    assert island_names(switch) == dict.fromkeys(range(8), "nvlink0")
    assert island_names((gpu(0), gpu(1, links=("switch",)))) == {}


def test_a_link_to_a_gpu_that_is_lost_joins_nothing():
    assert island_names((gpu(1, links=(0,)), gpu(2))) == {}


def test_a_gpu_in_mig_mode_offers_its_instances_and_not_itself():
    part = Accelerator(name="H100 MIG 1g.10gb", uuid="MIG-1", memory_bytes=10 * GIB)
    split = msgspec.structs.replace(gpu(0, links=(1,)), instances={0: part, 3: part})
    empty = msgspec.structs.replace(gpu(2), instances={})
    devices = [one.device for one in found_devices("n", (split, gpu(1, links=(0,)), empty))]

    assert [device.id for device in devices] == ["n/mig0.0", "n/mig0.3", "n/cuda1"]
    assert len({device.index for device in devices}) == 3
    assert [device.uuid for device in devices] == ["MIG-1", "MIG-1", "GPU-1"]
    assert {device.island for device in devices} == {""}


def test_another_programs_process_seen_twice_puts_the_device_into_quarantine(node):
    with process(SECRET="key") as pid:
        node.on_it(GpuProcess(pid=pid, used_bytes=int(3.2 * GIB)), used_bytes=4 * GIB)

        assert node.quarantine() == ""
        assert node.quarantine().startswith(f"process {pid} (python")
        assert node.quarantine().endswith(") of another program holds 3.2 GiB")

        node.on_it(GpuProcess(pid=pid, used_bytes=5 * GIB), used_bytes=6 * GIB)
        assert node.quarantine().endswith("holds 3.2 GiB"), "a changed number is no news"
    node.on_it()
    assert node.quarantine() == ""


def test_a_process_that_comes_and_goes_is_never_seen_twice_in_a_row(node):
    with process() as pid:
        for _ in range(3):
            node.on_it(GpuProcess(pid=pid), used_bytes=GIB)
            assert node.quarantine() == ""
            node.on_it()
            assert node.quarantine() == ""


def test_the_first_look_of_all_is_done_twice(tmp_path):
    node = Node(tmp_path)
    with process() as pid:
        node.on_it(GpuProcess(pid=pid), used_bytes=GIB)

        assert "another program" in node.quarantine(), "else a worker would be placed beside it"
    assert node.slept == [1.0]


def test_processes_of_our_workers_are_known_by_session_or_mark(node):
    node.add_worker("orphan", cuda0=8 * GIB)
    with process(**{WORKER_MARK: "orphan"}) as marked:
        node.add_worker("led", session=os.getsid(0), cuda0=8 * GIB)
        node.on_it(GpuProcess(pid=marked), GpuProcess(pid=os.getpid()), used_bytes=GIB)

        assert [node.quarantine() for _ in range(3)] == ["", "", ""]


def test_the_mark_of_another_homes_worker_is_not_ours(node):
    with process(**{WORKER_MARK: "theirs"}) as pid:
        node.on_it(GpuProcess(pid=pid), used_bytes=GIB)
        node.devices()

        assert "another program" in node.quarantine()


@pytest.mark.parametrize(
    ("used_bytes", "claimed", "why"),
    [
        (GIB, False, "memory in use by what is not visible here"),
        (GIB, True, ""),
        (300 * 2**20, False, ""),
    ],
)
def test_unseen_processes_are_judged_by_what_is_used_and_claimed(
    tmp_path, used_bytes, claimed, why
):
    node = Node(tmp_path, own_pids=False)
    node.devices()
    if claimed:
        node.add_worker(cuda0=8 * GIB)
    node.on_it(GpuProcess(pid=1, used_bytes=used_bytes), used_bytes=used_bytes)

    assert node.quarantine() == ""
    assert node.quarantine() == why


def test_a_display_is_not_foreign(node):
    node.on_it(GpuProcess(pid=1, used_bytes=GIB, compute=False), used_bytes=GIB)

    assert [node.quarantine(), node.quarantine()] == ["", ""]


@pytest.mark.parametrize(("used", "told"), [(40.9, False), (41.9, False), (42.2, True)])
def test_use_beyond_the_claims_is_told_above_five_percent(node, used, told):
    node.add_worker("a", cuda0=30 * GIB)
    node.add_worker("b", cuda0=10 * GIB)
    node.on_it(used_bytes=int(used * GIB))
    (device,) = node.devices()

    assert device.overuse == (f"its workers use {used} GiB and claim 40.0 GiB" if told else "")
    assert device.used_bytes == int(used * GIB)


def test_a_file_of_gpus_makes_a_node_of_them_and_is_read_anew(tmp_path):
    file = tmp_path / "gpus.json"
    settings = Settings(home=tmp_path, fake_gpus=file, node_labels="zone=a, fabric=ib0")
    file.write_text('{"gpus": [{"links": [1]}, {"links": [0]}, {"instances": {"0": {}}}]}')
    inventory = Inventory(settings)
    report = inventory.report(())

    assert device_kind(settings) is report.device_kind is DeviceKind.CUDA
    assert [device.id for device in report.devices] == [
        "local/cuda0",
        "local/cuda1",
        "local/mig2.0",
    ]
    assert report.labels.items() >= {"zone": "a", "fabric": "ib0"}.items()
    file.write_text('{"gpus": [{"lost": true}, {"used_bytes": 7}]}')
    (left,) = inventory.report(()).devices
    assert (left.id, left.used_bytes, left.island) == ("local/cuda1", 7, "")
