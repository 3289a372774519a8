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
    phase: Phase
    reason: str
    url: str  # "" until the engine has its address
    events_url: str = ""  # of its KV events, "" if it publishes none
    kv_port: int = 0  # where its KV is handed over, 0 until it is known


class Cluster(Protocol):
    """Raises ClusterError when a machine can't do what is asked."""

    async def inventory(self) -> tuple[NodeReport, ...]:
        """The nodes and what they offer, now."""

    async def start(self, worker: Worker, devices: tuple[Device, ...]) -> None:
        """Starts the supervisor of a worker that holds *devices*.

        Returns once it runs, long before the engine is up.
        """

    async def stop(self, worker_id: str) -> None:
        """Asks for the end of the worker's whole process tree; `observe` tells when it is gone."""

    async def observe(self) -> tuple[Observation, ...]:
        """Every worker the backend knows of, ended ones until they are forgotten."""

    async def forget(self, worker_id: str) -> None:
        """The registry has recorded the end: the backend's state may go (its log stays a while)."""

    def logs(self, worker_id: str, *, tail_lines: int, follow: bool) -> AsyncIterator[bytes]:
        """The worker's log from *tail_lines* before its end; with *follow* until it ends."""


class ClusterError(Exception):
    """A machine could not do what was asked; the message says what and what to look at."""
