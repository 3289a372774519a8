"""What a node's own environment is, seen from one of Ray's processes on it."""

import platform
from collections.abc import Mapping
from pathlib import Path

_NODE_NAME = "MODELYARD_NODE_NAME"
# Ray's own; its variables may also hold its token, which no engine needs.
_RAY_PREFIX = "RAY_"
_RAY_NAMES = frozenset({"SPT_NOENV"})


def node_environment() -> dict[str, str]:
    """The environment of this node's `ray start`.

    Read from what this process began with: Ray changes `os.environ` of an actor that asks for no
    GPU (an empty CUDA_VISIBLE_DEVICES, OMP_NUM_THREADS), and engines must not inherit that.
    """
    return cleaned(Path("/proc/self/environ").read_bytes())


def cleaned(block: bytes) -> dict[str, str]:
    """A process's environment block without what Ray put into it."""
    pairs = (entry.partition("=") for entry in block.decode(errors="surrogateescape").split("\0"))
    return {
        name: value
        for name, equals, value in pairs
        if equals and not name.startswith(_RAY_PREFIX) and name not in _RAY_NAMES
    }


def named(environ: Mapping[str, str]) -> dict[str, str]:
    """With a name for the node: the one it was given, else its host's."""
    return {**environ, _NODE_NAME: environ.get(_NODE_NAME) or platform.node()}
