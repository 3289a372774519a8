"""SGLang's command line and environment, its room for a pair, its metrics."""

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from launches import CPU, GIB

from pipelines.engines.base import EngineMetrics
from pipelines.engines.resume import continued, tokenize_body
from pipelines.engines.sglang import SglangEngine
from registry.spec import Role
from registry.state import DeviceKind

ROOT = Path(__file__).parents[2]
GPU = msgspec.structs.replace(CPU, device_kind=DeviceKind.CUDA, device_indexes=(2, 3))
BODY = {"model": msgspec.Raw(b'"m"'), "prompt": msgspec.Raw(b'"a  b"')}
BOTH = """
    --model-path /models/m --served-model-name m --host 127.0.0.1 --port 8100
    --tensor-parallel-size 1 --pipeline-parallel-size 1
    --enable-metrics --sleep-on-idle --skip-server-warmup --log-level-http warning
"""
ON_CPU = """
    --device cpu --attention-backend=torch_native --decode-log-interval=10
    --max-running-requests=16 --sampling-backend=pytorch
"""
PAIR_ON_CPU = "--disaggregation-transfer-backend mooncake_tcp"
PREFILL = "--disaggregation-bootstrap-port 8200"
DECODE = "--disaggregation-decode-retraction-backup cpu_tensor"


def command(launch=CPU, **changes):
    return SglangEngine().command(msgspec.structs.replace(launch, **changes))


def value_of(argv: tuple[str, ...], flag: str) -> str:
    return argv[argv.index(flag) + 1]


def test_on_a_cpu():
    made = command()
    server, *flags = made.argv
    assert flags == [*BOTH.split(), *ON_CPU.split()]
    assert Path(server) == ROOT / "pipelines" / "inside" / "sglang_server.py"
    assert made.env == {
        "MODELYARD_ENGINE_KEY": "secret",
        "MODELYARD_ENGINE_MEMORY_BYTES": str(4 * GIB),
        "SGLANG_HOST_IP": "127.0.0.1",
        "SGLANG_USE_CPU_ENGINE": "1",
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
    }


@pytest.mark.parametrize(("role", "flags"), [(Role.PREFILL, PREFILL), (Role.DECODE, DECODE)])
def test_a_pair_on_cpus_moves_kv_over_tcp_and_meets_at_prefills_port(role, flags):
    made = command(role=role, transfer="mooncake")
    expected = [*("--disaggregation-mode", role.value), *PAIR_ON_CPU.split()]
    expected += [*flags.split(), "--disable-overlap-schedule"]
    words = set(made.argv) - {made.argv[0], *BOTH.split(), *ON_CPU.split()}
    assert words == set(expected)


@pytest.mark.parametrize("role", [Role.PREFILL, Role.DECODE])
def test_a_pair_on_gpus_moves_kv_as_mooncake_likes_and_overlaps(role):
    made = command(GPU, role=role, transfer="mooncake")
    assert value_of(made.argv, "--disaggregation-transfer-backend") == "mooncake"
    assert "--disable-overlap-schedule" not in made.argv
    assert DECODE.split(maxsplit=1)[0] not in made.argv


def test_a_gpu_worker_gets_its_devices_and_stays_within_its_share_of_memory():
    made = command(GPU, memory_bytes=40 * GIB, device_memory_bytes=80 * GIB, tensor_parallel=2)
    assert made.env["CUDA_VISIBLE_DEVICES"] == "2,3"
    assert value_of(made.argv, "--mem-fraction-static") == "0.4250"
    assert value_of(made.argv, "--tensor-parallel-size") == "2"
    assert "--device" not in made.argv
    assert not any("attention-backend" in word for word in made.argv)


def test_on_gpus_it_is_started_so_that_it_can_sleep_and_on_cpus_it_cannot():
    on_gpu = command(GPU, sleeps=True).argv
    assert set(on_gpu) - set(command(GPU).argv) == {
        "--enable-memory-saver",
        "--enable-weights-cpu-backup",
    }
    assert command(sleeps=True) == command()
    assert SglangEngine().sleeping(DeviceKind.CPU) == ()


def test_a_worker_of_two_cpu_slots_has_the_memory_and_the_threads_of_both():
    env = command(device_indexes=(0, 1)).env
    assert (env["MODELYARD_ENGINE_MEMORY_BYTES"], env["OMP_NUM_THREADS"]) == (str(8 * GIB), "2")


def test_kv_events_are_published_where_the_launch_says_in_blocks_of_more_than_a_token():
    argv = command(events_url="ipc:///w/kv-events").argv
    assert json.loads(value_of(argv, "--kv-events-config")) == {
        "publisher": "zmq",
        "endpoint": "ipc:///w/kv-events",
        "buffer_steps": 1,
    }
    assert "--page-size=16" in argv
    assert "--page-size=1" in command(events_url="ipc:///x", args={"page-size": 1}).argv
    assert "--kv-events-config" not in command().argv


def test_a_spec_overrides_what_are_only_defaults():
    argv = command(args={"max-running-requests": 4, "context-length": 2048}).argv
    assert "--max-running-requests=4" in argv
    assert "--max-running-requests=16" not in argv
    assert "--context-length=2048" in argv


def test_a_hub_model_is_pinned_to_its_revision_and_may_be_fetched():
    made = command(model_path="org/name", model_revision="abc123")
    assert value_of(made.argv, "--revision") == "abc123"
    assert "HF_HUB_OFFLINE" not in made.env


def test_its_tokenizer_is_not_asked_with_a_field_that_its_chats_ignore():
    chat = {"model": msgspec.Raw(b'"m"'), "messages": msgspec.Raw(b"[]")}
    asked = tokenize_body(continued(chat, "so far") or {}, SglangEngine.resuming.tokenized)
    assert "add_generation_prompt" not in asked
    assert bytes(asked["continue_final_message"]) == b"true"


@given(st.text(), st.integers(1, 65_535), st.integers(0, 2**63 - 1))
def test_both_sglang_legs_meet_in_a_room_and_keep_the_request(host, port, room):
    leg = SglangEngine().concurrent_body(BODY, bootstrap_host=host, bootstrap_port=port, room=room)

    assert {name: leg[name] for name in BODY} == BODY
    assert msgspec.json.decode(msgspec.json.encode(leg)) == {
        "model": "m",
        "prompt": "a  b",
        "bootstrap_host": host,
        "bootstrap_port": port,
        "bootstrap_room": room,
    }
    assert "bootstrap_room" not in BODY


def test_sglangs_metrics_are_read_by_its_names():
    text = """
# TYPE sglang:num_running_reqs gauge
sglang:num_running_reqs{engine_type="unified",model_name="m",tp_rank="0"} 2.0
sglang:num_queue_reqs{model_name="m"} 1.0
sglang:num_prefill_inflight_queue_reqs{model_name="m"} 2.0
sglang:token_usage{model_name="m"} 0.25
sglang:max_total_num_tokens{model_name="m"} 46592.0
sglang:kv_transfer_latency_ms_count{model_name="m"} 4.0
sglang:num_transfer_failed_reqs_total{model_name="m"} 5.0
sglang:prompt_tokens_total{model_name="m"} 60.0
sglang:generation_tokens_total{model_name="m"} 7.0
vllm:prompt_tokens_total 900
"""
    assert SglangEngine().metrics(text) == EngineMetrics(
        requests_running=2,
        requests_waiting=3,
        kv_cache_usage=0.25,
        kv_tokens=46592,
        kv_transfers=4,
        kv_transfer_failures=5,
        prompt_tokens=60,
        generation_tokens=7,
    )
