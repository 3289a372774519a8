"""SGLang: `sglang.launch_server`, P/D over Mooncake, concurrent protocol.

Prefill and decode get the same body at once and meet in a room at the prefill worker's bootstrap
port (SGLang docs: advanced_features/pd_disaggregation). A decode worker never prefills, so an
answer of decode is proof that KV has moved; there is no answering alone. Prefill counts it.
"""

import json
from pathlib import Path

import msgspec

from pipelines.engines.base import (
    EVERY_OPERATION,
    Batched,
    Body,
    Command,
    EngineMetrics,
    Launch,
    Pairing,
    Resuming,
    Sleeping,
    Unpaired,
    cuda_environment,
    prometheus_values,
    share_text,
)
from pipelines.engines.flags import flags
from pipelines.engines.resume import TOKENIZED
from registry.engine_args import Arg
from registry.spec import Role
from registry.state import DeviceKind, SleepMode

_METRICS = {
    "sglang:num_running_reqs": "requests_running",
    "sglang:num_queue_reqs": "requests_waiting",
    # The queues of a pair's halves: for the other half, for room, for the transfer.
    "sglang:num_prefill_bootstrap_queue_reqs": "requests_waiting",
    "sglang:num_prefill_inflight_queue_reqs": "requests_waiting",
    "sglang:num_decode_prealloc_queue_reqs": "requests_waiting",
    "sglang:num_decode_transfer_queue_reqs": "requests_waiting",
    "sglang:token_usage": "kv_cache_usage",
    "sglang:max_total_num_tokens": "kv_tokens",
    "sglang:kv_transfer_latency_ms_count": "kv_transfers",
    "sglang:num_transfer_failed_reqs_total": "kv_transfer_failures",
    "sglang:prompt_tokens_total": "prompt_tokens",
    "sglang:generation_tokens_total": "generation_tokens",
    "sglang:num_requests_total": "requests",
}
# Its first argument is a file: SGLang itself takes the key from the command line only.
_SERVER = str(Path(__file__).parents[1] / "inside" / "sglang_server.py")
_KEY_VARIABLE = "MODELYARD_ENGINE_KEY"
_MEMORY_VARIABLE = "MODELYARD_ENGINE_MEMORY_BYTES"
# Of a claim on a GPU, what weights and KV cache may take: SGLang's fraction is of these two, and
# activations and CUDA graphs come on top of it.
_STATIC_SHARE = 0.85
_SLEEPING = Sleeping(
    mode=SleepMode.WEIGHTS_ON_HOST,
    sleep_path="/release_memory_occupation",
    wake_path="/resume_memory_occupation",
    # An assumption: not measured on a GPU yet.
    held_bytes=2 * 2**30,
)
# A block of the KV cache holds one token where nothing is said: too many events.
_PAGE_TOKENS_OF_EVENTS = 16


