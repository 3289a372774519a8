"""Workers: what is asked for, what is planned, what runs."""

from enum import StrEnum

from registry.engine_args import Arg
from registry.spec import EngineName, Locality, Placement, Role, Task
from registry.state.value import Value


class Phase(StrEnum):
    """Where a worker is in its life. ASSIGNED … STOPPING are live and hold claims. One whose engine
    was stopped to sleep begins at ASSIGNED when it wakes.
    """

    ASSIGNED = "assigned"  # claimed, its supervisor not yet seen
    PREPARING = "preparing"  # fetching or converting weights
    STARTING = "starting"  # the engine runs but has not answered a real generation
    READY = "ready"
    FALLING_ASLEEP = "falling-asleep"  # gets no new request, finishes what it has, then sleeps
    ASLEEP = "asleep"  # keeps its place, holds less of its devices, or nothing
    WAKING = "waking"  # its engine was told to; not yet seen to generate
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
        Phase.FALLING_ASLEEP,
        Phase.ASLEEP,
        Phase.WAKING,
        Phase.DRAINING,
        Phase.STOPPING,
    }
)


ENDED_PHASES = frozenset(Phase) - LIVE_PHASES


LEAVING_PHASES = frozenset({Phase.DRAINING, Phase.STOPPING})
# What a worker holds of its devices is about to be free, or most of it.
MAKES_ROOM_PHASES = LEAVING_PHASES | {Phase.FALLING_ASLEEP}


# Out of traffic on purpose, and filling their slot: only `wake_worker` leads back.
SLEEPING_PHASES = frozenset({Phase.FALLING_ASLEEP, Phase.ASLEEP})


class SleepMode(StrEnum):
    """What a sleeping worker's engine still holds."""

    AWAKE = ""
    WEIGHTS_ON_HOST = "weights-on-host"  # vLLM's level 1, SGLang's release with a copy in memory
    WEIGHTS_DROPPED = "weights-dropped"  # vLLM's level 2
    STOPPED = "stopped"  # no process at all: waking starts the engine anew


class ExternalPlan(Value, frozen=True, kw_only=True):
    """An engine that somebody else runs. *bootstrap_port* is an SGLang prefill worker's, else 0;
    *token_file* (of the controller's machine) holds its key; *served_name* is the model's name
    there. Empty: it has no key, and the same name.
    """

    url: str
    bootstrap_port: int
    token_file: str
    served_name: str


class WorkerPlan(Value, frozen=True, kw_only=True):
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
    sleeps: bool = False  # its engine is started so that it can be put to sleep
    task: Task = Task.GENERATE
    owner: str = "default"
    priority: int = 100
    min_available: int = 0
    locality: Locality = Locality.PREFER

    @property
    def slot(self) -> tuple[str, str, Role, int]:
        return (self.model, self.variant, self.role, self.ordinal)


class DeviceClaim(Value, frozen=True, kw_only=True):
    device_id: str
    memory_bytes: int


class PlannedWorker(Value, frozen=True, kw_only=True):
    """A worker with its place: node, runtime and the memory it takes of each device."""

    plan: WorkerPlan
    node: str
    runtime: str
    claims: tuple[DeviceClaim, ...]


class PlannedGang(Value, frozen=True, kw_only=True):
    """Workers placed together or not at all: *asleep* where they claim nothing until they wake."""

    workers: tuple[PlannedWorker, ...]
    asleep: bool = False


class Claim(Value, frozen=True, kw_only=True):
    worker_id: str
    device_id: str
    memory_bytes: int


class Worker(Value, frozen=True, kw_only=True):
    """One incarnation of a slot. Ended workers stay as history and hold no claim."""

    id: str
    plan: WorkerPlan
    node: str  # "" for an external one: it is on no node of ours
    runtime: str
    phase: Phase
    reason: str  # a sentence for people: what it waits for, or why it ended
    url: str  # "http://host:port" once known, else ""
    sleep_mode: SleepMode = SleepMode.AWAKE  # how it sleeps, or is about to
    departing: bool = False  # another worker may fill its slot: it goes, now or after that one
    events_url: str = ""  # where it publishes what its KV cache holds, as ZeroMQ names it; "" = not
    kv_port: int = 0  # where its KV is handed over, as the engine was told; 0 until known
    turned_at: float = 0.0  # when it last fell asleep or was woken; 0: never
    token: str  # the engine's own bearer key; never shown by the admin API
    created_at: float
    ready_at: float | None
    ended_at: float | None

    @property
    def begun_at(self) -> float:
        """When it was placed, or last woken: its start is counted from then."""
        return self.turned_at or self.created_at

    @property
    def has_process(self) -> bool:
        """Whether its node is to know of it."""
        return not (self.phase is Phase.ASLEEP and self.sleep_mode is SleepMode.STOPPED)

    def __repr__(self) -> str:  # the token must not reach a log by way of repr
        return f"<Worker {self.id} {self.phase} on {self.node}>"
