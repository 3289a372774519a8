"""What is known of a machine's GPUs, whoever says it, and what of it devices are made of.

`nvml` asks the driver; `fake_gpus` reads a file, for tests.
"""

from collections.abc import Iterator, Mapping
from typing import Protocol

import msgspec

from registry.state import Device, DeviceKind

SWITCH = "switch"  # what a GPU is linked to where its peers are behind an NVSwitch
# Indexes of MIG instances: beyond those of whole GPUs, and each GPU's own.
_MIG_INDEXES_PER_GPU = 100


class GpuProcess(msgspec.Struct, frozen=True, kw_only=True):
    """*used_bytes* is 0 where the driver does not say. One that only draws is no *compute* one."""

    pid: int
    used_bytes: int = 0
    compute: bool = True


class Accelerator(msgspec.Struct, frozen=True, kw_only=True):
    """What can be given to a worker: a GPU, or an instance of one."""

    name: str
    uuid: str
    memory_bytes: int
    used_bytes: int = 0
    processes: tuple[GpuProcess, ...] = ()


class Gpu(msgspec.Struct, frozen=True, kw_only=True):
    """*links* are the NVML indexes of its NVLink peers, or SWITCH. *instances* by their number:
    None where MIG is off.
    """

    index: int
    whole: Accelerator
    links: tuple[int | str, ...] = ()
    instances: Mapping[int, Accelerator] | None = None


class Nvml(Protocol):
    """The GPUs of this machine, now."""

    @property
    def own_pids(self) -> bool:
        """Whether process ids are those of our own /proc: in a container they are the host's."""

    def look(self) -> tuple[Gpu, ...]:
        """None where there is no driver. A GPU that does not answer is left out, and logged."""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A *device* and who is on it."""

    device: Device
    processes: tuple[GpuProcess, ...]


def found_devices(node: str, gpus: tuple[Gpu, ...]) -> Iterator[Found]:
    """A GPU is one device, or each of its MIG instances is: those have no NVLink."""
    islands = island_names(gpus)
    for gpu in gpus:
        if gpu.instances is None:
            name = f"cuda{gpu.index}"
            yield _found(node, name, gpu.index, gpu.whole, islands.get(gpu.index, ""))
            continue
        for number, instance in sorted(gpu.instances.items()):
            assert number < _MIG_INDEXES_PER_GPU, number
            index = _MIG_INDEXES_PER_GPU * (gpu.index + 1) + number
            yield _found(node, f"mig{gpu.index}.{number}", index, instance, "")


def _found(node: str, name: str, index: int, what: Accelerator, island: str) -> Found:
    device = Device(
        id=f"{node}/{name}",
        node=node,
        index=index,
        kind=DeviceKind.CUDA,
        model=what.name,
        memory_bytes=what.memory_bytes,
        uuid=what.uuid,
        island=island,
        used_bytes=what.used_bytes,
    )
    return Found(device=device, processes=what.processes)


def island_names(gpus: tuple[Gpu, ...]) -> dict[int, str]:
    """Of each GPU that NVLink joins to another, by index: ``nvlink0`` after the lowest of them.
    All that are linked to a switch are one island.
    """
    joined: dict[int | str, set[int | str]] = {
        gpu.index: set() for gpu in gpus if gpu.instances is None
    }
    joined[SWITCH] = set()
    for gpu in gpus:
        for peer in gpu.links:
            if gpu.index in joined and peer in joined:
                joined[gpu.index].add(peer)
                joined[peer].add(gpu.index)
    names: dict[int, str] = {}
    for gpu in gpus:
        if gpu.index not in joined or gpu.index in names:
            continue
        members = _reached(gpu.index, joined)
        if len(members) > 1:
            names |= dict.fromkeys(members, f"nvlink{min(members)}")
    return names


def _reached(start: int, joined: Mapping[int | str, set[int | str]]) -> set[int]:
    seen: set[int | str] = set()
    ahead: list[int | str] = [start]
    while ahead:
        one = ahead.pop()
        if one not in seen:
            seen.add(one)
            ahead.extend(joined[one])
    return {one for one in seen if isinstance(one, int)}
