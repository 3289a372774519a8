"""What this machine offers: its GPUs, or CPU slots where it has none."""

import platform
from pathlib import Path

import psutil
import pynvml
import structlog

from registry.settings import Settings
from registry.state import Device, DeviceKind, NodeReport

log = structlog.get_logger()

_GIB = 2**30
# A CPU slot is room for one small worker: an engine's own processes take 2.5 GiB before any KV.
CPU_SLOT_BYTES_MIN = 4 * _GIB
# Left to the system, the gateway and the controller.
CPU_RESERVED_BYTES = 2 * _GIB


def node_report(settings: Settings, runtimes: tuple[str, ...]) -> NodeReport:
    """What this machine says of itself."""
    devices = gpu_devices(settings.node_name) or cpu_slots(
        settings.node_name,
        memory_bytes=memory_limit_bytes(),
        cores=psutil.cpu_count() or 1,
        wanted=settings.cpu_slots,
    )
    return NodeReport(
        name=settings.node_name,
        address="127.0.0.1",
        device_kind=devices[0].kind,
        runtimes=runtimes,
        labels={"host": platform.node(), "arch": platform.machine()},
        devices=devices,
    )


def gpu_devices(node: str) -> tuple[Device, ...]:
    """The NVIDIA GPUs that NVML knows; none where there is no driver."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        return tuple(
            _gpu(node, index, pynvml.nvmlDeviceGetHandleByIndex(index))
            for index in range(pynvml.nvmlDeviceGetCount())
        )
    except pynvml.NVMLError as error:
        log.warning("nvml failed, this node offers no GPU", error=str(error))
        return ()
    finally:
        pynvml.nvmlShutdown()


def _gpu(node: str, index: int, handle: object) -> Device:
    return Device(
        id=f"{node}/cuda{index}",
        node=node,
        index=index,
        kind=DeviceKind.CUDA,
        model=str(pynvml.nvmlDeviceGetName(handle)),
        memory_bytes=int(pynvml.nvmlDeviceGetMemoryInfo(handle).total),
    )


def cpu_slots(node: str, *, memory_bytes: int, cores: int, wanted: int = 0) -> tuple[Device, ...]:
    """The machine's memory in equal slots of CPU_SLOT_BYTES_MIN or more, at most four a core."""
    usable = max(memory_bytes - CPU_RESERVED_BYTES, memory_bytes // 2)
    count = wanted or max(1, min(usable // CPU_SLOT_BYTES_MIN, 4 * cores))
    return tuple(
        Device(
            id=f"{node}/cpu{index}",
            node=node,
            index=index,
            kind=DeviceKind.CPU,
            model=platform.machine(),
            memory_bytes=usable // count,
        )
        for index in range(count)
    )


def memory_limit_bytes() -> int:
    """The machine's memory, or the container's where that is less."""
    total = int(psutil.virtual_memory().total)
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            text = Path(file).read_text().strip()
        except OSError:
            continue
        if text.isdigit():
            total = min(total, int(text))
    return total
