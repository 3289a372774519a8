"""What runs inside the SGLang runtimes, as far as it runs without SGLang."""

import importlib.metadata
import importlib.util
import logging
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import psutil
import pytest

from pipelines.engines import sglang

INSIDE = Path(__file__).parents[2] / "pipelines" / "inside"
GIB = 2**30


def load(file: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(file).stem, INSIDE / file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def plugin(monkeypatch):
    context = ModuleType("sglang.srt.runtime_context")
    context.world = SimpleNamespace(launch_world_size=1)
    context.get_parallel = lambda: context.world
    for name in ("sglang", "sglang.srt"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, context.__name__, context)
    plugin = load("sglang_cpu/modelyard_sglang_cpu.py")
    plugin.context = context
    monkeypatch.setattr(plugin, "_processes", lambda: [psutil.Process()])
    return plugin


def test_the_kv_cache_gets_what_the_processes_leave_of_the_claim(plugin, monkeypatch):
    monkeypatch.setattr(plugin, "_resident_bytes", lambda _: 3 * GIB)
    monkeypatch.setenv(plugin.MEMORY_VARIABLE, str(5 * GIB))
    assert plugin._claimed_bytes(None, 0) == 2 * GIB - plugin.WORKSPACE_BYTES


def test_a_claim_that_leaves_nothing_is_told_with_what_it_takes(plugin, monkeypatch):
    monkeypatch.setattr(plugin, "_resident_bytes", lambda _: 3 * GIB)
    monkeypatch.setenv(plugin.MEMORY_VARIABLE, str(3 * GIB))
    with pytest.raises(ValueError, match=r"3.0 GiB is too small.*give the worker more memory"):
        plugin._claimed_bytes(None, 0)


def test_more_than_one_rank_is_refused(plugin, monkeypatch):
    monkeypatch.setenv(plugin.MEMORY_VARIABLE, str(5 * GIB))
    plugin.context.world.launch_world_size = 2
    with pytest.raises(NotImplementedError, match="no tensor or pipeline parallelism"):
        plugin._claimed_bytes(None, 0)


def test_the_memory_of_a_process_is_read_and_of_a_gone_one_is_nothing(plugin):
    assert plugin._resident_bytes(psutil.Process()) > 2**20
    gone = SimpleNamespace(memory_info=lambda: (_ for _ in ()).throw(psutil.NoSuchProcess(1)))
    assert plugin._resident_bytes(gone) == 0


def test_the_scripts_read_what_the_adapter_sets(plugin):
    assert sglang._MEMORY_VARIABLE == plugin.MEMORY_VARIABLE
    server = load("sglang_server.py")
    assert sglang._KEY_VARIABLE == server.KEY_VARIABLE
    assert Path(sglang._SERVER) == INSIDE / "sglang_server.py"


def test_no_log_record_holds_the_key(caplog):
    make = logging.getLogRecordFactory()
    try:
        load("sglang_server.py")._keep_out_of_logs("k3y")
        with caplog.at_level(logging.INFO):
            logging.getLogger("any").info("args: %s", {"api_key": "k3y", "other": 1})
            logging.getLogger("any").info("plain %d", 7)
    finally:
        logging.setLogRecordFactory(make)
    assert "k3y" not in caplog.text
    assert "(the worker's key)" in caplog.messages[0]
    assert caplog.messages[1] == "plain 7"


def test_its_counts_lie_in_the_workers_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "/elsewhere")
    load("sglang_server.py")._keep_metrics_here()
    assert os.environ["PROMETHEUS_MULTIPROC_DIR"] == str(tmp_path / "metrics")
    assert (tmp_path / "metrics").is_dir()


async def test_told_twice_to_sleep_or_to_wake_it_does_it_once():
    """SGLang's scheduler ends when it is woken and does not sleep."""
    told = []

    class Manager:
        async def release_memory_occupation(self, obj, request=None):
            told.append(("release", obj, request))

        async def resume_memory_occupation(self, obj, request=None):
            told.append(("resume", obj, request))

    load("sglang_server.py").sleep_once(Manager)
    manager = Manager()
    await manager.resume_memory_occupation("early", 0)
    for turn in ("a", "b"):
        await manager.release_memory_occupation(turn, 1)
    for turn in ("c", "d"):
        await manager.resume_memory_occupation(turn, 2)
    assert told == [("release", "a", 1), ("resume", "c", 2)]


@pytest.fixture
def installer(tmp_path, monkeypatch):
    installer = load("sglang_cpu/install.py")
    monkeypatch.setattr(installer, "SITE", tmp_path)
    monkeypatch.setattr(installer, "_loads", lambda name: name != "libibverbs.so.1")
    (tmp_path / "mooncake_x.libs").mkdir()
    (tmp_path / "nixl_cu12.libs").mkdir()
    return installer


def test_a_library_that_the_machine_lacks_is_found_in_a_wheel_with_all_that_it_needs(
    installer, tmp_path
):
    for name in ("libibverbs-1de1.so.1.14", "libnl-3-47cd.so.200"):
        (tmp_path / "nixl_cu12.libs" / name).write_text(name)
    installer.find_libraries()
    installer.find_libraries()  # as often as one likes
    found = {file.name: file.read_text() for file in (tmp_path / "mooncake_x.libs").iterdir()}
    assert found == {
        "libibverbs.so.1": "libibverbs-1de1.so.1.14",
        "libibverbs-1de1.so.1.14": "libibverbs-1de1.so.1.14",
        "libnl-3-47cd.so.200": "libnl-3-47cd.so.200",
    }


def test_without_one_the_way_out_is_told(installer):
    with pytest.raises(SystemExit, match="apt-get install libibverbs1"):
        installer.find_libraries()


def test_where_the_machine_has_them_all_nothing_is_put_in_their_way(
    installer, tmp_path, monkeypatch
):
    monkeypatch.setattr(installer, "_loads", lambda name: True)
    installer.find_libraries()
    assert list((tmp_path / "mooncake_x.libs").iterdir()) == []


def test_the_plugin_is_where_sglang_looks_for_plugins(installer, tmp_path):
    installer.put_stand_ins()
    installer.register_plugin()
    (entry,) = importlib.metadata.PathDistribution(
        tmp_path / "modelyard_sglang_cpu-1.dist-info"
    ).entry_points
    assert (entry.group, entry.value) == ("sglang.srt.plugins", "modelyard_sglang_cpu:register")
    assert {"modelyard_sglang_cpu.py", "sgl_kernel.py", "triton.py"} <= {
        file.name for file in tmp_path.iterdir()
    }
