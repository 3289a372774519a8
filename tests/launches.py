"""What the command lines of engines are tested with: one worker on a CPU."""

from pipelines.engines.base import Launch
from registry.spec import Role
from registry.state import DeviceKind

GIB = 2**30
CPU = Launch(
    worker_id="m-unified-0-abcdef",
    model="m",
    model_path="/models/m",
    model_revision="",
    role=Role.UNIFIED,
    transfer="",
    host="127.0.0.1",
    port=8100,
    kv_port=8200,
    token="secret",
    device_kind=DeviceKind.CPU,
    device_indexes=(0,),
    memory_bytes=4 * GIB,
    device_memory_bytes=11 * GIB,
    tensor_parallel=1,
    pipeline_parallel=1,
    args={},
)
