"""What the registry holds, as values: the words every other package speaks.

Frozen and without behaviour that reaches outside; times are seconds since the epoch, sizes bytes.
"""

import math
from datetime import UTC, datetime, timedelta
from enum import StrEnum

import msgspec

from registry.engine_args import Arg
from registry.spec import EngineName, Locality, ModelSpec, Placement, Role, Task


class _Value(msgspec.Struct, frozen=True, kw_only=True):
    pass


class Phase(StrEnum):
    """Where a worker is in its life. ASSIGNED … STOPPING are live and hold claims."""

    ASSIGNED = "assigned"  # claimed, its supervisor not yet seen
    PREPARING = "preparing"  # fetching or converting weights
    STARTING = "starting"  # the engine runs but has not answered a real generation
    READY = "ready"
    DRAINING = "draining"  # gets no new request, finishes what it has
    STOPPING = "stopping"
    STOPPED = "stopped"  # ended as asked; its processes are gone
    FAILED = "failed"  # ended by itself; its processes are gone
    LOST = "lost"  # its node was fenced


LIVE_PHASES = frozenset(
    {
        Phase.ASSIGNED,
        Phase.PREPARING,
        Phase.STARTING,
        Phase.READY,
        Phase.DRAINING,
        Phase.STOPPING,
    }
)
ENDED_PHASES = frozenset(Phase) - LIVE_PHASES
LEAVING_PHASES = frozenset({Phase.DRAINING, Phase.STOPPING})


class NodeState(StrEnum):
    READY = "ready"
    CORDONED = "cordoned"  # keeps its workers, gets no new ones
    DRAINING = "draining"  # gets no new ones, and its workers move away
    UNKNOWN = "unknown"  # no report for a while


class DeviceKind(StrEnum):
    CPU = "cpu"
    CUDA = "cuda"


class EventKind(StrEnum):
    MODEL_APPLIED = "model-applied"
    MODEL_DELETED = "model-deleted"
    NODE_CHANGED = "node-changed"
    WORKER_PLACED = "worker-placed"
    WORKER_PHASE = "worker-phase"
    MODEL_CONDITION = "model-condition"
    QUOTA_CHANGED = "quota-changed"
    LEADER_CHANGED = "leader-changed"
    KEY_CREATED = "key-created"
    KEY_CHANGED = "key-changed"
    KEY_ROTATED = "key-rotated"
    KEY_REVOKED = "key-revoked"


class KeyKind(StrEnum):
    """Which listener a key opens: they are separate, and neither opens the other."""

    INFERENCE = "inference"
    ADMIN = "admin"


