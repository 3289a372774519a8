"""Between the tables' rows and the values of `registry.state`."""

from functools import lru_cache
from typing import TypeVar

import msgspec

from registry import tables as t
from registry.spec import ModelSpec, RolloutPolicy, from_json
from registry.state import (
    AccessRole,
    Account,
    AuditEntry,
    Claim,
    Device,
    DeviceKind,
    Event,
    Key,
    KeyKind,
    KeyLimits,
    LoadPoint,
    Model,
    Node,
    NodeState,
    Phase,
    Pool,
    Priority,
    Profile,
    Proposal,
    Quota,
    Revision,
    RoleScale,
    Rollout,
    RolloutState,
    Session,
    SleepMode,
    StoredProfile,
    Worker,
    WorkerPlan,
)
from registry.traffic import Demand, Latencies, StepTraffic, Traffic

_Value = TypeVar("_Value")
_DECODED_MAX = 16_384  # as many specs and plans as a large fleet has at once


@lru_cache(_DECODED_MAX)
def _spec(text: str) -> ModelSpec:
    return from_json(text)


@lru_cache(_DECODED_MAX)
def _plan(text: str) -> WorkerPlan:
    return msgspec.json.decode(text, type=WorkerPlan)


def plan_text(plan: WorkerPlan) -> str:
    return msgspec.json.encode(plan).decode()


@lru_cache(_DECODED_MAX)
def _limits(text: str) -> KeyLimits:
    return msgspec.json.decode(text, type=KeyLimits)


def limits_text(limits: KeyLimits) -> str:
    return msgspec.json.encode(limits).decode()


def names_text(names: tuple[str, ...]) -> str:
    return msgspec.json.encode(names).decode()


def labels_text(labels: dict[str, str]) -> str:
    return msgspec.json.encode(labels, order="sorted").decode()


def _names(text: str) -> tuple[str, ...]:
    return msgspec.json.decode(text, type=tuple[str, ...])


def _alike(row: t.Base, kind: type[_Value]) -> _Value:
    """A value whose fields are the columns of the same names."""
    return msgspec.convert(row, kind, from_attributes=True)


def model(
    row: t.ModelRow,
    spec: str,
    rollout: Rollout | None = None,
    scales: tuple[RoleScale, ...] = (),
) -> Model:
    return Model(
        name=row.name,
        generation=row.generation,
        revision=row.revision,
        spec=_spec(spec),
        created_at=row.created_at,
        updated_at=row.updated_at,
        deleted=row.deleted,
        condition=row.condition,
        degraded=row.degraded,
        rollout=rollout,
        scales=scales,
    )


def rollout(row: t.RolloutRow, base: str) -> Rollout:
    """*base* is the spec of the revision that it leads away from."""
    return Rollout(
        model=row.model,
        from_revision=row.from_revision,
        to_revision=row.to_revision,
        base=_spec(base),
        policy=msgspec.json.decode(row.policy, type=RolloutPolicy),
        state=RolloutState(row.state),
        step=row.step,
        percent=row.percent,
        step_at=row.step_at,
        reason=row.reason,
        created_at=row.created_at,
        ended_at=row.ended_at,
    )


def scale(row: t.ScaleRow) -> RoleScale:
    return _alike(row, RoleScale)


def proposal(row: t.ProposalRow) -> Proposal:
    return Proposal(
        id=row.id,
        model=row.model,
        base_revision=row.base_revision,
        spec=_spec(row.spec),
        reason=row.reason,
        created_at=row.created_at,
        created_by=row.created_by,
        taken=row.taken,
        decided_at=row.decided_at,
    )


def points_text(points: tuple[LoadPoint, ...]) -> str:
    return msgspec.json.encode(points).decode()


def profile(row: t.ProfileRow) -> StoredProfile:
    return StoredProfile(
        id=row.id,
        model=row.model,
        variant=row.variant,
        runtime=row.runtime,
        profile=Profile(
            source=row.source,
            engine=row.engine,
            device_model=row.device_model,
            devices=row.devices,
            memory_bytes=row.memory_bytes,
            batched_tokens=row.batched_tokens,
            kv_tokens=row.kv_tokens,
            is_kv_told=row.is_kv_told,
            points=msgspec.json.decode(row.points, type=tuple[LoadPoint, ...]),
        ),
        measured_at=row.measured_at,
        measured_by=row.measured_by,
    )


