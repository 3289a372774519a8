"""Quotas of owners, and whether a plan keeps them."""

from collections import Counter

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from registry import rows
from registry import tables as t
from registry.errors import NotFoundError, PlanConflictError, SpecError
from registry.spec import from_json, is_name
from registry.state import EventKind, PlannedGang, Quota
from registry.store.scope import Write

DEVICES_MAX = 10**6
MEMORY_BYTES_MAX = 2**60


async def put(write: Write, quota: Quota) -> Quota:
    """Raises SpecError."""
    _check(quota)
    row = await write.session.get(t.QuotaRow, quota.owner)
    if row is None:
        row = t.QuotaRow(owner=quota.owner)
        write.session.add(row)
    elif rows.quota(row) == quota:
        return quota
    row.devices, row.memory_bytes = quota.devices, quota.memory_bytes
    devices = "any" if quota.devices is None else quota.devices
    memory = "any" if quota.memory_bytes is None else f"{quota.memory_bytes} bytes of"
    write.event(
        EventKind.QUOTA_CHANGED, f"{quota.owner} may hold {devices} devices, {memory} memory"
    )
    write.audit("quota.set", quota.owner)
    return quota


def _check(quota: Quota) -> None:
    if not is_name(quota.owner):
        raise SpecError("owner", f"is {quota.owner[:80]!r}, allowed is a name as in a spec")
    for field, value, most in (
        ("devices", quota.devices, DEVICES_MAX),
        ("memory", quota.memory_bytes, MEMORY_BYTES_MAX),
    ):
        if value is not None and not 0 <= value <= most:
            raise SpecError(field, f"is {value}, allowed is 0 to {most}")


async def delete(write: Write, owner: str) -> None:
    """Raises NotFoundError."""
    row = await write.session.get(t.QuotaRow, owner)
    if row is None:
        raise NotFoundError("quota", owner)
    await write.session.delete(row)
    write.event(EventKind.QUOTA_CHANGED, f"{owner} has no quota any more")
    write.audit("quota.delete", owner)


async def every(session: AsyncSession) -> tuple[Quota, ...]:
    query = select(t.QuotaRow).order_by(t.QuotaRow.owner)
    return tuple(map(rows.quota, await session.scalars(query)))


async def check(session: AsyncSession, gang: PlannedGang) -> None:
    """Raises PlanConflictError where the gang would take its owner over the quota. A gang is of
    one model, and so of one owner.
    """
    taken = [claim.memory_bytes for worker in gang.workers for claim in worker.claims]
    await check_more(
        session,
        gang.workers[0].plan.owner,
        devices=sum(size > 0 for size in taken),
        memory_bytes=sum(taken),
    )


async def check_more(session: AsyncSession, owner: str, *, devices: int, memory_bytes: int) -> None:
    """Raises PlanConflictError where that many more would take the owner over the quota."""
    row = await session.get(t.QuotaRow, owner)
    if row is None:
        return
    quota = rows.quota(row)
    held_devices, held_bytes = await _held(session, owner)
    devices += held_devices
    memory_bytes += held_bytes
    if quota.devices is not None and devices > quota.devices:
        raise PlanConflictError(f"owner {owner} may hold {quota.devices} devices, not {devices}")
    if quota.memory_bytes is not None and memory_bytes > quota.memory_bytes:
        raise PlanConflictError(
            f"owner {owner} may hold {quota.memory_bytes} bytes, not {memory_bytes}"
        )


async def _held(session: AsyncSession, owner: str) -> tuple[int, int]:
    """(devices, bytes) that the workers of the owner's models hold now, as the specs name owners
    today. A device that two workers share counts for each, one of which a sleeping worker holds
    nothing does not.
    """
    query = (
        select(t.WorkerRow.model, func.count(), func.sum(t.ClaimRow.memory_bytes))
        .join(t.ClaimRow, t.ClaimRow.worker_id == t.WorkerRow.id)
        .where(t.ClaimRow.memory_bytes > 0)
        .group_by(t.WorkerRow.model)
    )
    held = {model: (count, int(total)) for model, count, total in await session.execute(query)}
    sums: Counter[str] = Counter()
    specs = (
        select(t.RevisionRow.spec, t.ModelRow.name)
        .join(t.ModelRow, t.ModelRow.name == t.RevisionRow.model)
        .where(t.RevisionRow.number == t.ModelRow.revision, t.ModelRow.name.in_(held))
    )
    for spec, model in await session.execute(specs):
        if from_json(spec).owner == owner:
            sums["devices"] += held[model][0]
            sums["bytes"] += held[model][1]
    return sums["devices"], sums["bytes"]
