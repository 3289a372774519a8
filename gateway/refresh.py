"""Keeps a gateway's routing table up with the registry."""

import asyncio
from typing import Protocol

import structlog

from gateway.dataplane import DataPlane
from gateway.routing.table import build_table
from registry.state import Snapshot

# Events are hints to look sooner; this is how long anything can stay unseen without one.
_FULL_LOOK_S = 10.0
_PAUSE_S_MAX = 5.0

_log = structlog.get_logger("gateway.refresh")


class Source(Protocol):
    """The part of `registry.store.Store` that routing needs."""

    async def version(self) -> int: ...

    async def snapshot(self) -> Snapshot: ...


async def follow(store: Source, dataplane: DataPlane, *, poll_s: float = 0.2) -> None:
    """Swaps the table whenever the registry has changed, until cancelled.

    While the registry cannot be read the last table goes on serving: inference does not depend
    on the database being up.
    """
    loop = asyncio.get_running_loop()
    seen, looked_at, failures = -1, 0.0, 0
    while True:
        try:
            version = await store.version()
            if version != seen or loop.time() - looked_at >= _FULL_LOOK_S:
                snapshot = await store.snapshot()
                dataplane.table = build_table(snapshot)
                seen, looked_at = snapshot.version, loop.time()
            if failures:
                _log.info("registry-back", failures=failures)
            failures = 0
        except Exception as error:  # noqa: BLE001 - whatever it is, serving goes on
            failures += 1
            if failures == 1:
                _log.warning("registry-unreadable", error=str(error)[:300])
        await asyncio.sleep(
            min(poll_s * 2 ** min(failures, 10), _PAUSE_S_MAX) if failures else poll_s
        )
