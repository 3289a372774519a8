"""The cluster backend protocol: what the controller asks of the machines.

Every call is idempotent by worker id: asked twice to start or to stop, a backend does it once.
"""

from collections.abc import AsyncIterator
from typing import Protocol

import msgspec

from registry.state import Device, NodeReport, Phase, Worker


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """What a backend saw of one worker.

    *phase* is PREPARING, STARTING (its engine process runs), STOPPING, STOPPED or FAILED. The last
    two are reported only once every process of the worker is gone: then its claim may be released.
    """

    worker_id: str
    node: str
    phase: Phase
    reason: str
    url: str  # "" until the engine has its address
    events_url: str = ""  # of its KV events, "" if it publishes none
    kv_port: int = 0  # where its KV is handed over, 0 until it is known


class Sighting(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen in one look: the *workers* of the *nodes* that answered, ended ones until they
    are forgotten. Of what is on other nodes nothing is known.
    """

    nodes: frozenset[str]
    workers: tuple[Observation, ...]


class Cluster(Protocol):
    """Raises ClusterError when a machine, or the whole cluster, can't do what is asked."""

    async def inventory(self) -> tuple[NodeReport, ...]:
        """What the nodes that answer offer, now."""

    async def aclose(self) -> None:
        """Lets go of the cluster; workers go on."""

    async def start(self, worker: Worker, devices: tuple[Device, ...]) -> None:
        """Starts the supervisor of a worker that holds *devices*.

        Returns once it runs, long before the engine is up.
        """

    async def stop(self, node: str, worker_id: str) -> None:
        """Asks for the end of the worker's whole process tree; `observe` tells when it is gone."""

    async def observe(self) -> Sighting:
        """Every worker that the nodes know of. Raises ClusterError only where nothing at all can be
        said; a node that does not answer is left out.
        """

    async def forget(self, node: str, worker_id: str) -> None:
        """The registry has recorded the end: the backend's state may go (its log stays a while)."""

    def logs(
        self, node: str, worker_id: str, *, tail_lines: int, follow: bool
    ) -> AsyncIterator[bytes]:
        """The worker's log from *tail_lines* before its end; with *follow* until it ends."""


class ClusterError(Exception):
    """A machine could not do what was asked; the message says what and what to look at."""
