"""What the admin API answers about plans: what would start, stop, wait, and what has no place."""

from collections.abc import Iterable

from gateway.admin.views import View
from pipelines.owners import OwnerUse
from pipelines.plan import Cause, Change, Plan, Start, Stop
from pipelines.refusals import ADVICE, NoPlace, no_places
from pipelines.scheduler import Defragmentation, Move, Reason, Why
from registry.spec import Role
from registry.state import Device, Phase, PlannedWorker, Snapshot, Worker

NODES_NAMED_MAX = 20
GROUPS_MAX = 20


class ChangeView(View, frozen=True, kw_only=True):
    model: str
    change: Change


class ShareView(View, frozen=True, kw_only=True):
    """*memory_bytes* of a device, which are the part *share* of it."""

    device: str
    memory_bytes: int
    share: float


class SlotView(View, frozen=True, kw_only=True):
    """A worker's place in its model, which others fill before and after it."""

    model: str
    variant: str
    role: Role
    ordinal: int


class StartView(SlotView, frozen=True, kw_only=True):
    """A worker that would start, *at_once* or *after* the named ones have ended; or it would be
    placed *asleep*, with nothing of its devices, and start when its model is asked for.
    """

    owner: str
    priority: int
    node: str
    runtime: str
    devices: tuple[ShareView, ...]
    at_once: bool
    replaces: str
    after: tuple[str, ...]
    asleep: bool


class StopView(SlotView, frozen=True, kw_only=True):
    """A worker that would stop, *at_once* or when what takes its slot is ready."""

    worker: str
    node: str
    cause: Cause
    reason: str
    at_once: bool


class KeptView(SlotView, frozen=True, kw_only=True):
    worker: str
    node: str
    phase: Phase


class ExternalView(SlotView, frozen=True, kw_only=True):
    url: str


class WaitView(View, frozen=True, kw_only=True):
    model: str
    reason: str


class WhyView(View, frozen=True, kw_only=True):
    """Why *node_count* nodes cannot take a worker, and what would help. *nodes* are the first."""

    reason: Reason
    sentence: str
    advice: str
    node_count: int
    nodes: tuple[str, ...]


class NoPlaceView(View, frozen=True, kw_only=True):
    """*workers* without a place: *together*, or each for itself. *role*, *ordinal* and what is
    asked for are of the one that fitted nowhere; *memory_bytes* 0 is whole devices. With
    *waits_for* a place is coming, when those have ended, or sleep.
    """

    model: str
    variant: str
    workers: tuple[str, ...]
    together: bool
    role: Role
    ordinal: int
    owner: str
    priority: int
    devices: int
    memory_bytes: int
    waits_for: tuple[str, ...]
    why: tuple[WhyView, ...]


class OwnerView(View, frozen=True, kw_only=True):
    """What an owner's models hold. A quota of null is none."""

    owner: str
    devices_quota: int | None
    memory_bytes_quota: int | None
    devices: int
    memory_bytes: int
    models: tuple[str, ...]


class OwnerList(View, frozen=True, kw_only=True):
    items: tuple[OwnerView, ...]


class OwnerPlanView(View, frozen=True, kw_only=True):
    """The same in a plan: held *now*, and *then*."""

    owner: str
    devices_quota: int | None
    memory_bytes_quota: int | None
    devices_now: int
    devices_then: int
    memory_bytes_now: int
    memory_bytes_then: int


class PlanView(View, frozen=True, kw_only=True):
    """What would come of it; nothing of it is done. *complete*: everything finds a place. *version*
    is the registry event that it was thought through at.
    """

    version: int
    complete: bool
    changes: tuple[ChangeView, ...]
    starts: tuple[StartView, ...]
    stops: tuple[StopView, ...]
    waits: tuple[WaitView, ...]
    staying: tuple[WaitView, ...]
    no_place: tuple[NoPlaceView, ...]
    external: tuple[ExternalView, ...]
    kept: tuple[KeptView, ...]
    quotas: tuple[OwnerPlanView, ...]


class MoveView(SlotView, frozen=True, kw_only=True):
    """A worker that could go from *node* to these *devices* of the node *to*."""

    worker: str
    node: str
    to: str
    devices: tuple[ShareView, ...]


class DefragmentationView(View, frozen=True, kw_only=True):
    """A proposal, by which nothing moves. *gains*: what would be larger afterwards, in sentences.
    *version* is the registry event that it was thought through at.
    """

    version: int
    moves: tuple[MoveView, ...]
    gains: tuple[str, ...]


