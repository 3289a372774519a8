"""vLLM's wire protocol for prefill and decode apart, and the names of its metrics.

The protocol is the NixlConnector's: prefill answers one token with ``kv_transfer_params``, which
go to decode as they are (vLLM docs: features/disagg_prefill). Shared by vLLM and the emulator.
"""

import re

import msgspec

from pipelines.engines.base import Body, EngineMetrics, ProtocolError, prometheus_values

_METRICS = {
    "vllm:num_requests_running": "requests_running",
    "vllm:num_requests_waiting": "requests_waiting",
    "vllm:kv_cache_usage_perc": "kv_cache_usage",
    "vllm:nixl_xfer_time_seconds_count": "kv_transfers",
    "vllm:nixl_num_failed_transfers_total": "kv_transfer_failures",
    "vllm:prompt_tokens_total": "prompt_tokens",
    "vllm:generation_tokens_total": "generation_tokens",
    "vllm:request_success_total": "requests",
}
_CACHE_CONFIG = re.compile(r"^vllm:cache_config_info\{(.*)\}", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')
_REMOTE_DECODE = msgspec.Raw(
    b'{"do_remote_decode":true,"do_remote_prefill":false,"remote_engine_id":null,'
    b'"remote_block_ids":null,"remote_host":null,"remote_port":null}'
)
_ONE = msgspec.Raw(b"1")
# Whose requests take and whose answers give ``kv_transfer_params``.
PAIRED_OPERATIONS = frozenset({"chat.completions", "completions", "responses", "messages"})


class _PrefillAnswer(msgspec.Struct):
    kv_transfer_params: msgspec.Raw = msgspec.Raw(b"null")


def prefill_body(body: Body, operation: str) -> Body:
    """The request for the prefill leg: one token, not streamed, its KV kept for decode."""
    leg = {name: value for name, value in body.items() if name != "stream_options"}
    leg["stream"] = msgspec.Raw(b"false")
    leg["max_output_tokens" if operation == "responses" else "max_tokens"] = _ONE
    for name in ("max_completion_tokens", "min_tokens"):
        if name in leg:
            leg[name] = _ONE
    leg["kv_transfer_params"] = _REMOTE_DECODE
    return leg


def decode_body(body: Body, prefill_answer: bytes) -> Body:
    """The request for the decode leg. Raises ProtocolError if the answer names no KV."""
    try:
        answer = msgspec.json.decode(prefill_answer, type=_PrefillAnswer)
    except msgspec.DecodeError as error:
        raise ProtocolError(f"prefill's answer is not JSON: {error}") from None
    if not bytes(answer.kv_transfer_params).startswith(b"{"):
        raise ProtocolError("prefill's answer carries no kv_transfer_params")
    return {**body, "kv_transfer_params": answer.kv_transfer_params}


def metrics(text: str) -> EngineMetrics:
    """Reads an exposition; what is missing counts as zero."""
    values = prometheus_values(text, _METRICS) | {"kv_tokens": _kv_tokens(text)}
    return msgspec.convert(values, EngineMetrics, strict=False)


def _kv_tokens(text: str) -> int:
    """What all KV caches of the exposition have room for: labels tell it, in newer versions in
    tokens.
    """
    total = 0
    for line in _CACHE_CONFIG.findall(text):
        labels = dict(_LABEL.findall(line))
        told = labels.get("kv_cache_size_tokens", "")
        if told.isdecimal():
            total += int(told)
            continue
        blocks, size = labels.get("num_gpu_blocks", ""), labels.get("block_size", "")
        if blocks.isdecimal() and size.isdecimal():
            total += int(blocks) * int(size)
    return total
