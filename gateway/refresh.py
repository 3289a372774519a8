"""Keeps a gateway's routing table up with the registry."""

import asyncio

import structlog

from gateway.dataplane import DataPlane
from gateway.routing.table import build_table
from gateway.snapshots import Snapshots
from registry.state import Snapshot

_PAUSE_S_MAX = 5.0

_log = structlog.get_logger("gateway.refresh")


async def follow(snapshots: Snapshots, dataplane: DataPlane, *, poll_s: float = 0.2) -> None:
    """Swaps the table whenever the registry was read anew, until cancelled.

    While the registry cannot be read the last table goes on serving: inference does not depend
    on the database being up.
    """
    seen: Snapshot | None = None
    failures = 0
    while True:
        try:
            snapshot = await snapshots.newest()
            if snapshot is not seen:
                dataplane.table = build_table(snapshot)
                seen = snapshot
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
