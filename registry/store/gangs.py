"""The commit of a plan: verified against what is true now, then claimed, all or nothing.

Two guards, as in invariant I1: the checks here say what no longer fits, and the tables' own
constraints (claimed ≤ memory, one live worker a slot and fingerprint) hold should these be wrong.
"""

import re
import secrets

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from registry import rows
from registry import tables as t
from registry.errors import PlanConflictError
from registry.state import (
    DeviceClaim,
    EventKind,
    Phase,
    PlannedGang,
    PlannedWorker,
    SleepMode,
    Worker,
    WorkerPlan,
)
from registry.store import nodes, quotas
from registry.store.scope import Write

_MODEL_CHARS_MAX = 40  # of a worker's id, which becomes a directory's name
_TOKEN_BYTES = 32
_NO_RUNTIME = "external"


async def commit(write: Write, gang: PlannedGang) -> tuple[Worker, ...]:
    """Raises PlanConflictError; then nothing of the gang is there."""
    assert gang.workers, "an empty gang"
    await quotas.check(write.session, gang)
    try:
        return tuple([await _place(write, one, asleep=gang.asleep) for one in gang.workers])
    except IntegrityError as error:
        raise PlanConflictError(f"refused by the database: {error.orig}") from error


async def admit(write: Write, plan: WorkerPlan, token: str, failure: str) -> Worker:
    """A worker that is only reached: it holds nothing and begins where others have been started.
    With *failure* it ends there at once. Raises PlanConflictError.
    """
    assert plan.external is not None, plan.slot
    await check_model(write.session, plan)
    await _check_slot(write.session, plan)
    await nodes.add_nowhere(write)
    row = _worker_row(write, plan, node=nodes.NOWHERE, runtime=_NO_RUNTIME, token=token)
    row.url = plan.external.url
    row.phase = Phase.FAILED if failure else Phase.STARTING
    row.reason, row.ended_at = failure, write.now if failure else None
    write.session.add(row)
    try:
        await write.session.flush()
    except IntegrityError as error:
        raise PlanConflictError(f"refused by the database: {error.orig}") from error
    message = f"external, at {row.url}" + (f": {failure}" if failure else "")
    write.event(EventKind.WORKER_PLACED, message, model=row.model, worker=row.id)
    return rows.worker(row)


async def _place(write: Write, planned: PlannedWorker, *, asleep: bool) -> Worker:
    _assert_shape(planned, asleep=asleep)
    await check_model(write.session, planned.plan)
    await _check_node(write.session, planned)
    await _check_slot(write.session, planned.plan)
    for claim in planned.claims:
        await take(write.session, planned.node, claim)
    token = secrets.token_urlsafe(_TOKEN_BYTES)
    row = _worker_row(write, planned.plan, node=planned.node, runtime=planned.runtime, token=token)
    if asleep:  # as if its engine had been stopped: waking starts it
        row.phase, row.sleep_mode = Phase.ASLEEP, SleepMode.STOPPED
        row.reason = "placed asleep: its pool has no room for it awake"
    write.session.add(row)
    await write.session.flush()  # its claims refer to it
    write.session.add_all(
        t.ClaimRow(worker_id=row.id, device_id=claim.device_id, memory_bytes=claim.memory_bytes)
        for claim in planned.claims
    )
    await write.session.flush()
    on = ", ".join(claim.device_id for claim in planned.claims)
    told = f"asleep on {on}" if asleep else f"on {on}"
    write.event(EventKind.WORKER_PLACED, told, model=row.model, worker=row.id, node=row.node)
    return rows.worker(row)


def _assert_shape(planned: PlannedWorker, *, asleep: bool) -> None:
    devices = {claim.device_id for claim in planned.claims}
    assert len(devices) == len(planned.claims) == planned.plan.devices, (
        f"{planned.plan.slot} asks for {planned.plan.devices} devices, planned are {devices}"
    )
    awake = [claim.memory_bytes > 0 for claim in planned.claims]
    assert not any(awake) if asleep else all(awake), "awake claims something, asleep nothing"


async def check_model(session: AsyncSession, plan: WorkerPlan) -> None:
    """Raises PlanConflictError unless the model stands and has that revision."""
    name = plan.model
    model = await session.get(t.ModelRow, name)
    if model is None or model.deleted:
        raise PlanConflictError(f"model {name!r} was deleted")
    if not 1 <= plan.revision <= model.revision:
        raise PlanConflictError(f"model {name!r} has no revision {plan.revision}")


async def _check_node(session: AsyncSession, planned: PlannedWorker) -> None:
    node = await session.get(t.NodeRow, planned.node)
    if node is None:
        raise PlanConflictError(f"node {planned.node!r} is gone")
    if node.silent or node.cordoned:
        raise PlanConflictError(f"node {planned.node!r} is {rows.node_state(node)}")


async def _check_slot(session: AsyncSession, plan: WorkerPlan) -> None:
    holder = await session.scalar(
        select(t.WorkerRow.id).where(
            t.WorkerRow.model == plan.model,
            t.WorkerRow.variant == plan.variant,
            t.WorkerRow.role == plan.role,
            t.WorkerRow.ordinal == plan.ordinal,
            t.WorkerRow.fingerprint == plan.fingerprint,
            t.WorkerRow.ended_at.is_(None),
            ~t.WorkerRow.departing,
        )
    )
    if holder is not None:
        raise PlanConflictError(f"{holder} already fills this slot")


async def take(session: AsyncSession, node: str, claim: DeviceClaim) -> None:
    """Adds to what is claimed of the device. Raises PlanConflictError where that is not free."""
    device = await session.get(t.DeviceRow, claim.device_id)
    if device is None or device.node != node:
        raise PlanConflictError(f"device {claim.device_id!r} is not on {node!r}")
    if device.quarantine:
        raise PlanConflictError(f"device {claim.device_id!r} is in quarantine: {device.quarantine}")
    free_bytes = device.memory_bytes - device.claimed_bytes
    if claim.memory_bytes > free_bytes:
        raise PlanConflictError(
            f"device {claim.device_id!r} has {free_bytes} bytes free, not {claim.memory_bytes}"
        )
    await move_claimed(session, claim.device_id, claim.memory_bytes)
    await session.refresh(device)


async def move_claimed(session: AsyncSession, device_id: str, by_bytes: int) -> None:
    """Adds to the device's sum where it lies, so that no stale copy of it is written back."""
    await session.execute(
        update(t.DeviceRow)
        .where(t.DeviceRow.id == device_id)
        .values(claimed_bytes=t.DeviceRow.claimed_bytes + by_bytes)
        .execution_options(synchronize_session=False)
    )


def _worker_row(
    write: Write, plan: WorkerPlan, *, node: str, runtime: str, token: str
) -> t.WorkerRow:
    return t.WorkerRow(
        id=_new_id(plan),
        model=plan.model,
        revision=plan.revision,
        variant=plan.variant,
        role=plan.role,
        ordinal=plan.ordinal,
        fingerprint=plan.fingerprint,
        plan=rows.plan_text(plan),
        node=node,
        runtime=runtime,
        phase=Phase.ASSIGNED,
        reason="",
        url="",
        events_url="",
        kv_port=0,
        token=token,
        created_at=write.now,
        ready_at=None,
        ended_at=None,
        departing=False,
        sleep_mode=SleepMode.AWAKE,
        turned_at=0.0,
    )


def _new_id(plan: WorkerPlan) -> str:
    model = re.sub(r"[^a-z0-9.-]", "-", plan.model.lower())[:_MODEL_CHARS_MAX]
    return f"{model}-{plan.role}-{plan.ordinal}-{secrets.token_hex(4)}"
