"""Workers that sleep, and what they hold meanwhile.

Awake, a worker's claims are what `gangs.commit` took: its plan's memory, or the whole device.
Asleep they are what its engine still holds, and with no process at all they are 0: the rows stay,
so that it finds its devices again. To wake it takes the rest back, verified as a new plan is.
"""

from collections.abc import Mapping

import msgspec
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from registry import rows
from registry import tables as t
from registry.errors import PlanConflictError
from registry.state import DeviceClaim, EventKind, NodeState, Phase, SleepMode, Worker, WorkerPlan
from registry.store import models, quotas
from registry.store.gangs import check_model, take
from registry.store.scope import Write, cut
from registry.store.workers import REASON_CHARS_MAX, claims_of, give_back, row_of


async def fall_asleep(write: Write, worker_id: str, mode: SleepMode, reason: str) -> Worker:
    """Raises NotFoundError."""
    assert mode is not SleepMode.AWAKE, worker_id
    row = await row_of(write.session, worker_id)
    worker = rows.worker(row)
    may = (
        worker.phase is Phase.READY
        or (worker.phase is Phase.FALLING_ASLEEP and worker.sleep_mode is not mode)
        # Its process is to end; what has none cannot be told to sleep in another way.
        or (worker.phase is Phase.ASLEEP and worker.has_process and mode is SleepMode.STOPPED)
    )
    if not may or worker.departing or worker.plan.external:
        return worker
    row.sleep_mode = mode
    _turn(write, row, Phase.FALLING_ASLEEP, reason)
    return rows.worker(row)


async def asleep(
    write: Write, worker_id: str, held_bytes: Mapping[str, int], mode: SleepMode | None
) -> Worker:
    """Raises NotFoundError."""
    row = await row_of(write.session, worker_id)
    if row.phase != Phase.FALLING_ASLEEP or (mode is not None and row.sleep_mode != mode):
        return rows.worker(row)
    for claim in await claims_of(write.session, row.id):
        held = held_bytes.get(claim.device_id, 0)
        assert 0 <= held <= claim.memory_bytes, f"{row.id} asleep holds more than awake"
        await give_back(write.session, claim.device_id, claim.memory_bytes - held)
        claim.memory_bytes = held
    if row.sleep_mode == SleepMode.STOPPED:
        row.url, row.events_url, row.kv_port = "", "", 0
    row.turned_at = write.now
    _turn(write, row, Phase.ASLEEP, row.reason)
    return rows.worker(row)


async def wake(write: Write, worker_id: str, reason: str) -> Worker:
    """Raises NotFoundError, PlanConflictError."""
    row = await row_of(write.session, worker_id)
    if row.phase != Phase.ASLEEP:
        return rows.worker(row)
    await _take_back(write, row)
    row.turned_at = write.now
    if row.sleep_mode == SleepMode.STOPPED:
        row.plan = rows.plan_text(await _plan_now(write.session, row))
        row.sleep_mode = SleepMode.AWAKE
        _turn(write, row, Phase.ASSIGNED, reason)
    else:  # how it sleeps says how it is woken, until it is
        _turn(write, row, Phase.WAKING, reason)
    return rows.worker(row)


async def _plan_now(session: AsyncSession, row: t.WorkerRow) -> WorkerPlan:
    """What it is started with now: whether it can be put to sleep may have changed while it ran."""
    plan, spec = rows.worker(row).plan, (await models.one(session, row.model)).spec
    for variant in spec.variants:
        if variant.name == plan.variant:
            return msgspec.structs.replace(plan, sleeps=spec.sleeps(variant))
    return plan


async def sleep_model(
    write: Write, name: str, modes: Mapping[str, SleepMode], reason: str
) -> tuple[Worker, ...]:
    """Those that fall asleep by it. Raises NotFoundError."""
    await models.one(write.session, name)
    ready = await _rows_in(write.session, name, Phase.READY)
    told = [
        await fall_asleep(write, row.id, modes[row.id], reason) for row in ready if row.id in modes
    ]
    turned = tuple(worker for worker in told if worker.phase is Phase.FALLING_ASLEEP)
    if turned:
        write.audit("model.sleep", name)
    return turned


async def wake_model(write: Write, name: str, reason: str) -> tuple[Worker, ...]:
    """Those that are woken by it. Raises NotFoundError, PlanConflictError."""
    await models.one(write.session, name)
    sleepers = await _rows_in(write.session, name, Phase.ASLEEP)
    woken = tuple([await wake(write, row.id, reason) for row in sleepers])
    if woken:
        write.audit("model.wake", name)
    return woken


async def _take_back(write: Write, row: t.WorkerRow) -> None:
    session = write.session
    plan = rows.worker(row).plan
    await check_model(session, plan)
    await _check_node(session, row.node)
    missing: list[tuple[t.ClaimRow, int]] = []
    for claim in await claims_of(session, row.id):
        device = await session.get(t.DeviceRow, claim.device_id)
        assert device is not None, claim.device_id
        awake_bytes = plan.memory_bytes or device.memory_bytes
        if awake_bytes == 0:
            raise PlanConflictError(f"device {claim.device_id!r} is gone")
        missing.append((claim, max(0, awake_bytes - claim.memory_bytes)))
    model = await models.one(session, row.model)
    await quotas.check_more(
        session,
        model.spec.owner,
        devices=sum(not claim.memory_bytes for claim, _ in missing),
        memory_bytes=sum(more for _, more in missing),
    )
    try:
        for claim, more in missing:
            wanted = DeviceClaim(device_id=claim.device_id, memory_bytes=more)
            await take(session, row.node, wanted)
            claim.memory_bytes += more
        await session.flush()
    except IntegrityError as error:
        raise PlanConflictError(f"refused by the database: {error.orig}") from error


async def _check_node(session: AsyncSession, name: str) -> None:
    """A cordoned node gets no new workers, and this one is none."""
    node = await session.get(t.NodeRow, name)
    assert node is not None, name
    state = rows.node_state(node)
    if state in {NodeState.UNKNOWN, NodeState.DRAINING}:
        raise PlanConflictError(f"node {name!r} is {state}")


def _turn(write: Write, row: t.WorkerRow, phase: Phase, reason: str) -> None:
    row.phase, row.reason = phase, cut(reason, REASON_CHARS_MAX)
    message = f"{phase}: {row.reason}" if row.reason else str(phase)
    write.event(EventKind.WORKER_PHASE, message, model=row.model, worker=row.id, node=row.node)


async def _rows_in(session: AsyncSession, model: str, phase: Phase) -> tuple[t.WorkerRow, ...]:
    query = select(t.WorkerRow).where(t.WorkerRow.model == model, t.WorkerRow.phase == phase)
    return tuple(await session.scalars(query.order_by(t.WorkerRow.created_at, t.WorkerRow.id)))
