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
        "disaggregation-bootstrap-port",
        "disaggregation-mode",
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
        "ssl-ca-certs",
        "ssl-cert-reqs",
        "ssl-certfile",
        "ssl-keyfile",
        "task",
        "tensor-parallel-size",
        "tool-parser-plugin",
        "trust-remote-code",
        "uds",
        "weight-transfer-config",
        "worker-cls",
        "worker-extension-cls",
    }
)


def refused_name(name: str) -> str:
    """Why a flag of this name cannot be given, or ""."""
    if not _FLAG.fullmatch(name):
        return "allowed is a flag in lower case without its dashes"
    # Engines take any unambiguous beginning of a flag for the flag.
    if any(reserved.startswith(name) for reserved in RESERVED_ARGS):
        return "is set by Modelyard itself and cannot be given, nor shortened"
    return ""
