"""What this machine offers: its GPUs, or CPU slots where it has none."""

import platform
from pathlib import Path

import psutil

from pipelines.cluster.fake_gpus import FakeGpus
from pipelines.cluster.gpus import Found, Nvml, found_devices
from pipelines.cluster.nvml import DriverNvml
from pipelines.cluster.occupancy import Occupancy
from pipelines.weights import Shelf
from registry.settings import Settings
from registry.state import Device, DeviceKind, NodeReport

_GIB = 2**30
# A CPU slot is room for one small worker: an engine's own processes take 2.5 GiB before any KV.
CPU_SLOT_BYTES_MIN = 4 * _GIB
# Left to the system, the gateway and the controller.
CPU_RESERVED_BYTES = 2 * _GIB


class Inventory:
    """What this machine says of itself, at each look. Blocks: it asks the driver and reads files.

    *nvml* is the driver's library, or what stands for it in tests.
    """

    def __init__(self, settings: Settings, nvml: Nvml | None = None) -> None:
        self._settings = settings
        self._nvml = nvml or machine_nvml(settings)
        self._shelf = Shelf(settings.models)
        self._occupancy = Occupancy(settings.workers, own_pids=self._nvml.own_pids)

    def report(self, runtimes: tuple[str, ...]) -> NodeReport:
        settings = self._settings
        devices = self._occupancy.judge(self._look) or _machine_slots(settings)
        return NodeReport(
            name=settings.node_name,
            address="127.0.0.1",
            device_kind=devices[0].kind,
            runtimes=runtimes,
            labels={"host": platform.node(), "arch": platform.machine(), **settings.labels},
            devices=devices,
            sources=self._shelf.sources(),
        )

    def _look(self) -> tuple[Found, ...]:
        return tuple(found_devices(self._settings.node_name, self._nvml.look()))


def machine_nvml(settings: Settings) -> Nvml:
    return FakeGpus(settings.fake_gpus) if settings.fake_gpus else DriverNvml()


def device_kind(settings: Settings) -> DeviceKind:
    """What this machine's workers run on."""
    return DeviceKind.CUDA if machine_nvml(settings).look() else DeviceKind.CPU


def _machine_slots(settings: Settings) -> tuple[Device, ...]:
    return cpu_slots(
        settings.node_name,
        memory_bytes=memory_limit_bytes(),
        cores=psutil.cpu_count() or 1,
        wanted=settings.cpu_slots,
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
