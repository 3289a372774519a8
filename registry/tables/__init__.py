"""The tables. Values and their meaning are in `registry.state`; here is what the database guards.

Two guards are on purpose doubled by checks in `registry.store`: `devices.claimed_bytes` can't pass
the device's memory, and a slot can't have two workers of one fingerprint that are to stay.
"""

from registry.tables.access import (
    AccountRow,
    KeyRow,
    SessionRow,
    SpendingRow,
    UsageRow,
)
from registry.tables.base import (
    Base,
)
from registry.tables.fleet import (
    ClaimRow,
    DeviceRow,
    LeaseRow,
    NodeRow,
    PoolRow,
    QuotaRow,
    WorkerRow,
)
from registry.tables.history import (
    AuditRow,
    EventRow,
)
from registry.tables.models import (
    ModelRow,
    ProfileRow,
    ProposalRow,
    RevisionRow,
    RolloutRow,
    RolloutTrafficRow,
    ScaleRow,
)
from registry.tables.signals import (
    DemandRow,
    TrafficRow,
)

__all__ = [
    "AccountRow",
    "AuditRow",
    "Base",
    "ClaimRow",
    "DemandRow",
    "DeviceRow",
    "EventRow",
    "KeyRow",
    "LeaseRow",
    "ModelRow",
    "NodeRow",
    "PoolRow",
    "ProfileRow",
    "ProposalRow",
    "QuotaRow",
    "RevisionRow",
    "RolloutRow",
    "RolloutTrafficRow",
    "ScaleRow",
    "SessionRow",
    "SpendingRow",
    "TrafficRow",
    "UsageRow",
    "WorkerRow",
]
