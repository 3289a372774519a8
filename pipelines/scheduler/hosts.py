"""Hosts: nodes with what is free on each device, and what workers hold there."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pipelines.scheduler.builds import Build, Free, Level, Neighbourhood
from registry.state import Device, Node

FABRIC_LABEL = "fabric"
DOMAIN_LABELS = ("zone", "rack")
# Of what is in use beyond the claims on a device: below it is an engine's or a driver's own.
FOREIGN_BYTES_MIN = 2**30
FOREIGN_SHARE_MIN = 0.05


class Host:
    """A node. *foreign*: bytes in use that nobody claims, by position, where there are any."""

    __slots__ = (
        "build",
        "devices",
        "domain",
        "fabric",
        "foreign",
        "free",
        "level",
        "neighbourhood",
        "node",
        "number",
    )

    def __init__(
        self, number: int, node: Node, devices: tuple[Device, ...], build: Build, free: Free
    ) -> None:
        self.number = number
        self.node = node
        self.devices = devices
        self.build = build
        self.free = free
        self.level: Level = build.level(free)
        domain = next((node.labels[key] for key in DOMAIN_LABELS if node.labels.get(key)), "")
        self.fabric = node.labels.get(FABRIC_LABEL, "")
        self.domain: str | int = domain or number
        self.neighbourhood: Neighbourhood = (domain, self.fabric)
        self.foreign: dict[int, int] = {}


class Hold(NamedTuple):
    """What a worker holds of a host: bytes by position."""

    host: Host
    bytes_by_position: dict[int, int]


def foreign_use(devices: Sequence[Device], claimed: Mapping[str, int]) -> dict[int, int]:
    """Bytes in use that no claim explains. Workers that have just started use less than they
    claim, engines and drivers a little more: only what is clearly beyond counts.
    """
    surplus: dict[int, int] = {}
    for position, device in enumerate(devices):
        if device.used_bytes > FOREIGN_BYTES_MIN and not device.quarantine:
            over = device.used_bytes - claimed[device.id]
            if over > max(FOREIGN_BYTES_MIN, FOREIGN_SHARE_MIN * device.memory_bytes):
                room = device.memory_bytes - claimed[device.id]
                surplus[position] = min(over, max(room, 0))
    return surplus
