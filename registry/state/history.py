"""Who did what when, and who leads."""

from enum import StrEnum

from registry.state.access import AccessRole
from registry.state.value import Value


class EventKind(StrEnum):
    MODEL_APPLIED = "model-applied"
    MODEL_DELETED = "model-deleted"
    NODE_CHANGED = "node-changed"
    WORKER_PLACED = "worker-placed"
    WORKER_PHASE = "worker-phase"
    MODEL_CONDITION = "model-condition"
    QUOTA_CHANGED = "quota-changed"
    POOL_CHANGED = "pool-changed"
    LEADER_CHANGED = "leader-changed"
    ROLLOUT = "rollout"
    MODEL_SCALED = "model-scaled"
    PROPOSAL = "proposal"
    PROFILE = "profile"
    KEY_CREATED = "key-created"
    KEY_CHANGED = "key-changed"
    KEY_ROTATED = "key-rotated"
    KEY_REVOKED = "key-revoked"
    ACCOUNT_CHANGED = "account-changed"
    SIGN_IN = "sign-in"


class Lease(Value, frozen=True, kw_only=True):
    """That *holder* leads. *epoch* grows with every term, so that what an earlier leader still
    writes can be told and refused. *expires_in_s* is by the database's clock, from when it was
    asked; at 0 or below nobody leads.
    """

    holder: str
    epoch: int
    expires_in_s: float


class Event(Value, frozen=True, kw_only=True):
    id: int
    at: float
    kind: EventKind
    model: str
    worker: str
    node: str
    message: str


class AuditEntry(Value, frozen=True, kw_only=True):
    id: int
    at: float
    actor: str
    action: str
    object: str
    before_revision: int | None
    after_revision: int | None
    request_id: str
    client_ip: str


class Principal(Value, frozen=True, kw_only=True):
    """Who writes: for the audit row; and in what role, where that is asked for."""

    actor: str  # key id, "account:" and its name, or "controller"
    role: AccessRole = AccessRole.ADMIN
    request_id: str = ""
    client_ip: str = ""
