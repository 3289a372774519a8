"""Between the tables' rows and the values of `registry.state`."""

from functools import lru_cache

import msgspec

from registry import tables as t
from registry.spec import ModelSpec, from_json
from registry.state import (
    AuditEntry,
    Claim,
    Device,
    DeviceKind,
    Event,
    EventKind,
    Key,
    KeyKind,
    KeyLimits,
    Model,
    Node,
    NodeState,
    Phase,
    Priority,
    Quota,
    Revision,
    Worker,
    WorkerPlan,
)

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


def model(row: t.ModelRow, spec: str) -> Model:
    return Model(
        name=row.name,
        generation=row.generation,
        revision=row.revision,
        spec=_spec(spec),
        created_at=row.created_at,
        updated_at=row.updated_at,
        deleted=row.deleted,
        condition=row.condition,
    )


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
    return Device(
        id=row.id,
        node=row.node,
        index=row.index,
        kind=DeviceKind(row.kind),
        model=row.model,
        memory_bytes=row.memory_bytes,
        uuid=row.uuid,
        island=row.island,
        used_bytes=row.used_bytes,
        quarantine=row.quarantine,
        overuse=row.overuse,
    )


def quota(row: t.QuotaRow) -> Quota:
    return Quota(owner=row.owner, devices=row.devices, memory_bytes=row.memory_bytes)


def worker(row: t.WorkerRow) -> Worker:
    return Worker(
        id=row.id,
        plan=_plan(row.plan),
        node=row.node,
        runtime=row.runtime,
        phase=Phase(row.phase),
        reason=row.reason,
        departing=row.departing,
        url=row.url,
        events_url=row.events_url,
        kv_port=row.kv_port,
        token=row.token,
        created_at=row.created_at,
        ready_at=row.ready_at,
        ended_at=row.ended_at,
    )


def claim(row: t.ClaimRow) -> Claim:
    return Claim(worker_id=row.worker_id, device_id=row.device_id, memory_bytes=row.memory_bytes)


def key(row: t.KeyRow) -> Key:
    return Key(
        id=row.id,
        name=row.name,
        kind=KeyKind(row.kind),
        digest=row.digest,
        models=_names(row.models),
        priority=Priority(row.priority),
        limits=_limits(row.limits),
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        old_digest=row.old_digest,
        old_expires_at=row.old_expires_at,
    )


def event(row: t.EventRow) -> Event:
    return Event(
        id=row.id,
        at=row.at,
        kind=EventKind(row.kind),
        model=row.model,
        worker=row.worker,
        node=row.node,
        message=row.message,
    )


def audit_entry(row: t.AuditRow) -> AuditEntry:
    return AuditEntry(
        id=row.id,
        at=row.at,
        actor=row.actor,
        action=row.action,
        object=row.object,
        before_revision=row.before_revision,
        after_revision=row.after_revision,
        request_id=row.request_id,
        client_ip=row.client_ip,
    )
