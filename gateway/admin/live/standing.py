"""What follows from a snapshot alone: worked out once, however many look at it. Pure."""

from collections.abc import Mapping

import msgspec

from gateway.admin.live.overview import counts_of, fleet_of
from gateway.admin.live.views import CountsView, FleetUseView
from gateway.admin.status import (
    ServingState,
    VariantStatus,
    by_model,
    model_state,
    variant_statuses,
)
from registry.state import Model, Phase, Proposal, Snapshot, Worker


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """*models* by name in its order, what there is of each, the workers of each that *failed*, and
    the *devices* that each worker holds. *proposals* are those that nobody has decided.
    """

    snapshot: Snapshot
    models: Mapping[str, Model]
    workers: Mapping[str, list[Worker]]
    statuses: Mapping[str, tuple[VariantStatus, ...]]
    states: Mapping[str, ServingState]
    failed: Mapping[str, list[Worker]]
    devices: Mapping[str, tuple[str, ...]]
    proposals: tuple[Proposal, ...]
    counts: CountsView
    fleet: FleetUseView


def standing(
    snapshot: Snapshot, proposals: tuple[Proposal, ...], before: Standing | None = None
) -> Standing:
    """*before* is an earlier one: what has not changed since is taken from there."""
    models = {model.name: model for model in sorted(snapshot.models, key=lambda one: one.name)}
    workers = by_model(snapshot.workers)
    statuses = {
        name: _statuses(model, workers.get(name, []), before) for name, model in models.items()
    }
    states = {name: model_state(model, statuses[name]) for name, model in models.items()}
    devices: dict[str, tuple[str, ...]] = {}
    for claim in snapshot.claims:
        devices[claim.worker_id] = (*devices.get(claim.worker_id, ()), claim.device_id)
    return Standing(
        snapshot=snapshot,
        models=models,
        workers=workers,
        statuses=statuses,
        states=states,
        failed=by_model(one for one in snapshot.ended if one.phase is Phase.FAILED),
        devices=devices,
        proposals=tuple(one for one in proposals if one.taken is None),
        counts=counts_of(snapshot, tuple(states.values())),
        fleet=fleet_of(snapshot),
    )


def _statuses(
    model: Model, workers: list[Worker], before: Standing | None
) -> tuple[VariantStatus, ...]:
    """To make plans of specs takes most of the time, and few models change at once."""
    if (
        before is not None
        and before.models.get(model.name) == model
        and before.workers.get(model.name, []) == workers
    ):
        return before.statuses[model.name]
    return variant_statuses(model, workers)
