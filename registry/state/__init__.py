"""What the registry holds, as values: the words every other package speaks.

Frozen and without behaviour that reaches outside; times are seconds since the epoch, sizes bytes.
"""

from registry.state.access import (
    AccessRole,
    Account,
    Session,
    account_actor,
)
from registry.state.fleet import (
    Device,
    DeviceKind,
    Node,
    NodeReport,
    NodeState,
    Pool,
    Quota,
)
from registry.state.history import (
    AuditEntry,
    Event,
    EventKind,
    Lease,
    Principal,
)
from registry.state.keys import (
    NANO,
    NO_KEY_LIMITS,
    BudgetPeriod,
    BudgetWindow,
    Key,
    KeyKind,
    KeyLimits,
    Priority,
)
from registry.state.models import (
    ACTIVE_ROLLOUT_STATES,
    Model,
    Proposal,
    Revision,
    RoleScale,
    Rollout,
    RolloutState,
    scales_that_stay,
)
from registry.state.profiles import (
    LoadPoint,
    Profile,
    StoredProfile,
)
from registry.state.snapshot import (
    Snapshot,
)
from registry.state.workers import (
    ENDED_PHASES,
    LEAVING_PHASES,
    LIVE_PHASES,
    MAKES_ROOM_PHASES,
    SLEEPING_PHASES,
    Claim,
    DeviceClaim,
    ExternalPlan,
    Phase,
    PlannedGang,
    PlannedWorker,
    SleepMode,
    Worker,
    WorkerPlan,
)

__all__ = [
    "ACTIVE_ROLLOUT_STATES",
    "ENDED_PHASES",
    "LEAVING_PHASES",
    "LIVE_PHASES",
    "MAKES_ROOM_PHASES",
    "NANO",
    "NO_KEY_LIMITS",
    "SLEEPING_PHASES",
    "AccessRole",
    "Account",
    "AuditEntry",
    "BudgetPeriod",
    "BudgetWindow",
    "Claim",
    "Device",
    "DeviceClaim",
    "DeviceKind",
    "Event",
    "EventKind",
    "ExternalPlan",
    "Key",
    "KeyKind",
    "KeyLimits",
    "Lease",
    "LoadPoint",
    "Model",
    "Node",
    "NodeReport",
    "NodeState",
    "Phase",
    "PlannedGang",
    "PlannedWorker",
    "Pool",
    "Principal",
    "Priority",
    "Profile",
    "Proposal",
    "Quota",
    "Revision",
    "RoleScale",
    "Rollout",
    "RolloutState",
    "Session",
    "SleepMode",
    "Snapshot",
    "StoredProfile",
    "Worker",
    "WorkerPlan",
    "account_actor",
    "scales_that_stay",
]