class Priority(StrEnum):
    """Whose request leaves a model's queue first. Says nothing where nothing queues."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"

    @property
    def rank(self) -> int:
        """0 goes first."""
        return _RANKS[self]


_RANKS = {priority: rank for rank, priority in enumerate(Priority)}

NANO = 1_000_000_000  # parts of a unit of currency: what money is counted in, exactly


class BudgetWindow(msgspec.Struct, frozen=True):
    """One day, month or all time: times *begins_at* <= t < *ends_at*; *name* as in ``2026-11``."""

    name: str
    begins_at: float
    ends_at: float


class BudgetPeriod(StrEnum):
    """When a budget starts anew: with each day or month, in UTC, or never."""

    DAY = "day"
    MONTH = "month"
    TOTAL = "total"

    def window(self, at: float) -> BudgetWindow:
        """The one that the time *at* lies in."""
        if self is BudgetPeriod.TOTAL:
            return BudgetWindow("total", -math.inf, math.inf)
        first = datetime.fromtimestamp(at, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        if self is BudgetPeriod.DAY:
            name, last = f"{first:%Y-%m-%d}", first + timedelta(days=1)
        else:
            first = first.replace(day=1)
            name, last = f"{first:%Y-%m}", (first + timedelta(days=32)).replace(day=1)
        return BudgetWindow(name, first.timestamp(), last.timestamp())


class KeyLimits(_Value, frozen=True, kw_only=True):
    """What a key may use at most, over all gateway processes; 0 is no limit.

    *tokens_per_minute* are prompt and answer together; *in_flight* requests at once; *budget_nano*
    what its tokens may cost in a *budget_period*, by the prices of the models.
    """

    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    in_flight: int = 0
    budget_nano: int = 0
    budget_period: BudgetPeriod = BudgetPeriod.MONTH


NO_KEY_LIMITS = KeyLimits()


class Device(_Value, frozen=True, kw_only=True):
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


class Node(_Value, frozen=True, kw_only=True):
    name: str
    address: str
    state: NodeState
    device_kind: DeviceKind
    runtimes: tuple[str, ...]  # installed engine environments, by name
    labels: dict[str, str]
    last_seen_at: float
    sources: tuple[str, ...] = ()  # whose weights lie there, ready to load


class NodeReport(_Value, frozen=True, kw_only=True):
    """What a node says of itself."""

    name: str
    address: str
    device_kind: DeviceKind
    runtimes: tuple[str, ...]
    labels: dict[str, str]
    devices: tuple[Device, ...]
    sources: tuple[str, ...] = ()


class ExternalPlan(_Value, frozen=True, kw_only=True):
    """An engine that somebody else runs. *bootstrap_port* is an SGLang prefill worker's, else 0;
    *token_file* (of the controller's machine) holds its key; *served_name* is the model's name
    there. Empty: it has no key, and the same name.
    """

    url: str
    bootstrap_port: int
    token_file: str
    served_name: str


class WorkerPlan(_Value, frozen=True, kw_only=True):
    """One worker that a spec asks for: everything about it except where it runs.

    (*model*, *variant*, *role*, *ordinal*) is its slot, which outlives the workers that fill it.
    *fingerprint* changes exactly when a running worker would have to be replaced. *owner*,
    *priority* and *min_available* (of its role) may change under it: of a worker that runs they
    are what they were at its start, and the model's spec says what they are.
    """

    model: str
    revision: int
    variant: str
    role: Role
    ordinal: int
    fingerprint: str
    engine: EngineName
    runtime: str  # "" = the engine's default on the node's kind of device
    source: str
    transfer: str  # "" for a unified worker
    devices: int
    memory_bytes: int  # of each device; 0 = the whole device
    tensor_parallel: int
    pipeline_parallel: int
    args: dict[str, Arg]
    placement: Placement = Placement()
    external: ExternalPlan | None = None  # then it is only reached, never placed or started
    kv_events: bool = False  # it tells which blocks its KV cache holds
    task: Task = Task.GENERATE
    owner: str = "default"
    priority: int = 100
    min_available: int = 0
    locality: Locality = Locality.PREFER

    @property
    def slot(self) -> tuple[str, str, Role, int]:
        return (self.model, self.variant, self.role, self.ordinal)


class DeviceClaim(_Value, frozen=True, kw_only=True):
    device_id: str
    memory_bytes: int


class PlannedWorker(_Value, frozen=True, kw_only=True):
    """A worker with its place: node, runtime and the memory it takes of each device."""

    plan: WorkerPlan
    node: str
    runtime: str
    claims: tuple[DeviceClaim, ...]


class PlannedGang(_Value, frozen=True, kw_only=True):
    """Workers placed together or not at all."""

    workers: tuple[PlannedWorker, ...]


class Claim(_Value, frozen=True, kw_only=True):
    worker_id: str
    device_id: str
    memory_bytes: int


class Worker(_Value, frozen=True, kw_only=True):
    """One incarnation of a slot. Ended workers stay as history and hold no claim."""

    id: str
    plan: WorkerPlan
    node: str  # "" for an external one: it is on no node of ours
    runtime: str
    phase: Phase
    reason: str  # a sentence for people: what it waits for, or why it ended
    url: str  # "http://host:port" once known, else ""
    departing: bool = False  # another worker may fill its slot: it goes, now or after that one
    events_url: str = ""  # where it publishes what its KV cache holds, as ZeroMQ names it; "" = not
    kv_port: int = 0  # where its KV is handed over, as the engine was told; 0 until known
    token: str  # the engine's own bearer key; never shown by the admin API
    created_at: float
    ready_at: float | None
    ended_at: float | None

    def __repr__(self) -> str:  # the token must not reach a log by way of repr
        return f"<Worker {self.id} {self.phase} on {self.node}>"


class Quota(_Value, frozen=True, kw_only=True):
    """What the workers of an owner's models may hold at once; None is no limit. A whole device
    counts with all of its memory, a share with its bytes; any part of a device is one device.
    """

    owner: str
    devices: int | None = None
    memory_bytes: int | None = None


class Lease(_Value, frozen=True, kw_only=True):
    """That *holder* leads. *epoch* grows with every term, so that what an earlier leader still
    writes can be told and refused. *expires_in_s* is by the database's clock, from when it was
    asked; at 0 or below nobody leads.
    """

    holder: str
    epoch: int
    expires_in_s: float


class Model(_Value, frozen=True, kw_only=True):
    """A model's current state. *generation* counts its writes and is the ETag."""

    name: str
    generation: int
    revision: int
    spec: ModelSpec
    created_at: float
    updated_at: float
    deleted: bool  # still listed while its last workers stop
    condition: str  # why it is not fully served, by the last reconciliation; "" when it is


class Revision(_Value, frozen=True, kw_only=True):
    model: str
    number: int
    spec: ModelSpec
    created_at: float
    created_by: str


class Key(_Value, frozen=True, kw_only=True):
    """An API key's public part. *digest* is the SHA-256 of the whole secret; *old_digest* that of
    the secret before the last rotation, good until *old_expires_at*.
    """

    id: str
    name: str
    kind: KeyKind
    digest: bytes
    models: tuple[str, ...]  # empty = all
    priority: Priority = Priority.NORMAL
    limits: KeyLimits = NO_KEY_LIMITS
    spent_nano: int = 0  # in its budget's present period, as far as the registry knows
    created_at: float
    expires_at: float | None
    revoked_at: float | None
    old_digest: bytes | None = None
    old_expires_at: float | None = None

    def __repr__(self) -> str:  # digests are nobody's business
        return f"<Key {self.id}>"


class Event(_Value, frozen=True, kw_only=True):
    id: int
    at: float
    kind: EventKind
    model: str
    worker: str
    node: str
    message: str


class AuditEntry(_Value, frozen=True, kw_only=True):
    id: int
    at: float
    actor: str
    action: str
    object: str
    before_revision: int | None
    after_revision: int | None
    request_id: str
    client_ip: str


class Principal(_Value, frozen=True, kw_only=True):
    """Who writes: for the audit row."""

    actor: str  # key id, or "controller"
    request_id: str = ""
    client_ip: str = ""


class Snapshot(_Value, frozen=True, kw_only=True):
    """A consistent view of everything scheduling and routing need, at event *version*.

    *workers* are the live ones; *ended* the recent history of the slots (for back-off).
    """

    version: int
    models: tuple[Model, ...]
    nodes: tuple[Node, ...]
    devices: tuple[Device, ...]
    workers: tuple[Worker, ...]
    ended: tuple[Worker, ...]
    claims: tuple[Claim, ...]
    keys: tuple[Key, ...]
    quotas: tuple[Quota, ...] = ()
