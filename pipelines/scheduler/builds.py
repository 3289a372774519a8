"""What nodes are like, so that what is alike is judged once.

Nodes of one *build* differ in nothing that a filter looks at; those of one *level* also have the
same memory free, device by device. A fleet of a thousand nodes has a few dozen builds, and seldom
more than some hundred levels.
"""

from collections.abc import Iterable, Sequence
from heapq import heappop, heappush

from registry.state import Device, DeviceKind, Node, NodeState

Free = tuple[int, ...]  # bytes, by a host's own order of its devices
Neighbourhood = tuple[str, str]  # failure domain ("" = each node is its own), fabric ("" = none)

_GB = 1e-9


class Group:
    """The hosts of a level in one neighbourhood, by number; the lowest one goes first."""

    __slots__ = ("_heap", "members")

    def __init__(self) -> None:
        self.members: set[int] = set()
        self._heap: list[int] = []

    def add(self, host: int) -> None:
        self.members.add(host)
        heappush(self._heap, host)

    def first(self) -> int:
        heap, members = self._heap, self.members
        while heap[0] not in members:
            heappop(heap)
        return heap[0]

    def first_but(self, others: Iterable[int]) -> int | None:
        first = self.first()
        if first not in others:
            return first
        return min(self.members.difference(others), default=None)


class Level:
    """Hosts of one build with the same memory free. *top* is what is free, most first; *worth* what
    its holes are worth.
    """

    __slots__ = ("build", "free", "groups", "top", "wholes", "worth")

    def __init__(self, build: "Build", free: Free) -> None:
        self.build = build
        self.free = free
        self.top = sorted((free[position] for position in build.usable), reverse=True)
        self.wholes = sum(free[position] == build.sizes[position] for position in build.usable)
        self.worth = build.worth(free)
        self.groups: dict[Neighbourhood, Group] = {}

    def first(self) -> int:
        return min(group.first() for group in self.groups.values())


class Build:
    """What all its nodes have. Positions count their devices in the order of `in_order`."""

    def __init__(self, node: Node, devices: Sequence[Device], labels: dict[str, str]) -> None:
        self.state: NodeState = node.state
        self.kind: DeviceKind = node.device_kind
        self.runtimes = frozenset(node.runtimes)
        self.labels = labels
        self.models = tuple(device.model for device in devices)
        self.sizes = tuple(device.memory_bytes for device in devices)
        self.usable = tuple(i for i, device in enumerate(devices) if not device.quarantine)
        self.quarantine = next((d.quarantine for d in devices if d.quarantine), "")
        self.has_islands = any(device.island for device in devices)
        self.joined = _joined(devices)
        self.island_of = {i: island for island in self.joined for i in island}
        self.levels: dict[Level, None] = {}  # those that hosts have now
        self._known: dict[Free, Level] = {}
        self._blocks = _blocks(devices)

    @property
    def is_ready(self) -> bool:
        return self.state is NodeState.READY

    def level(self, free: Free) -> Level:
        """The level of a host with *free*: the order of devices that are alike says nothing."""
        if len(self._blocks) == 1:
            canonical = tuple(sorted(free))
        else:
            canonical = tuple(f for a, b in self._blocks for f in sorted(free[a:b]))
        level = self._known.get(canonical)
        if level is None:
            level = self._known[canonical] = Level(self, canonical)
        return level

    def worth(self, free: Sequence[int]) -> float:
        """What holes are worth: a device's, an island's and the node's, each the square of its
        size, since one hole of 8 serves what 8 of 1 cannot. Only whole devices count above the
        device.
        """
        total = node = 0.0
        sizes = self.sizes
        for island in self.joined:
            whole = 0.0
            for position in island:
                left = free[position]
                if left > 0:
                    size = left * _GB
                    total += size * size
                    if left == sizes[position]:
                        whole += size
            total += whole * whole
            node += whole
        return total + node * node


def in_order(devices: Iterable[Device]) -> tuple[Device, ...]:
    """A node's devices, those that are alike beside each other."""
    return tuple(
        sorted(devices, key=lambda d: (d.island, d.memory_bytes, d.model, d.quarantine, d.index))
    )


def build_key(node: Node, devices: Sequence[Device], labels: dict[str, str]) -> object:
    """Equal for nodes of one build; what islands are called says nothing."""
    names: dict[str, int] = {"": -1}
    return (
        node.device_kind,
        node.state,
        tuple(
            (names.setdefault(d.island, len(names)), d.memory_bytes, d.model, d.quarantine)
            for d in devices
        ),
        node.runtimes,
        tuple(sorted(labels.items())),
    )


def _joined(devices: Sequence[Device]) -> tuple[tuple[int, ...], ...]:
    """The positions of each island; a device in none is by itself."""
    islands: dict[str, list[int]] = {}
    for position, device in enumerate(devices):
        islands.setdefault(device.island or f"alone {position}", []).append(position)
    return tuple(map(tuple, islands.values()))


def _blocks(devices: Sequence[Device]) -> tuple[tuple[int, int], ...]:
    """Ranges of positions whose devices are alike."""
    ends: list[tuple[int, int]] = []
    before: object = None
    for position, device in enumerate(devices):
        alike = (device.island, device.memory_bytes, device.model, device.quarantine)
        if alike == before:
            ends[-1] = (ends[-1][0], position + 1)
        else:
            ends.append((position, position + 1))
        before = alike
    return tuple(ends)