def plan_view(plan: Plan, snapshot: Snapshot) -> PlanView:
    devices = {device.id: device for device in snapshot.devices}
    return PlanView(
        version=snapshot.version,
        complete=plan.is_complete,
        changes=tuple(ChangeView(model=name, change=how) for name, how in plan.changes.items()),
        starts=tuple(_start(start, devices) for start in plan.starts),
        stops=tuple(map(_stop, plan.stops)),
        waits=tuple(WaitView(model=name, reason=why) for name, why in plan.waiting.items()),
        staying=tuple(WaitView(model=name, reason=why) for name, why in plan.staying.items()),
        no_place=no_place_views(no_places(plan.refused)),
        external=tuple(
            ExternalView(
                model=item.model,
                variant=item.variant,
                role=item.role,
                ordinal=item.ordinal,
                url=item.external.url if item.external else "",
            )
            for item in plan.reached
        ),
        kept=tuple(map(_kept, plan.kept)),
        quotas=tuple(map(_owner_plan, plan.uses)),
    )


def _start(start: Start, devices: dict[str, Device]) -> StartView:
    worker, plan = start.worker, start.worker.plan
    return StartView(
        model=plan.model,
        variant=plan.variant,
        role=plan.role,
        ordinal=plan.ordinal,
        owner=plan.owner,
        priority=plan.priority,
        node=worker.node,
        runtime=worker.runtime,
        devices=_shares(worker, devices),
        at_once=start.turn == 1,
        replaces=start.replaces,
        after=start.after,
        asleep=start.asleep,
    )


def _shares(worker: PlannedWorker, devices: dict[str, Device]) -> tuple[ShareView, ...]:
    return tuple(
        ShareView(
            device=claim.device_id,
            memory_bytes=claim.memory_bytes,
            share=round(claim.memory_bytes / devices[claim.device_id].memory_bytes, 4),
        )
        for claim in worker.claims
    )


def defragmentation_view(found: Defragmentation, snapshot: Snapshot) -> DefragmentationView:
    devices = {device.id: device for device in snapshot.devices}
    return DefragmentationView(
        version=snapshot.version,
        moves=tuple(_move(move, devices) for move in found.moves),
        gains=found.gains,
    )


def _move(move: Move, devices: dict[str, Device]) -> MoveView:
    plan = move.to.plan
    return MoveView(
        worker=move.worker_id,
        model=plan.model,
        variant=plan.variant,
        role=plan.role,
        ordinal=plan.ordinal,
        node=move.node,
        to=move.to.node,
        devices=_shares(move.to, devices),
    )


def _stop(stop: Stop) -> StopView:
    worker, plan = stop.worker, stop.worker.plan
    return StopView(
        worker=worker.id,
        model=plan.model,
        variant=plan.variant,
        role=plan.role,
        ordinal=plan.ordinal,
        node=worker.node,
        cause=stop.cause,
        reason=stop.sentence,
        at_once=stop.turn == 1,
    )


def _kept(worker: Worker) -> KeptView:
    plan = worker.plan
    return KeptView(
        worker=worker.id,
        model=plan.model,
        variant=plan.variant,
        role=plan.role,
        ordinal=plan.ordinal,
        node=worker.node,
        phase=worker.phase,
    )


def no_place_views(found: Iterable[NoPlace]) -> tuple[NoPlaceView, ...]:
    return tuple(
        NoPlaceView(
            model=item.plan.model,
            variant=item.plan.variant,
            workers=item.workers,
            together=item.is_gang,
            role=item.plan.role,
            ordinal=item.plan.ordinal,
            owner=item.plan.owner,
            priority=item.plan.priority,
            devices=item.plan.devices,
            memory_bytes=item.plan.memory_bytes,
            waits_for=item.waits_for,
            why=tuple(map(_why, item.why[:GROUPS_MAX])),
        )
        for item in found
    )


def _why(why: Why) -> WhyView:
    return WhyView(
        reason=why.reason,
        sentence=why.sentence,
        advice=ADVICE[why.reason],
        node_count=len(why.nodes),
        nodes=why.nodes[:NODES_NAMED_MAX],
    )


def owner_view(use: OwnerUse) -> OwnerView:
    return OwnerView(
        owner=use.owner,
        devices_quota=use.quota.devices if use.quota else None,
        memory_bytes_quota=use.quota.memory_bytes if use.quota else None,
        devices=use.devices,
        memory_bytes=use.memory_bytes,
        models=use.models,
    )


def _owner_plan(use: OwnerUse) -> OwnerPlanView:
    return OwnerPlanView(
        owner=use.owner,
        devices_quota=use.quota.devices if use.quota else None,
        memory_bytes_quota=use.quota.memory_bytes if use.quota else None,
        devices_now=use.devices,
        devices_then=use.devices_then,
        memory_bytes_now=use.memory_bytes,
        memory_bytes_then=use.memory_bytes_then,
    )
