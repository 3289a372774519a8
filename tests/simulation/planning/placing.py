"""Where the scheduler lays an option's workers: by the planner's own spec, on an empty fleet."""

import msgspec
from fleets import a_model, a_snapshot
from planner_world import node_reports

from pipelines.engines import runtime_of
from pipelines.planner.demand import Demand
from pipelines.planner.fleet import Fleet
from pipelines.planner.options import Option
from pipelines.planner.plan import Choice
from pipelines.planner.specs import spec_of
from pipelines.scheduler import place
from pipelines.topology import expand
from registry.spec import Role
from registry.state import Model, Node, NodeReport, NodeState


class Laid(msgspec.Struct, frozen=True, kw_only=True):
    """A worker on *devices*, by their ids."""

    role: str
    ordinal: int
    node: str
    devices: tuple[str, ...]


class NoPlaceError(Exception):
    """Why a worker found no place."""


def laid(option: Option, demand: Demand, fleet: Fleet, source: str) -> tuple[Laid, ...]:
    """Those of prefill first. Raises NoPlaceError."""
    reports = node_reports(fleet)
    snapshot = a_snapshot(
        nodes=map(_node, reports), devices=[one for told in reports for one in told.devices]
    )
    gangs = expand(_model(option, demand, source))
    proposal = place(snapshot, gangs, runtime_of)
    if proposal.refused:
        raise NoPlaceError(proposal.refused[0].sentence)
    workers = [worker for gang in proposal.placed for worker in gang.workers]
    workers.sort(key=lambda one: (one.plan.role is not Role.PREFILL, one.plan.ordinal))
    return tuple(
        Laid(
            role=worker.plan.role,
            ordinal=worker.plan.ordinal,
            node=worker.node,
            devices=tuple(sorted(claim.device_id for claim in worker.claims)),
        )
        for worker in workers
    )


def _model(option: Option, demand: Demand, source: str) -> Model:
    choice = Choice(
        demand=msgspec.structs.replace(demand, model="m"),
        options=(option,),
        pool=None,
        alternatives=(),
        frontier=(),
        why="",
    )
    made = a_model("m", {"type": "aggregated"})
    return msgspec.structs.replace(made, spec=spec_of(choice, source))


def _node(told: NodeReport) -> Node:
    return Node(
        name=told.name,
        address=told.address,
        state=NodeState.READY,
        device_kind=told.device_kind,
        runtimes=told.runtimes,
        labels=told.labels,
        last_seen_at=0.0,
    )
