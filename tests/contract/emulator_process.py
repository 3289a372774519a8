"""Starts emulators as processes, the way a supervisor would: by the adapter's command line."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from pipelines.engines.base import Launch
from pipelines.engines.emulator import EmulatorEngine
from registry.spec import Role, Task
from registry.state import DeviceKind

TOKEN = "a-token-for-tests"
LAUNCH = Launch(
    worker_id="smollm2-unified-0-abcdef",
    model="smollm2",
    model_path="/nowhere/smollm2",
    model_revision="",
    role=Role.UNIFIED,
    transfer="",
    host="127.0.0.1",
    port=0,
    kv_port=0,
    token=TOKEN,
    device_kind=DeviceKind.CPU,
    device_indexes=(0,),
    memory_bytes=4 * 2**30,
    device_memory_bytes=8 * 2**30,
    tensor_parallel=1,
    pipeline_parallel=1,
    args={},
)


@contextmanager
def emulator_process(
    role: Role = Role.UNIFIED, *, model: str = "smollm2", task: Task = Task.GENERATE, **args
) -> Iterator[tuple[str, subprocess.Popen]]:
    """Its URL and its process, which is gone afterwards."""
    launch = msgspec.structs.replace(LAUNCH, role=role, model=model, task=task, args=args)
    command = EmulatorEngine().command(launch)
    with subprocess.Popen(
        [sys.executable, *command.argv],
        env={**os.environ, **command.env},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            ready, url, *_ = process.stdout.readline().split()
            assert ready == "ready"
            yield url, process
        finally:
            process.kill()
