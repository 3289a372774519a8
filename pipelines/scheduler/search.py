"""The best host for one worker, among those that have room for it now."""

from collections.abc import Iterator

import msgspec

from pipelines.scheduler.builds import Level
from pipelines.scheduler.fleet import Fleet
from pipelines.scheduler.hosts import Host
from pipelines.scheduler.scorers import Company
from pipelines.scheduler.shapes import NOT, Shape
from registry.state import DeviceKind


class Scope(msgspec.Struct, frozen=True):
    """Where to look: hosts of a *kind* of device, of a *fabric*, or *host* alone. None is any."""

    kind: DeviceKind | None = None
    fabric: str | None = None
    host: int | None = None

    def holds(self, host: Host) -> bool:
        return (
            (self.host is None or self.host == host.number)
            and (self.kind is None or self.kind is host.build.kind)
            and (self.fabric is None or self.fabric == host.fabric)
        )


EVERYWHERE = Scope()


def room_for_both(level: Level, one: Shape, other: Shape) -> bool:
    """Whether a worker of each shape finds room there, roughly: on devices of their own, or with
    memory for both on the same ones.
    """
    first, second = one.memory_bytes, other.memory_bytes
    count = one.devices + other.devices
    if not first and not second:
        return level.wholes >= count
    top = level.top
    if len(top) >= count and top[count - 1] >= max(
        first or level.build.sizes[0], second or level.build.sizes[0]
    ):
        return True
    most = max(one.devices, other.devices)
    return bool(first and second and len(top) >= most and top[most - 1] >= first + second)


def find(
    fleet: Fleet,
    shape: Shape,
    company: Company,
    scope: Scope,
    *,
    beside: Shape | None = None,
    bytes_left: int | None = None,
) -> Host | None:
    """The host with the highest score, of equal ones the first by name.

    *beside*: the shape of a partner that has no place yet, for which there should be room, too;
    *bytes_left*: what the worker may take in all.
    """
    if scope.host is not None:
        host = fleet.hosts[scope.host]
        fits = scope.holds(host) and _fit(shape, host.level, bytes_left) != NOT
        return host if fits else None
    best, found = float("-inf"), -1
    for level, suited in _levels(shape, scope, bytes_left):
        score = company.weights.pack * suited + _lookahead(level, shape, beside, company)
        for neighbourhood, group in level.groups.items():
            if scope.fabric is not None and neighbourhood[1] != scope.fabric:
                continue
            total = score + company.elsewhere(neighbourhood)
            if total < best:
                continue
            first = group.first_but(company.hosts)
            if first is not None and (total > best or first < found):
                best, found = total, first
    for number in company.hosts:
        host = fleet.hosts[number]
        if scope.holds(host) and (suited := _fit(shape, host.level, bytes_left)) != NOT:
            total = company.weights.pack * suited + company.on(host)
            total += _lookahead(host.level, shape, beside, company)
            if total > best or (total == best and number < found):
                best, found = total, number
    return fleet.hosts[found] if found >= 0 else None


def _lookahead(level: Level, shape: Shape, beside: Shape | None, company: Company) -> float:
    if beside is None or not room_for_both(level, shape, beside):
        return 0.0
    return company.weights.near


def _levels(shape: Shape, scope: Scope, bytes_left: int | None) -> Iterator[tuple[Level, float]]:
    for offer in shape.offers:
        if scope.kind is None or offer.build.kind is scope.kind:
            for level in offer.build.levels:
                suited = shape.fit(level)
                if suited != NOT and (bytes_left is None or _fit(shape, level, bytes_left) != NOT):
                    yield level, suited


def _fit(shape: Shape, level: Level, bytes_left: int | None) -> float:
    suited = shape.fit(level)
    if suited == NOT or bytes_left is None:
        return suited
    positions = shape.choose(level.build, level.free)
    assert positions is not None
    return suited if shape.bytes_of(level.build, positions) <= bytes_left else NOT
