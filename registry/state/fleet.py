"""Nodes, their devices, and how these are shared out."""

from enum import StrEnum

from registry.state.value import Value


class NodeState(StrEnum):
    READY = "ready"
    CORDONED = "cordoned"  # keeps its workers, gets no new ones
    DRAINING = "draining"  # gets no new ones, and its workers move away
    UNKNOWN = "unknown"  # no report for a while


class DeviceKind(StrEnum):
    CPU = "cpu"
    CUDA = "cuda"


class Device(Value, frozen=True, kw_only=True):
    """One GPU, one MIG instance of a GPU, or one CPU slot. *memory_bytes* is what claims may share
    out, *used_bytes* what was last seen in use, by whomever. Devices of one *island* of their node
    are joined by NVLink; "" is in none. With a *quarantine*, the sentence that says why, it takes
    nothing new. *overuse* says that its workers use more than they claim, and how much; else "".
    """

    id: str  # "<node>/<kind><index>"
    node: str
    index: int
    kind: DeviceKind
    model: str
    memory_bytes: int
    uuid: str = ""  # NVIDIA's name for it, which engines are given where an index would not do
    island: str = ""
    used_bytes: int = 0
    quarantine: str = ""
    overuse: str = ""


class Node(Value, frozen=True, kw_only=True):
    name: str
    address: str
    state: NodeState
    device_kind: DeviceKind
    runtimes: tuple[str, ...]  # installed engine environments, by name
    labels: dict[str, str]
    last_seen_at: float
    sources: tuple[str, ...] = ()  # whose weights lie there, ready to load


class NodeReport(Value, frozen=True, kw_only=True):
    """What a node says of itself."""

    name: str
    address: str
    device_kind: DeviceKind
    runtimes: tuple[str, ...]
    labels: dict[str, str]
    devices: tuple[Device, ...]
    sources: tuple[str, ...] = ()


class Quota(Value, frozen=True, kw_only=True):
    """What the workers of an owner's models may hold at once; None is no limit. A whole device
    counts with all of its memory, a share with its bytes; any part of a device is one device.
    """

    owner: str
    devices: int | None = None
    memory_bytes: int | None = None


class Pool(Value, frozen=True, kw_only=True):
    """How models that share devices do it: their claims awake may add up to *overcommit* times what
    a device has, of which at most what it has is awake. A worker stays awake for *awake_min_s*.
    """

    name: str
    overcommit: float = 4.0
    awake_min_s: float = 30.0
