"""What the emulator counts, under vLLM's metric names."""

from typing import Any

import msgspec

from pipelines.engines.emulator.kv import BLOCK_TOKENS

FINISH_REASONS = ("stop", "length", "abort", "error")


class Counters(msgspec.Struct, kw_only=True):
    prompt_tokens: int = 0
    generation_tokens: int = 0
    kv_transfers: int = 0
    kv_transfer_s: float = 0.0
    kv_failures: int = 0
    finished: dict[str, int] = msgspec.field(
        default_factory=lambda: dict.fromkeys(FINISH_REASONS, 0)
    )


def exposition(
    counters: Counters,
    *,
    model: str,
    running: int,
    waiting: int,
    kv_usage: float,
    kv_blocks: int,
    kv_expired: int,
    with_transfers: bool,
) -> bytes:
    """Prometheus text. Like vLLM it names the transfer metrics only where a connector is set."""
    labels = f'engine="0",model_name={msgspec.json.encode(model).decode()}'
    samples: list[tuple[str, str, Any]] = [
        ("num_requests_running", "gauge", running),
        ("num_requests_waiting", "gauge", waiting),
        ("kv_cache_usage_perc", "gauge", kv_usage),
        ("prompt_tokens_total", "counter", counters.prompt_tokens),
        ("generation_tokens_total", "counter", counters.generation_tokens),
    ]
    if with_transfers:
        samples += [
            ("nixl_xfer_time_seconds_count", "histogram", counters.kv_transfers),
            ("nixl_xfer_time_seconds_sum", "histogram", counters.kv_transfer_s),
            ("nixl_num_failed_transfers_total", "counter", counters.kv_failures),
            ("nixl_num_kv_expired_reqs_total", "counter", kv_expired),
        ]
    lines = []
    for name, kind, value in samples:
        if not name.endswith("_sum"):  # its _count has named the family
            lines.append(f"# TYPE vllm:{name.removesuffix('_count')} {kind}")
        lines.append(f"vllm:{name}{{{labels}}} {float(value)}")
    lines.append("# TYPE vllm:cache_config_info gauge")
    sizes = f'block_size="{BLOCK_TOKENS}",engine="0",num_gpu_blocks="{kv_blocks}"'
    lines.append(f"vllm:cache_config_info{{{sizes}}} 1.0")
    lines.append("# TYPE vllm:request_success_total counter")
    lines += [
        f'vllm:request_success_total{{{labels},finished_reason="{reason}"}} {float(count)}'
        for reason, count in counters.finished.items()
    ]
    return ("\n".join(lines) + "\n").encode()
