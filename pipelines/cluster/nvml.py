"""NVIDIA's management library: the GPUs that the driver knows."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pynvml
import structlog

from pipelines.cluster.gpus import SWITCH, Accelerator, Gpu, GpuProcess

log = structlog.get_logger()

_HOSTS_PID_NAMESPACE = 0xEFFFFFFC  # the kernel's constant inode of the first one


class DriverNvml:
    """One session with the library for each look: a driver may come and go under us."""

    @property
    def own_pids(self) -> bool:
        return Path("/proc/self/ns/pid").stat().st_ino == _HOSTS_PID_NAMESPACE

    def look(self) -> tuple[Gpu, ...]:
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError:
            return ()
        try:
            return tuple(_gpus())
        except pynvml.NVMLError as error:
            log.warning("nvml failed, this node offers no GPU", error=str(error))
            return ()
        finally:
            pynvml.nvmlShutdown()


def _gpus() -> Iterator[Gpu]:
    handles = {}
    for index in range(pynvml.nvmlDeviceGetCount()):
        try:
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            handles[index] = handle, _bus_id(pynvml.nvmlDeviceGetPciInfo(handle))
        except pynvml.NVMLError as error:
            log.warning("a GPU does not answer, it is left out", index=index, error=str(error))
    indexes = {bus_id: index for index, (_, bus_id) in handles.items()}
    for index, (handle, _) in handles.items():
        try:
            yield Gpu(
                index=index,
                whole=_accelerator(handle),
                links=tuple(_links(handle, indexes)),
                instances=_instances(handle),
            )
        except pynvml.NVMLError as error:
            log.warning("a GPU does not answer, it is left out", index=index, error=str(error))


def _accelerator(handle: object) -> Accelerator:
    total_bytes, used_bytes = _memory(handle)
    return Accelerator(
        name=str(pynvml.nvmlDeviceGetName(handle)),
        uuid=str(pynvml.nvmlDeviceGetUUID(handle)),
        memory_bytes=total_bytes,
        used_bytes=used_bytes,
        processes=tuple(_processes(handle)),
    )


def _memory(handle: object) -> tuple[int, int]:
    """Total and used: without what the driver keeps for itself, where it can be told apart."""
    try:
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)
    except pynvml.NVMLError as error:
        if not _lacks(error):
            raise
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        return int(memory.total), int(memory.used)
    return int(memory.total) - int(memory.reserved), int(memory.used)


def _processes(handle: object) -> Iterator[GpuProcess]:
    """A process that computes and draws is listed as both."""
    computing = _or_none(pynvml.nvmlDeviceGetComputeRunningProcesses, handle) or []
    drawing = _or_none(pynvml.nvmlDeviceGetGraphicsRunningProcesses, handle) or []
    pids = {process.pid for process in computing}
    for process in computing:
        yield GpuProcess(pid=process.pid, used_bytes=process.usedGpuMemory or 0)
    for process in drawing:
        if process.pid not in pids:
            yield GpuProcess(pid=process.pid, used_bytes=process.usedGpuMemory or 0, compute=False)


def _links(handle: object, indexes: dict[str, int]) -> Iterator[int | str]:
    """Where its active NVLinks end: another GPU of this machine, else a switch."""
    peers: set[int | str] = set()
    for link in range(pynvml.NVML_NVLINK_MAX_LINKS):
        if _or_none(pynvml.nvmlDeviceGetNvLinkState, handle, link):
            remote = _or_none(pynvml.nvmlDeviceGetNvLinkRemotePciInfo, handle, link)
            kind = _or_none(pynvml.nvmlDeviceGetNvLinkRemoteDeviceType, handle, link)
            index = indexes.get(_bus_id(remote)) if remote is not None else None
            if index is not None:
                peers.add(index)
            elif kind == pynvml.NVML_NVLINK_DEVICE_TYPE_SWITCH:
                peers.add(SWITCH)
    yield from sorted(peers, key=str)


def _instances(handle: object) -> dict[int, Accelerator] | None:
    """Those of a GPU in MIG mode, by number; None where it is not."""
    mode = _or_none(pynvml.nvmlDeviceGetMigMode, handle)
    if mode is None or mode[0] != pynvml.NVML_DEVICE_MIG_ENABLE:
        return None
    instances = {}
    for number in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        instance = _or_none(pynvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, number)
        if instance is not None:
            instances[number] = _accelerator(instance)
    return instances


def _bus_id(pci: Any) -> str:
    text = pci.busId
    return (text.decode() if isinstance(text, bytes) else str(text)).lower()


def _lacks(error: pynvml.NVMLError) -> bool:
    """Whether it means "there is no such thing here", and not that the GPU is in trouble."""
    return error.value in (
        pynvml.NVML_ERROR_NOT_SUPPORTED,
        pynvml.NVML_ERROR_INVALID_ARGUMENT,
        pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
        pynvml.NVML_ERROR_NOT_FOUND,
        pynvml.NVML_ERROR_NO_PERMISSION,
        pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
    )


def _or_none(ask: Callable[..., Any], *args: object) -> Any:
    """What the library answers; None where this GPU, or driver, has no such thing."""
    try:
        return ask(*args)
    except pynvml.NVMLError as error:
        if not _lacks(error):
            raise
        return None
