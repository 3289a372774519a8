"""What Prometheus is told of the fleet: its devices, as this process last read the registry."""

import asyncio
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress

from prometheus_client.core import GaugeMetricFamily

from gateway.exposition import text_of
from gateway.snapshots import Snapshots
from registry.errors import UnavailableError
from registry.state import Claim, Device, DeviceKind

_READ_S_MAX = 2.0


async def fleet_text(snapshots: Snapshots) -> bytes:
    """Nothing while the registry is away: what the gateway counts itself is told all the same."""
    with suppress(UnavailableError, TimeoutError):
        async with asyncio.timeout(_READ_S_MAX):
            snapshot = await snapshots.newest()
        return await asyncio.to_thread(
            lambda: text_of(device_families(snapshot.devices, snapshot.claims))
        )
    return b""


def device_families(
    devices: Iterable[Device], claims: Iterable[Claim]
) -> tuple[GaugeMetricFamily, GaugeMetricFamily]:
    """What is in use is seen of GPUs only."""
    memory = GaugeMetricFamily(
        "modelyard_device_memory_bytes",
        "Memory of a device: total, claimed by workers, and used by whomever (of GPUs).",
        labels=("node", "device", "of"),
    )
    quarantined = GaugeMetricFamily(
        "modelyard_device_quarantined",
        "1 while a device takes no new worker, as another program uses it.",
        labels=("node", "device"),
    )
    claimed_bytes: Counter[str] = Counter()
    for claim in claims:
        claimed_bytes[claim.device_id] += claim.memory_bytes
    for device in devices:
        labels = (device.node, device.id.removeprefix(f"{device.node}/"))
        memory.add_metric((*labels, "total"), device.memory_bytes)
        memory.add_metric((*labels, "claimed"), claimed_bytes[device.id])
        if device.kind is DeviceKind.CUDA:
            memory.add_metric((*labels, "used"), device.used_bytes)
        quarantined.add_metric(labels, bool(device.quarantine))
    return memory, quarantined
