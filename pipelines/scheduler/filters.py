"""Why a node cannot take a worker. Each filter answers None, or an obstacle in words.

To add one: write the function, give it a `Reason`, put it into FILTERS where its sentence is
more telling than those below it (the first obstacle is the one that is shown). Filters see what
all nodes of a build have; what changes with each placement is judged in `shapes.py` and
`gangs.py`.
"""

from collections.abc import Callable
from enum import StrEnum

import msgspec

from pipelines.scheduler.builds import Build
from registry.spec import Island
from registry.state import DeviceKind, WorkerPlan

RuntimeOf = Callable[[WorkerPlan, DeviceKind], str]
_GIB = 2**30


class Reason(StrEnum):
    NODE_NOT_READY = "node-not-ready"
    LABELS_DIFFER = "labels-differ"
    TOO_FEW_DEVICES = "too-few-devices"
    DEVICE_MODEL_DIFFERS = "device-model-differs"
    DEVICE_TOO_SMALL = "device-too-small"
    QUARANTINE = "quarantine"
    NO_ISLAND = "no-island"
    RUNTIME_MISSING = "runtime-missing"
    DEVICE_KIND_DIFFERS = "device-kind-differs"
    TOO_FAR = "too-far"
    NOT_ENOUGH_FREE = "not-enough-free"
    IN_FOREIGN_USE = "in-foreign-use"
    QUOTA = "quota"


class Obstacle(msgspec.Struct, frozen=True):
    """What is wanted, and what a node has instead. Of several nodes that lack the same the one
    with the highest *rank* comes nearest.
    """

    reason: Reason
    wants: str
    has: str
    rank: int = 0

    @property
    def sentence(self) -> str:
        return f"{self.wants}, {self.has}" if self.wants else self.has


class Wish(msgspec.Struct, frozen=True):
    """What of a plan the filters look at. *runtimes*: by kind of device."""

    plan: WorkerPlan
    runtimes: dict[DeviceKind, str]


Filter = Callable[[Wish, Build], Obstacle | None]


def node_state(wish: Wish, build: Build) -> Obstacle | None:
    del wish
    if build.is_ready:
        return None
    return Obstacle(Reason.NODE_NOT_READY, "", f"is {build.state}")


def labels(wish: Wish, build: Build) -> Obstacle | None:
    for key, wanted in sorted(wish.plan.placement.labels.items()):
        if build.labels.get(key) != wanted:
            has = build.labels.get(key, "no such label")
            return Obstacle(Reason.LABELS_DIFFER, f"wants {key}={wanted}", f"has {has}")
    return None


def device_count(wish: Wish, build: Build) -> Obstacle | None:
    wanted, count = wish.plan.devices, len(build.sizes)
    if count >= wanted:
        return None
    return Obstacle(Reason.TOO_FEW_DEVICES, f"needs {_count(wanted)}", f"has {count}", count)


def device_model(wish: Wish, build: Build) -> Obstacle | None:
    wanted = wish.plan.placement.device_model
    if not wanted or len(_of_model(wish, build)) >= wish.plan.devices:
        return None
    has = ", ".join(sorted(set(build.models))) or "no device"
    count = len(_of_model(wish, build))
    if count:
        has = f"{count} of that"
        return Obstacle(
            Reason.DEVICE_MODEL_DIFFERS, f"wants {wish.plan.devices} {wanted}", f"has {has}", count
        )
    return Obstacle(Reason.DEVICE_MODEL_DIFFERS, f"wants a {wanted}", f"has {has}")


def device_size(wish: Wish, build: Build) -> Obstacle | None:
    wanted = wish.plan.memory_bytes
    sizes = [build.sizes[i] for i in _of_model(wish, build)]
    if sum(size >= wanted and size > 0 for size in sizes) >= wish.plan.devices:
        return None
    largest = max(sizes, default=0)
    return Obstacle(
        Reason.DEVICE_TOO_SMALL,
        f"needs {gib(wanted)} of each device",
        f"the largest has {gib(largest)}",
        largest,
    )


def quarantine(wish: Wish, build: Build) -> Obstacle | None:
    usable = len(allowed(wish, build))
    if usable >= wish.plan.devices:
        return None
    return Obstacle(
        Reason.QUARANTINE,
        f"needs {_count(wish.plan.devices)}",
        f"{usable} are out of quarantine ({build.quarantine})",
        usable,
    )


def island(wish: Wish, build: Build) -> Obstacle | None:
    """Whether an island of the node is large enough, however full it is."""
    if wish.plan.placement.island is not Island.REQUIRE or wish.plan.devices == 1:
        return None
    fitting = set(allowed(wish, build))
    largest = max((len(fitting.intersection(one)) for one in build.joined), default=0)
    if largest >= wish.plan.devices:
        return None
    has = f"the largest has {largest}" if build.has_islands else "it has none"
    return Obstacle(Reason.NO_ISLAND, f"needs an island of {wish.plan.devices}", has, largest)


def runtime_installed(wish: Wish, build: Build) -> Obstacle | None:
    runtime = wish.runtimes[build.kind]
    if runtime in build.runtimes:
        return None
    return Obstacle(
        Reason.RUNTIME_MISSING,
        "",
        f"has no runtime {runtime}: install it with `modelyard runtimes install {runtime}`",
    )


FILTERS: tuple[Filter, ...] = (
    node_state,
    labels,
    device_count,
    device_model,
    device_size,
    quarantine,
    island,
    runtime_installed,
)


def first_obstacle(wish: Wish, build: Build) -> Obstacle | None:
    """The first filter's word, or None where an empty node of the build would do."""
    for check in FILTERS:
        obstacle = check(wish, build)
        if obstacle is not None:
            return obstacle
    return None


def allowed(wish: Wish, build: Build) -> tuple[int, ...]:
    """The positions of devices that the plan may have at all."""
    usable, memory_bytes = set(build.usable), wish.plan.memory_bytes
    return tuple(
        i
        for i in _of_model(wish, build)
        if i in usable and build.sizes[i] >= memory_bytes and build.sizes[i] > 0
    )


def _of_model(wish: Wish, build: Build) -> list[int]:
    wanted = wish.plan.placement.device_model.lower()
    return [i for i, model in enumerate(build.models) if wanted in model.lower()]


def gib(size_bytes: int) -> str:
    return f"{size_bytes / _GIB:.1f} GiB"


def _count(devices: int) -> str:
    return "1 device" if devices == 1 else f"{devices} devices"
