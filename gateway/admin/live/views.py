"""What the live routes answer, and the events of their stream, which have the same forms."""

from enum import StrEnum

from gateway.admin.status import RoleCount, ServingState
from gateway.admin.views import EventView, ModelSummary, RatesView, View
from registry.spec import EngineName, Role
from registry.state import Phase


class Severity(StrEnum):
    ERROR = "error"  # somebody gets no answer, or soon will get none
    WARNING = "warning"  # served, but not as it was asked for
    INFO = "info"  # somebody may want to decide something


class ProblemKind(StrEnum):
    """What has it: its page is where to look."""

    MODEL = "model"
    NODE = "node"
    DEVICE = "device"
    ROLLOUT = "rollout"
    CONTROLLER = "controller"
    PROPOSAL = "proposal"


class ProblemView(View, frozen=True, kw_only=True):
    """What is wrong with *name*, in a *sentence*, and what to do next (*advice*). *name* is a
    model's, except of a node, a device (its id) and the controller ("").
    """

    severity: Severity
    kind: ProblemKind
    name: str
    sentence: str
    advice: str


class CountsView(View, frozen=True, kw_only=True):
    """Of *models*, those that are *answering* requests now, those *asleep* that the next request
    wakes, and those *failing*: neither. *nodes_ready* take new workers.
    """

    models: int
    answering: int
    asleep: int
    failing: int
    workers_live: int
    workers_ready: int
    nodes: int
    nodes_ready: int
    devices: int


class FleetUseView(View, frozen=True, kw_only=True):
    """*devices_claimed* have a worker on them; *used_bytes* is what was last seen in use."""

    devices: int
    devices_claimed: int
    memory_bytes: int
    claimed_bytes: int
    used_bytes: int


class OverviewView(View, frozen=True, kw_only=True):
    """*problems* are the most severe first, and the first 100 of *problems_total*."""

    at: str
    counts: CountsView
    rates: RatesView
    fleet: FleetUseView
    problems: tuple[ProblemView, ...]
    problems_total: int


class FlowWorkerView(View, frozen=True, kw_only=True):
    """*running* and *waiting* requests and *kv_usage* (0 to 1) are its engine's own counts; rates
    are between two looks at them. Null where it is not ready, does not answer or counts no such
    thing.
    """

    id: str
    role: Role
    ordinal: int
    revision: int
    phase: Phase
    departing: bool
    node: str
    devices: tuple[str, ...]
    reason: str
    running: int | None
    waiting: int | None
    kv_usage: float | None
    prompt_tokens_per_s: float | None
    generation_tokens_per_s: float | None
    requests_per_s: float | None


class FlowVariantView(View, frozen=True, kw_only=True):
    """*percent* is the share of the model's traffic that it takes now, by its weight and who can
    serve. *paired_per_s* are the requests that prefill and decode shared; *kv_transfers_per_s* and
    *kv_failures_per_s* are by the engines' counts, null until two looks.
    """

    name: str
    state: ServingState
    weight: int
    percent: float
    topology: str
    engine: EngineName | None
    transfer: str
    rates: RatesView
    paired_per_s: float
    kv_transfers_per_s: float | None
    kv_failures_per_s: float | None
    roles: tuple[RoleCount, ...]
    workers: tuple[FlowWorkerView, ...]


class FlowView(View, frozen=True, kw_only=True):
    """Who feeds whom in a model, as of *at*."""

    name: str
    at: str
    state: ServingState
    rates: RatesView
    variants: tuple[FlowVariantView, ...]


class PointView(View, frozen=True, kw_only=True):
    """The requests that ended within a step that began *at*; times are null where none had one.
    *e2e* is from a request's arrival to its end.
    """

    at: str
    requests: int
    errors: int
    paired: int
    prompt_tokens: int
    completion_tokens: int
    ttft_p50_s: float | None
    ttft_p95_s: float | None
    tpot_p50_s: float | None
    tpot_p95_s: float | None
    e2e_p50_s: float | None
    e2e_p95_s: float | None


class SeriesView(View, frozen=True, kw_only=True):
    """Steps of *step_s* without a gap, oldest first; the last one has ended. *model* is "" where it
    is of all of them.
    """

    model: str
    step_s: float
    points: tuple[PointView, ...]


class ModelsEvent(View, frozen=True, kw_only=True):
    """The models that changed since the event before, and the names of those that are gone; with
    *whole* all there are: what is not among *items* is no more.
    """

    items: tuple[ModelSummary, ...]
    removed: tuple[str, ...]
    whole: bool


class LiveEvents(View, frozen=True, kw_only=True):
    """What the stream's events carry as data, by the event's name."""

    overview: OverviewView
    models: ModelsEvent
    flow: FlowView
    event: EventView
