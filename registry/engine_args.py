"""Engine flags that a spec may add, and those it may not. Pure."""

import re

Arg = str | int | float | bool

_FLAG = re.compile(r"[a-z][a-z0-9-]{0,63}")

# What Modelyard itself sets on the engine's command line; a spec that also set it would
# contradict the scheduler (devices, memory, addresses) or open the engine to others.
RESERVED_ARGS = frozenset(
    {
        "allowed-local-media-path",
        "allowed-origins",
        "api-key",
        "config",
        "device",
        "ec-transfer-config",
        "gpu-memory-utilization",
        "hf-token",
        "host",
        "io-processor-plugin",
        "kv-events-config",
        "kv-port",
        "kv-transfer-config",
        "load-format",
        "log-config-file",
        "logits-processors",
        "middleware",
        "model",
        "model-class-overrides",
        "model-path",
        "pipeline-parallel-size",
        "port",
        "reasoning-parser-plugin",
        "role",
        "root-path",
        "runner",
        "scheduler-cls",
        "served-model-name",
        "task",
        "tensor-parallel-size",
        "tool-parser-plugin",
        "trust-remote-code",
        "uds",
        "weight-transfer-config",
        "worker-cls",
        "worker-extension-cls",
        # SGLang's, its short names among them
        "admin-api-key",
        "allowed-media-domains",
        "base-gpu-id",
        "crash-dump-folder",
        "custom-weight-loader",
        "data-parallel-size",
        "delete-ckpt-after-loading",
        "dist-init-addr",
        "download-dir",
        "dp-size",
        "enable-custom-logit-processor",
        "enable-metrics",
        "enable-pd-role-switch",
        "engine-info-bootstrap-port",
        "fastapi-root-path",
        "file-storage-path",
        "forward-hooks",
        "gpu-id-step",
        "grpc-mode",
        "grpc-port",
        "load-publish-endpoint",
        "mem-fraction-static",
        "msprobe-dump-config",
        "nccl-port",
        "nnodes",
        "node-rank",
        "otlp-traces-endpoint",
        "pp-size",
        "radix-cache-backend",
        "sidecar",
        "sidecar-args",
        "skip-tokenizer-init",
        "tool-server",
        "tp-size",
        "trust-request-chat-template",
        "use-ray",
        "warmups",
        "weight-cache-socket",
    }
)
# Every flag that begins so: half of a pair, of a mesh, or what a process writes or fetches.
RESERVED_FAMILIES = (
    "debug-tensor-dump-",
    "decoupled-spec-",
    "decrypted-",
    "disaggregation-",
    "elastic-ep-",
    "encoder-",
    "export-metrics-to-file",
    "hicache-storage-",
    "log-requests",
    "remote-instance-",
    "smg-",
    "ssl-",
)


def refused_name(name: str) -> str:
    """Why a flag of this name cannot be given, or ""."""
    if not _FLAG.fullmatch(name):
        return "allowed is a flag in lower case without its dashes"
    # Engines take any unambiguous beginning of a flag for the flag.
    reserved = any(flag.startswith(name) for flag in (*RESERVED_ARGS, *RESERVED_FAMILIES))
    if reserved or name.startswith(RESERVED_FAMILIES):
        return "is set by Modelyard itself and cannot be given, nor shortened"
    return ""
