"""GPUs that a file describes, for tests: MODELYARD_FAKE_GPUS names it. It is read anew at each
look, so that a test can change what is in use while all runs.

    {"gpus": [{}, {"used_bytes": 1, "processes": [{"pid": 1, "used_bytes": 1}], "links": [0]},
              {"instances": {"0": {"memory_bytes": 1}}}, {"lost": true}]}

Only the emulator runs on such a node: nothing of CUDA is there.
"""

from pathlib import Path

import msgspec

from pipelines.cluster.gpus import Accelerator, Gpu, GpuProcess

_GIB = 2**30


class _FakeInstance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    memory_bytes: int = 10 * _GIB
    used_bytes: int = 0
    processes: tuple[GpuProcess, ...] = ()


class _FakeGpu(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """*links* as in `Gpu`. A *lost* one is as if fallen off the bus."""

    name: str = "NVIDIA H100 80GB HBM3"
    memory_bytes: int = 80 * _GIB
    used_bytes: int = 0
    processes: tuple[GpuProcess, ...] = ()
    links: tuple[int | str, ...] = ()
    instances: dict[int, _FakeInstance] | None = None
    lost: bool = False


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    gpus: tuple[_FakeGpu, ...]


class FakeGpus:
    """Raises OSError or msgspec.DecodeError at a look where the file is not as it should be."""

    own_pids = True

    def __init__(self, file: Path) -> None:
        self._file = file

    def look(self) -> tuple[Gpu, ...]:
        told = msgspec.json.decode(self._file.read_bytes(), type=_File)
        return tuple(_gpu(index, fake) for index, fake in enumerate(told.gpus) if not fake.lost)


def _gpu(index: int, fake: _FakeGpu) -> Gpu:
    whole = Accelerator(
        name=fake.name,
        uuid=f"GPU-fake-{index}",
        memory_bytes=fake.memory_bytes,
        used_bytes=fake.used_bytes,
        processes=fake.processes,
    )
    if fake.instances is None:
        return Gpu(index=index, whole=whole, links=fake.links)
    instances = {
        number: _instance(fake, index, number, told) for number, told in fake.instances.items()
    }
    return Gpu(index=index, whole=whole, links=fake.links, instances=instances)


def _instance(fake: _FakeGpu, index: int, number: int, told: _FakeInstance) -> Accelerator:
    return Accelerator(
        name=f"{fake.name} MIG",
        uuid=f"MIG-fake-{index}-{number}",
        memory_bytes=told.memory_bytes,
        used_bytes=told.used_bytes,
        processes=told.processes,
    )
