"""Workers through their phases, and their claims."""

from sqlalchemy import case, delete, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from registry import rows
from registry import tables as t
from registry.errors import NotFoundError, PlanConflictError
from registry.state import (
    LEAVING_PHASES,
    LIVE_PHASES,
    SLEEPING_PHASES,
    Claim,
    EventKind,
    Phase,
    SleepMode,
    Worker,
)
from registry.store.gangs import move_claimed
from registry.store.nodes import NOWHERE
from registry.store.plain import columns, plain
from registry.store.scope import Write, cut

REASON_CHARS_MAX = 1000
ENDED_PER_SLOT_MAX = 10


async def set_phase(
    write: Write,
    worker_id: str,
    phase: Phase,
    *,
    reason: str,
    url: str | None,
    events_url: str | None,
    kv_port: int | None,
) -> Worker:
    """Raises NotFoundError. An ended worker stays as it ended, and one that sleeps sleeps until it
    is woken or has to go; without a process nothing that is seen ends it.
    """
    row = await row_of(write.session, worker_id)
    if row.phase == Phase.ASLEEP and row.sleep_mode == SleepMode.STOPPED:
        if phase in LEAVING_PHASES:
            phase = Phase.STOPPED  # there is nothing to wait for
        elif phase is not Phase.LOST:
            return rows.worker(row)
    reason = cut(reason, REASON_CHARS_MAX)
    url = row.url if url is None else url
    events_url = row.events_url if events_url is None else events_url
    kv_port = row.kv_port if kv_port is None else kv_port
    known = (row.phase, row.reason, row.url, row.events_url, row.kv_port)
    if row.ended_at is not None or known == (phase, reason, url, events_url, kv_port):
        return rows.worker(row)
    if row.phase in LEAVING_PHASES and phase in LIVE_PHASES - LEAVING_PHASES:
        return rows.worker(row)  # a probe that ends late brings nobody back
    if row.phase in SLEEPING_PHASES and phase in LIVE_PHASES - LEAVING_PHASES:
        return rows.worker(row)  # nor does it wake anybody
    if phase is Phase.READY and row.phase != Phase.READY:
        row.ready_at, row.sleep_mode = write.now, SleepMode.AWAKE
    row.phase, row.reason = phase, reason
    row.departing = row.departing or phase in LEAVING_PHASES
    row.url, row.events_url, row.kv_port = url, events_url, kv_port
    if phase not in LIVE_PHASES:
        await _end(write, row)
    message = f"{phase}: {reason}" if reason else str(phase)
    write.event(EventKind.WORKER_PHASE, message, model=row.model, worker=row.id, node=row.node)
    return rows.worker(row)


async def depart(write: Write, worker_id: str, reason: str) -> Worker:
    """It goes on serving, but its slot may be filled anew. Raises NotFoundError."""
    row = await row_of(write.session, worker_id)
    if row.departing or row.ended_at is not None:
        return rows.worker(row)
    row.departing = True
    row.reason = reason = cut(reason, REASON_CHARS_MAX)
    message = f"departing: {reason}"
    write.event(EventKind.WORKER_PHASE, message, model=row.model, worker=row.id, node=row.node)
    return rows.worker(row)


async def stay(write: Write, worker_id: str) -> Worker:
    """Takes `depart` back, where nobody else fills its slot. Raises NotFoundError,
    PlanConflictError.
    """
    row = await row_of(write.session, worker_id)
    if not row.departing or row.phase in LEAVING_PHASES or row.ended_at is not None:
        return rows.worker(row)
    row.departing, row.reason = False, ""
    try:
        await write.session.flush()
    except IntegrityError as error:
        raise PlanConflictError(f"{worker_id} has its successor already") from error
    write.event(
        EventKind.WORKER_PHASE, "stays after all", model=row.model, worker=row.id, node=row.node
    )
    return rows.worker(row)


async def _end(write: Write, row: t.WorkerRow) -> None:
    """Invariant I2: the claims of a worker go exactly when it ends."""
    row.ended_at = write.now
    held = await claims_of(write.session, row.id)
    assert held or row.node == NOWHERE, f"{row.id} was live without a claim"
    for claim in held:
        await give_back(write.session, claim.device_id, claim.memory_bytes)
        await write.session.delete(claim)


async def claims_of(session: AsyncSession, worker_id: str) -> tuple[t.ClaimRow, ...]:
    query = select(t.ClaimRow).where(t.ClaimRow.worker_id == worker_id)
    return tuple(await session.scalars(query.order_by(t.ClaimRow.device_id)))


async def give_back(session: AsyncSession, device_id: str, size_bytes: int) -> None:
    """Less is claimed of the device, and less in use: until its node reports again, what was used
    would seem to be in use by what is not ours.
    """
    await move_claimed(session, device_id, -size_bytes)
    used = t.DeviceRow.used_bytes
    await session.execute(
        update(t.DeviceRow)
        .where(t.DeviceRow.id == device_id)
        .values(used_bytes=case((used > size_bytes, used - size_bytes), else_=0))
        .execution_options(synchronize_session=False)
    )


async def forget_ended(write: Write, keep_per_slot: int) -> None:
    """Keeps the newest ended workers of each slot."""
    write.quiet("history is pruned")
    slot = (t.WorkerRow.model, t.WorkerRow.variant, t.WorkerRow.role, t.WorkerRow.ordinal)
    newest_first = (t.WorkerRow.ended_at.desc(), t.WorkerRow.id)
    ranked = (
        select(
            t.WorkerRow.id,
            func.row_number().over(partition_by=slot, order_by=newest_first).label("age"),
        )
        .where(t.WorkerRow.ended_at.is_not(None))
        .subquery()
    )
    old = select(ranked.c.id).where(ranked.c.age > keep_per_slot)
    await write.session.execute(
        delete(t.WorkerRow)
        .where(t.WorkerRow.id.in_(old))
        .execution_options(synchronize_session=False)
    )


async def row_of(session: AsyncSession, worker_id: str) -> t.WorkerRow:
    row = await session.get(t.WorkerRow, worker_id)
    if row is None:
        raise NotFoundError("worker", worker_id)
    return row


async def one(session: AsyncSession, worker_id: str) -> Worker:
    """Raises NotFoundError."""
    return rows.worker(await row_of(session, worker_id))


async def select_workers(
    session: AsyncSession, *, model: str | None, include_ended: bool
) -> tuple[Worker, ...]:
    """Oldest first."""
    query = columns(t.WorkerRow).order_by(t.WorkerRow.created_at, t.WorkerRow.id)
    if model is not None:
        query = query.where(t.WorkerRow.model == model)
    if not include_ended:
        query = query.where(t.WorkerRow.ended_at.is_(None))
    return tuple(map(rows.worker, await plain(session, t.WorkerRow, query)))


async def recently_ended(session: AsyncSession) -> tuple[Worker, ...]:
    """Those of standing models, oldest end first; `forget_ended` keeps them few."""
    query = (
        columns(t.WorkerRow)
        .join(t.ModelRow, t.ModelRow.name == t.WorkerRow.model)
        .where(t.WorkerRow.ended_at.is_not(None), ~t.ModelRow.deleted)
        .order_by(t.WorkerRow.ended_at, t.WorkerRow.id)
    )
    return tuple(map(rows.worker, await plain(session, t.WorkerRow, query)))


async def claims(session: AsyncSession) -> tuple[Claim, ...]:
    query = columns(t.ClaimRow).order_by(t.ClaimRow.worker_id, t.ClaimRow.device_id)
    return tuple(map(rows.claim, await plain(session, t.ClaimRow, query)))
