"""SGLang: its metrics and its concurrent P/D protocol, for workers that run elsewhere.

Prefill and decode get the same body at once and meet in a room at the prefill worker's bootstrap
port (SGLang docs: advanced_features/pd_disaggregation). A decode worker never prefills, so an
answer of decode is proof that KV has moved; there is no answering alone.
"""

from typing import NoReturn

import msgspec

from pipelines.engines.base import (
    Body,
    EngineMetrics,
    Launch,
    Pairing,
    Unpaired,
    prometheus_values,
)
from registry.state import DeviceKind

_METRICS = {
    "sglang:num_running_reqs": "requests_running",
    "sglang:num_queue_reqs": "requests_waiting",
    "sglang:token_usage": "kv_cache_usage",
    "sglang:kv_transfer_latency_ms_count": "kv_transfers",
    "sglang:num_transfer_failed_reqs_total": "kv_transfer_failures",
    "sglang:prompt_tokens_total": "prompt_tokens",
    "sglang:generation_tokens_total": "generation_tokens",
}


class SglangEngine(Unpaired):
    transfers = frozenset({"mooncake"})
    needs_weights = True
    health_path = "/health"  # a real generation of one token, in a P/D pair's workers too
    metrics_path = "/metrics"  # only with --enable-metrics
    pairing = Pairing.CONCURRENT
    operations = frozenset(
        {"chat.completions", "completions", "embeddings", "rerank", "score", "tokenize"}
    )
    paired_operations = frozenset({"chat.completions", "completions"})

    def default_runtime(self, kind: DeviceKind) -> str:
        return "sglang-cpu-0.5.23" if kind is DeviceKind.CPU else "sglang-0.5.23"

    def command(self, launch: Launch) -> NoReturn:
        raise NotImplementedError(f"{launch.worker_id}: SGLang runs as an external worker only")

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
