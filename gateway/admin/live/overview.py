"""All of it in numbers. Pure."""

from collections.abc import Collection

from gateway.admin.live.problems import PROBLEMS_MAX
from gateway.admin.live.views import CountsView, FleetUseView, OverviewView, ProblemView
from gateway.admin.status import ServingState
from gateway.admin.views import RatesView, iso
from registry.state import NodeState, Phase, Snapshot

_ANSWERING = frozenset({ServingState.READY, ServingState.ROLLING, ServingState.DEGRADED})
_FAILING = frozenset({ServingState.STARTING, ServingState.UNAVAILABLE})


def overview(
    counts: CountsView,
    fleet: FleetUseView,
    rates: RatesView,
    problems: tuple[ProblemView, ...],
    now: float,
) -> OverviewView:
    return OverviewView(
        at=iso(now),
        counts=counts,
        rates=rates,
        fleet=fleet,
        problems=problems[:PROBLEMS_MAX],
        problems_total=len(problems),
    )


def counts_of(snapshot: Snapshot, states: Collection[ServingState]) -> CountsView:
    """*states* are the models', one each."""
    return CountsView(
        models=sum(state is not ServingState.DELETING for state in states),
        answering=sum(state in _ANSWERING for state in states),
        asleep=sum(state is ServingState.ASLEEP for state in states),
        failing=sum(state in _FAILING for state in states),
        workers_live=len(snapshot.workers),
        workers_ready=sum(worker.phase is Phase.READY for worker in snapshot.workers),
        nodes=len(snapshot.nodes),
        nodes_ready=sum(node.state is NodeState.READY for node in snapshot.nodes),
        devices=len(snapshot.devices),
    )


def fleet_of(snapshot: Snapshot) -> FleetUseView:
    return FleetUseView(
        devices=len(snapshot.devices),
        devices_claimed=len({claim.device_id for claim in snapshot.claims}),
        memory_bytes=sum(device.memory_bytes for device in snapshot.devices),
        claimed_bytes=sum(claim.memory_bytes for claim in snapshot.claims),
        used_bytes=sum(device.used_bytes for device in snapshot.devices),
    )
