"""What the admin API answers about one model or one node, whole."""

from gateway.admin.plan_views import NoPlaceView
from gateway.admin.records import NodeView
from gateway.admin.rollout_views import RevisionPart
from gateway.admin.status import ServingState
from gateway.admin.views import EventView, RolloutSummary, VariantView, View, WorkerView
from registry.spec import ModelSpec


class ModelView(View, frozen=True, kw_only=True):
    """The whole picture of one model; *events* are its newest, oldest of them first. *no_place*
    says of what it lacks why no node takes it, *warnings* what of its spec may not be as meant.
    *rollout* is its newest, under way or ended; while one is, *revisions* tells them apart.
    """

    name: str
    state: ServingState
    condition: str
    generation: int
    revision: int
    created_at: str
    updated_at: str
    spec: ModelSpec
    rollout: RolloutSummary | None
    revisions: tuple[RevisionPart, ...]
    variants: tuple[VariantView, ...]
    no_place: tuple[NoPlaceView, ...]
    warnings: tuple[str, ...]
    events: tuple[EventView, ...]


class NodePage(View, frozen=True, kw_only=True):
    """A node, the workers on it, and why what lacks a place anywhere has none here. *conditions*:
    why models with workers here are not fully served.
    """

    node: NodeView
    workers: tuple[WorkerView, ...]
    no_place: tuple[NoPlaceView, ...]
    conditions: dict[str, str]