def pool(row: t.PoolRow) -> Pool:
    return _alike(row, Pool)


def latencies_text(latencies: Latencies) -> str:
    return msgspec.json.encode(latencies).decode()


def traffic(row: t.TrafficRow) -> Traffic:
    return Traffic(
        at=row.at,
        gateway=row.gateway,
        model=row.model,
        variant=row.variant,
        revision=row.revision,
        requests=row.requests,
        errors=row.errors,
        paired=row.paired,
        prompt_tokens=row.prompt_tokens,
        completion_tokens=row.completion_tokens,
        ttft=msgspec.json.decode(row.ttft, type=Latencies),
        tpot=msgspec.json.decode(row.tpot, type=Latencies),
        e2e=msgspec.json.decode(row.e2e, type=Latencies),
    )


def step_traffic(row: t.RolloutTrafficRow) -> StepTraffic:
    return StepTraffic(
        model=row.model,
        variant=row.variant,
        revision=row.revision,
        percent=row.percent,
        since=row.since,
        until=row.until,
        requests=row.requests,
        errors=row.errors,
        ttft=msgspec.json.decode(row.ttft, type=Latencies),
        tpot=msgspec.json.decode(row.tpot, type=Latencies),
    )


def demand(row: t.DemandRow) -> Demand:
    return _alike(row, Demand)


def revision(row: t.RevisionRow) -> Revision:
    return Revision(
        model=row.model,
        number=row.number,
        spec=_spec(row.spec),
        created_at=row.created_at,
        created_by=row.created_by,
    )


def node_state(row: t.NodeRow) -> NodeState:
    """Silence hides a cordon, which is there again when the node is."""
    if row.silent:
        return NodeState.UNKNOWN
    if row.draining:
        return NodeState.DRAINING
    return NodeState.CORDONED if row.cordoned else NodeState.READY


def node(row: t.NodeRow) -> Node:
    return Node(
        name=row.name,
        address=row.address,
        state=node_state(row),
        device_kind=DeviceKind(row.device_kind),
        runtimes=_names(row.runtimes),
        labels=msgspec.json.decode(row.labels, type=dict[str, str]),
        last_seen_at=row.last_seen_at,
        sources=_names(row.sources),
    )


def device(row: t.DeviceRow) -> Device:
    return _alike(row, Device)


def quota(row: t.QuotaRow) -> Quota:
    return _alike(row, Quota)


def worker(row: t.WorkerRow) -> Worker:
    return Worker(
        id=row.id,
        plan=_plan(row.plan),
        node=row.node,
        runtime=row.runtime,
        phase=Phase(row.phase),
        reason=row.reason,
        departing=row.departing,
        sleep_mode=SleepMode(row.sleep_mode),
        url=row.url,
        events_url=row.events_url,
        kv_port=row.kv_port,
        turned_at=row.turned_at,
        token=row.token,
        created_at=row.created_at,
        ready_at=row.ready_at,
        ended_at=row.ended_at,
    )


def claim(row: t.ClaimRow) -> Claim:
    return _alike(row, Claim)


def key(row: t.KeyRow) -> Key:
    return Key(
        id=row.id,
        name=row.name,
        kind=KeyKind(row.kind),
        digest=row.digest,
        models=_names(row.models),
        role=AccessRole(row.role),
        priority=Priority(row.priority),
        limits=_limits(row.limits),
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        old_digest=row.old_digest,
        old_expires_at=row.old_expires_at,
    )


def account(row: t.AccountRow) -> Account:
    return _alike(row, Account)


def session(row: t.SessionRow) -> Session:
    return _alike(row, Session)


def event(row: t.EventRow) -> Event:
    return _alike(row, Event)


def audit_entry(row: t.AuditRow) -> AuditEntry:
    return _alike(row, AuditEntry)
