"""A plan as data: what the CLI's JSON, the admin API and the console show."""

from enum import StrEnum

import msgspec

from pipelines.planner.demand import Objective
from pipelines.planner.frontier import FrontierPoint


class TimesFrom(StrEnum):
    """Where step times come from."""

    MEASURED = "measured here"  # on this fleet: a profile
    DATA = "data"  # of this model, measured elsewhere
    ESTIMATE = "estimate"  # data of a model like it


class ShapeView(msgspec.Struct, frozen=True, kw_only=True):
    """*rate* in requests a second within the SLO; *tokens_per_device* answered a second."""

    shape: str
    family: str
    engine: str
    device_model: str
    devices: int
    rate: float
    tokens_per_device: float
    binding: str
    times: TimesFrom


class AlternativeView(msgspec.Struct, frozen=True, kw_only=True):
    """The fewest devices of this kind and family that serve all of the model's traffic alone."""

    family: str
    device_model: str
    shape: ShapeView | None


class ConfirmedView(msgspec.Struct, frozen=True, kw_only=True):
    """Played through at the planned rate with arrivals by other seeds: the share of the requests
    within the SLO, in the median and the worst of them; percentiles in seconds, of the median one.
    """

    share: float
    share_worst: float
    ttft_p95_s: float
    tpot_p95_s: float


class PoolView(msgspec.Struct, frozen=True, kw_only=True):
    """*places* of *devices* each, which more *models* than that take in turns: `modelyard pools set
    NAME --overcommit` lets them have their places there.
    """

    name: str
    device_model: str
    places: int
    devices: int
    models: tuple[str, ...]
    overcommit: float


class ModelPlanView(msgspec.Struct, frozen=True, kw_only=True):
    """*requests_per_s* is what is asked, which the rest is told of; it was planned for *headroom*
    more. *measured_as* names the model in the data whose times it has where it was not measured
    here, "" for none; *is_estimate*: that is another one, and the plan is made by it. *measured* is
    what was measured here, as in ``vllm on 1x H100``.
    """

    model: str
    requests_per_s: float
    headroom: float
    served: float
    goodput: float
    shapes: tuple[ShapeView, ...]
    pool: str
    why: str
    measured: tuple[str, ...]
    measured_as: str
    is_estimate: bool
    confirmed: ConfirmedView | None
    alternatives: tuple[AlternativeView, ...]
    frontier: tuple[FrontierPoint, ...]
    spec: dict[str, object] | None


class PlanView(msgspec.Struct, frozen=True, kw_only=True):
    """*cost* is that of the devices an hour. *gap*: by how much of itself the weighted sum of what
    is served may be too little, as the solver proved that it is *bound* at most (1 for each model
    of weight 1 that is served in full).
    """

    models: tuple[ModelPlanView, ...]
    pools: tuple[PoolView, ...]
    goodput: float
    objective: Objective
    devices: int
    cost: float
    devices_of_fleet: int
    devices_by_model: dict[str, int]
    gap: float
    bound: float
    rounds: int
    notes: tuple[str, ...]


class Noted(msgspec.Struct, frozen=True, kw_only=True, tag="noted", tag_field="kind"):
    """What is being done."""

    message: str


class Planned(msgspec.Struct, frozen=True, kw_only=True, tag="planned", tag_field="kind"):
    """The last line."""

    plan: PlanView


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag="failed", tag_field="kind"):
    """The last line where there is no plan. *field* names what of the input is not allowed."""

    message: str
    field: str = ""


Line = Noted | Planned | Failed