class SglangEngine(Batched, Unpaired):
    batch_flag = "chunked-prefill-size"
    needs_weights = True
    health_path = "/health"  # a real generation of one token, in a P/D pair's workers too
    metrics_path = "/metrics"
    has_completions = True
    pairing = Pairing.CONCURRENT
    operations = EVERY_OPERATION
    paired_operations = frozenset({"chat.completions", "completions"})
    counts_transfers = Role.PREFILL
    # Its chats ignore add_generation_prompt, which its /tokenize does not.
    resuming = Resuming(tokenized=TOKENIZED - {"add_generation_prompt"}, counts=True)

    def default_runtime(self, kind: DeviceKind) -> str:
        return "sglang-cpu-0.5.23" if kind is DeviceKind.CPU else "sglang-0.5.23"

    def sleeping(self, kind: DeviceKind) -> tuple[Sleeping, ...]:
        return (_SLEEPING,) if kind is DeviceKind.CUDA else ()

    def command(self, launch: Launch) -> Command:
        argv = [
            _SERVER,
            *("--model-path", launch.model_path),
            *("--served-model-name", launch.model),
            *("--host", launch.host, "--port", str(launch.port)),
            *("--tensor-parallel-size", str(launch.tensor_parallel)),
            *("--pipeline-parallel-size", str(launch.pipeline_parallel)),
            "--enable-metrics",
            "--sleep-on-idle",  # else an idle worker takes most of a core
            "--skip-server-warmup",  # the probe of its readiness is a real generation
            *("--log-level-http", "warning"),
        ]
        if launch.model_revision:
            argv += ["--revision", launch.model_revision]
        if launch.transfer:
            argv += _pair_flags(launch)
        if launch.events_url:
            argv += ["--kv-events-config", _kv_events_config(launch)]
        if launch.device_kind is DeviceKind.CUDA:
            share = min(1.0, launch.memory_bytes / launch.device_memory_bytes)
            argv += ["--mem-fraction-static", share_text(share * _STATIC_SHARE)]
            if launch.sleeps:  # its weights it would else not have when it wakes
                argv += ["--enable-memory-saver", "--enable-weights-cpu-backup"]
        else:
            argv += ["--device", "cpu"]
        argv += flags({**_defaults(launch), **launch.args})
        return Command(argv=tuple(argv), env=_environment(launch))

    def metrics(self, text: str) -> EngineMetrics:
        values = prometheus_values(text, _METRICS)
        return msgspec.convert(values, EngineMetrics, strict=False)

    def concurrent_body(
        self, body: Body, *, bootstrap_host: str, bootstrap_port: int, room: int
    ) -> Body:
        return {
            **body,
            "bootstrap_host": msgspec.Raw(msgspec.json.encode(bootstrap_host)),
            "bootstrap_port": msgspec.Raw(b"%d" % bootstrap_port),
            "bootstrap_room": msgspec.Raw(b"%d" % room),
        }


def _pair_flags(launch: Launch) -> list[str]:
    on_cpu = launch.device_kind is DeviceKind.CPU
    words = ["--disaggregation-mode", launch.role.value]
    words += ["--disaggregation-transfer-backend", "mooncake_tcp" if on_cpu else launch.transfer]
    if launch.role is Role.PREFILL:
        words += ["--disaggregation-bootstrap-port", str(launch.kv_port)]
    if on_cpu:
        words.append("--disable-overlap-schedule")  # it overlaps by CUDA's events
        if launch.role is Role.DECODE:
            # What it keeps of a request that it puts back; the other ways are for GPUs.
            words += ["--disaggregation-decode-retraction-backup", "cpu_tensor"]
    return words


def _kv_events_config(launch: Launch) -> str:
    # What it keeps for replay, where nobody asks for it: a batch holds the tokens of prompts.
    return json.dumps({"publisher": "zmq", "endpoint": launch.events_url, "buffer_steps": 1})


def _defaults(launch: Launch) -> dict[str, Arg]:
    """What a spec may choose otherwise."""
    # So often its counts of running requests are brought up to date: within the time that a worker
    # drains at least, or it would look idle.
    args: dict[str, Arg] = {"decode-log-interval": 10}
    if launch.events_url:
        args["page-size"] = _PAGE_TOKENS_OF_EVENTS
    if launch.device_kind is DeviceKind.CPU:
        args |= {
            "attention-backend": "torch_native",
            "sampling-backend": "pytorch",
            "max-running-requests": 16,
        }
    return args


def _environment(launch: Launch) -> dict[str, str]:
    env = {_KEY_VARIABLE: launch.token, "SGLANG_HOST_IP": launch.host}
    if launch.model_path.startswith("/"):
        env["HF_HUB_OFFLINE"] = "1"
    if launch.device_kind is DeviceKind.CUDA:
        # Several it takes by number only: its all-reduce reads them as such.
        return env | cuda_environment(launch, by_uuid=len(launch.device_indexes) == 1)
    slots = len(launch.device_indexes)
    env["SGLANG_USE_CPU_ENGINE"] = "1"
    env["OMP_NUM_THREADS"] = str(slots)
    env[_MEMORY_VARIABLE] = str(launch.memory_bytes * slots)
    return env
