"""Plans that ask for the same are judged once, against levels instead of nodes."""

from collections.abc import Iterable

import msgspec

from pipelines.scheduler.builds import Build, Level
from pipelines.scheduler.devices import choose, suits
from pipelines.scheduler.filters import (
    Obstacle,
    Reason,
    RuntimeOf,
    Wish,
    allowed,
    first_obstacle,
    gib,
)
from registry.spec import Island
from registry.state import DeviceKind, WorkerPlan

NOT = -1.0  # how well a level suits that has no room


class Offer(msgspec.Struct, frozen=True):
    """A build that could take the shape: the positions of devices it may have there."""

    build: Build
    allowed: tuple[int, ...]


class Shape:
    """What a plan asks of a node. The plans of one shape have one answer from every filter."""

    __slots__ = (
        "_barred",
        "_fit",
        "_offers",
        "demand",
        "devices",
        "memory_bytes",
        "offers",
        "one_island",
        "wish",
    )

    def __init__(self, wish: Wish, builds: Iterable[Build]) -> None:
        plan = wish.plan
        self.wish = wish
        self.devices = plan.devices
        self.memory_bytes = plan.memory_bytes
        self.one_island = plan.placement.island is Island.REQUIRE
        self._barred = {build: first_obstacle(wish, build) for build in builds}
        self.offers = tuple(
            Offer(build, allowed(wish, build))
            for build, obstacle in self._barred.items()
            if obstacle is None
        )
        self._offers = {offer.build: offer for offer in self.offers}
        self._fit: dict[Level, float] = {}
        size = max((max(offer.build.sizes) for offer in self.offers), default=0)
        share = min(self.memory_bytes / size, 1.0) if self.memory_bytes and size else 1.0
        self.demand = self.devices * share  # in whole devices, of the largest there are for it

    def fit(self, level: Level) -> float:
        """How well the level suits, 0 to 1, or NOT."""
        fit = self._fit.get(level)
        if fit is None:
            fit = self._fit[level] = self._judge(level)
        return fit

    def choose(self, build: Build, free: tuple[int, ...]) -> tuple[int, ...] | None:
        """The positions a host of this build would give it."""
        offer = self._offers.get(build)
        if offer is None:
            return None
        return choose(
            build,
            offer.allowed,
            free,
            devices=self.devices,
            memory_bytes=self.memory_bytes,
            one_island=self.one_island,
        )

    def fitting(self, level: Level) -> int | None:
        """How many devices have room for their part; None where the build is not for it at all."""
        offer = self._offers.get(level.build)
        if offer is None:
            return None
        sizes = level.build.sizes
        return sum(level.free[i] >= (self.memory_bytes or sizes[i]) for i in offer.allowed)

    def bytes_of(self, build: Build, positions: Iterable[int]) -> int:
        return sum(self.memory_bytes or build.sizes[i] for i in positions)

    def obstacle(self, level: Level) -> Obstacle:
        """Why hosts of the level, which has no room, have none."""
        build = level.build
        obstacle = self._barred[build]
        if obstacle is not None:
            return obstacle
        amount = f"{gib(self.memory_bytes)} free" if self.memory_bytes else "all memory free"
        what = "1 device" if self.devices == 1 else f"{self.devices} devices"
        fitting = {
            i
            for i in self._offers[build].allowed
            if level.free[i] >= (self.memory_bytes or build.sizes[i])
        }
        if self.one_island and len(fitting) >= self.devices:
            largest = max(len(fitting.intersection(one)) for one in build.joined)
            return Obstacle(
                Reason.NOT_ENOUGH_FREE,
                f"needs {what} of one island with {amount}",
                f"{largest} of {len(build.sizes)} have that",
                largest,
            )
        return Obstacle(
            Reason.NOT_ENOUGH_FREE,
            f"needs {what} with {amount}",
            f"{len(fitting)} of {len(build.sizes)} have that",
            len(fitting),
        )

    def _judge(self, level: Level) -> float:
        if self.memory_bytes:
            top = level.top
            if len(top) < self.devices or top[self.devices - 1] < self.memory_bytes:
                return NOT
        elif level.wholes < self.devices:
            return NOT
        positions = self.choose(level.build, level.free)
        if positions is None:
            return NOT
        return suits(level.build, level.worth, level.free, positions, self.memory_bytes)


class Shapes:
    """The shapes asked for so far, over one set of builds."""

    KEPT_MAX = 4096

    def __init__(self, builds: Iterable[Build]) -> None:
        self._builds = tuple(builds)
        self._kinds = tuple(sorted({build.kind for build in self._builds}))
        self._shapes: dict[object, Shape] = {}

    def of(self, plan: WorkerPlan, runtime_of: RuntimeOf) -> Shape:
        runtimes = {kind: runtime_of(plan, kind) for kind in self._kinds}
        placement = plan.placement
        key = (
            plan.devices,
            plan.memory_bytes,
            placement.device_model,
            placement.island,
            tuple(sorted(placement.labels.items())),
            tuple(runtimes.values()),
        )
        shape = self._shapes.get(key)
        if shape is None:
            if len(self._shapes) >= self.KEPT_MAX:
                self._shapes.clear()
            shape = self._shapes[key] = Shape(Wish(plan, runtimes), self._builds)
        return shape

    def kinds(self) -> tuple[DeviceKind, ...]:
        return self._kinds
