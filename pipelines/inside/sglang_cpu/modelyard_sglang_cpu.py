"""A plugin of SGLang (entry point group `sglang.srt.plugins`): what its CPU path still lacks.

It runs in every process of the engine before it begins. Written for SGLang 0.5.23, held to it by
`pipelines/inside/sglang_cpu/install.py`.
"""

import gc
import os
from typing import Any

import psutil

# How much memory the worker may take in all; set by the engine's adapter.
MEMORY_VARIABLE = "MODELYARD_ENGINE_MEMORY_BYTES"
# Not for the KV cache: what a forward pass takes while it runs, and fragments.
WORKSPACE_BYTES = 512 * 2**20


def register() -> None:
    import sglang.srt.server_args  # noqa: F401 - the modules below cannot be imported before it
    from sglang.srt.disaggregation.mooncake.conn import MooncakeKVSender
    from sglang.srt.mem_cache.kv_cache_configurator import KVCacheConfigurator

    # The way for host tensors copies through pinned memory and waits for CUDA events.
    MooncakeKVSender.supports_host_tensor_indices = False
    if MEMORY_VARIABLE in os.environ:
        KVCacheConfigurator._profile_available_bytes = _claimed_bytes  # noqa: SLF001


def _claimed_bytes(configurator: object, pre_model_load_memory: int) -> int:
    """The KV cache's share, in place of `KVCacheConfigurator._profile_available_bytes`.

    SGLang takes a fraction of what the machine has free at that moment, which other workers
    change under it: two that start at once each see the other's memory go. Here it is what the
    worker's claim leaves beside its own processes, with the weights already in them.
    """
    del configurator, pre_model_load_memory
    from sglang.srt.runtime_context import get_parallel

    if get_parallel().launch_world_size > 1:
        raise NotImplementedError("the runtime sglang-cpu has no tensor or pipeline parallelism")
    gc.collect()  # weights that were converted while they were loaded
    claimed = int(os.environ[MEMORY_VARIABLE])
    taken = sum(_resident_bytes(process) for process in _processes())
    left = claimed - taken - WORKSPACE_BYTES
    if left <= 0:
        raise ValueError(
            f"a memory of {claimed / 2**30:.1f} GiB is too small: the engine's processes take "
            f"{taken / 2**30:.1f} GiB without any KV cache, and a forward pass "
            f"{WORKSPACE_BYTES / 2**30:.1f} GiB; give the worker more memory"
        )
    return left


def _processes() -> list[psutil.Process]:
    """Of this worker: all that its launcher, which began the session, has started."""
    launcher: Any = psutil.Process(os.getsid(0))
    return [launcher, *launcher.children(recursive=True)]


def _resident_bytes(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0
