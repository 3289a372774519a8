"""The whole of it in numbers. Pure."""

from collections.abc import Iterable, Mapping

from gateway.admin.live.views import CountsView, FleetUseView, OverviewView, ProblemView
from gateway.admin.status import ServingState
from gateway.admin.views import RatesView, iso
from registry.state import NodeState, Phase, Snapshot

PROBLEMS_MAX = 100
_ANSWERING = frozenset({ServingState.READY, ServingState.ROLLING, ServingState.DEGRADED})
_FAILING = frozenset({ServingState.STARTING, ServingState.UNAVAILABLE})


def overview(
    snapshot: Snapshot,
    states: Mapping[str, ServingState],
    rates: RatesView,
    problems: tuple[ProblemView, ...],
    now: float,
) -> OverviewView:
    """*states* are those of the models, by name."""
    return OverviewView(
        at=iso(now),
        counts=_counts(snapshot, states.values()),
        rates=rates,
        fleet=_fleet(snapshot),
        problems=problems[:PROBLEMS_MAX],
        problems_total=len(problems),
    )


def _counts(snapshot: Snapshot, states: Iterable[ServingState]) -> CountsView:
    standing = [state for state in states if state is not ServingState.DELETING]
    return CountsView(
        models=len(standing),
        answering=sum(state in _ANSWERING for state in standing),
        asleep=sum(state is ServingState.ASLEEP for state in standing),
        failing=sum(state in _FAILING for state in standing),
        workers_live=len(snapshot.workers),
        workers_ready=sum(worker.phase is Phase.READY for worker in snapshot.workers),
        nodes=len(snapshot.nodes),
        nodes_ready=sum(node.state is NodeState.READY for node in snapshot.nodes),
        devices=len(snapshot.devices),
    )


def _fleet(snapshot: Snapshot) -> FleetUseView:
    return FleetUseView(
        devices=len(snapshot.devices),
        devices_claimed=len({claim.device_id for claim in snapshot.claims}),
        memory_bytes=sum(device.memory_bytes for device in snapshot.devices),
        claimed_bytes=sum(claim.memory_bytes for claim in snapshot.claims),
        used_bytes=sum(device.used_bytes for device in snapshot.devices),
    )
