"""The machines a plan is made for, by kind: what the planner needs to know of them."""

from collections.abc import Iterator
from itertools import combinations

from registry.spec.checks import Strict, check_range, check_text, refuse

GBIT = 125_000_000  # bytes
FABRIC_GBIT_S = 200.0  # a device's share of its node's network: half of one 400 Gbit/s port


class NodeKind(Strict, frozen=True, kw_only=True):
    """*count* nodes alike, each with *devices* of one *device_model* (as in a spec's placement:
    ``H100``), in islands of *island* devices (0: all of a node's are one). KV caches travel between
    nodes at *fabric_gbit_s* for each device. *cost* is what a device costs an hour, in any
    currency, to the thousandth.
    """

    device_model: str
    count: int = 1
    devices: int = 8
    island: int = 0
    fabric_gbit_s: float = FABRIC_GBIT_S
    cost: float = 1.0

    def __post_init__(self) -> None:
        check_text("device_model", self.device_model, 128)
        if not self.device_model:
            refuse("device_model", "is empty, allowed is a part of the devices' name, as in H100")
        check_range("count", self.count, 1, 10_000)
        check_range("devices", self.devices, 1, 64)
        check_range("island", self.island, 0, self.devices)
        if self.island and self.devices % self.island:
            refuse("island", f"is {self.island}, allowed is a divisor of {self.devices}")
        check_range("fabric_gbit_s", self.fabric_gbit_s, 0.001, 100_000)
        check_range("cost", self.cost, 0.001, 100_000)


class Fleet(Strict, frozen=True, kw_only=True):
    nodes: tuple[NodeKind, ...]

    def __post_init__(self) -> None:
        if not self.nodes:
            refuse("nodes", "are none, allowed is at least one kind of node")
        for one, two in combinations(self.nodes, 2):
            if one.device_model == two.device_model and one.cost != two.cost:
                refuse(
                    "nodes",
                    f"have {one.device_model} at a cost of {one.cost:g} and of {two.cost:g}, "
                    "allowed is one cost for a device_model",
                )

    @property
    def device_models(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(kind.device_model for kind in self.nodes))

    @property
    def devices(self) -> int:
        return sum(kind.count * kind.devices for kind in self.nodes)

    def devices_of(self, device_model: str) -> int:
        return sum(size for size, _ in self.bins(device_model))

    def cost(self, device_model: str) -> float:
        """Of one device an hour."""
        return next(kind.cost for kind in self.nodes if kind.device_model == device_model)

    def bins(self, device_model: str) -> Iterator[tuple[int, float]]:
        """What a worker must fit into: each island's size, and its fabric in bytes a second."""
        for kind in self.nodes:
            if kind.device_model == device_model:
                size = kind.island or kind.devices
                for _ in range(kind.count * (kind.devices // size)):
                    yield size, kind.fabric_gbit_s * GBIT

    def worker_max(self, device_model: str) -> int:
        """Devices that a worker may hold at most."""
        return max(size for size, _ in self.bins(device_model))

    def fabric_bytes_s(self, device_model: str) -> float:
        return min(speed for _, speed in self.bins(device_model))
