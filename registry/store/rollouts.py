"""How models get from one revision to another.

Each move is a compare-and-set on the rollout under way: who decided from what is no longer so gets
a PlanConflictError and looks again, and a move that was made already is not made twice.
"""

import msgspec
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from registry import rows
from registry import tables as t
from registry.errors import ConflictError, NotFoundError, PlanConflictError
from registry.spec import Promote, RolloutPolicy
from registry.state import EventKind, Rollout, RolloutState
from registry.store.scope import Write, cut

REASON_CHARS_MAX = 1000
_WHOLE = 100  # percent

_WITH_BASE = select(t.RolloutRow, t.RevisionRow.spec).join(
    t.RevisionRow,
    (t.RevisionRow.model == t.RolloutRow.model)
    & (t.RevisionRow.number == t.RolloutRow.from_revision),
)


async def begin(
    write: Write, model: str, from_revision: int, to_revision: int, policy: RolloutPolicy
) -> Rollout:
    """One that was under way ends, and what it came from is what this one comes from: unless its
    revision has all the traffic already, and the workers from before it leave.
    """
    before = await _active_row(write.session, model)
    if before is not None:
        if before.percent < _WHOLE:
            from_revision = before.from_revision
        await supersede(write, model, f"revision {to_revision} takes its place")
    await write.session.flush()  # at most one of a model is under way, also for a moment
    row = t.RolloutRow(
        model=model,
        to_revision=to_revision,
        from_revision=from_revision,
        policy=msgspec.json.encode(policy).decode(),
        state=RolloutState.PROGRESSING,
        step=0,
        percent=0,
        step_at=write.now,
        reason="begins",
        created_at=write.now,
        ended_at=None,
    )
    write.session.add(row)
    await write.session.flush()
    _say(write, row, f"from revision {from_revision} begins")
    return await _value(write.session, row)


async def supersede(write: Write, model: str, reason: str) -> None:
    """Ends the one under way, if any."""
    row = await _active_row(write.session, model)
    if row is not None:
        _end(write, row, RolloutState.SUPERSEDED, reason)


async def enter_step(
    write: Write, model: str, to_revision: int, step: int, *, percent: int, reason: str
) -> Rollout:
    """Raises PlanConflictError, also where somebody paused it."""
    row = await _expected(write.session, model, to_revision)
    if (row.step, row.percent) == (step, percent):
        return await _value(write.session, row)
    if row.state != RolloutState.PROGRESSING or row.step != step - 1:
        raise PlanConflictError(f"{_name(row)} is {row.state} at step {row.step}")
    row.step, row.percent, row.step_at = step, percent, write.now
    row.reason = cut(reason, REASON_CHARS_MAX)
    if _policy(row).promote is Promote.MANUAL and percent < _WHOLE:
        row.state = RolloutState.PAUSED
        row.reason = cut(f"{reason}; resume to go on", REASON_CHARS_MAX)
    _say(write, row, f"enters step {step}, {percent} % of the traffic: {row.reason}")
    return await _value(write.session, row)


async def shift_traffic(
    write: Write, model: str, to_revision: int, percent: int, reason: str
) -> Rollout:
    """Raises PlanConflictError."""
    row = await _expected(write.session, model, to_revision)
    if row.percent == percent:
        return await _value(write.session, row)
    if row.state != RolloutState.PROGRESSING or row.percent > percent:
        raise PlanConflictError(f"{_name(row)} is {row.state} at {row.percent} %")
    row.percent, row.step_at = percent, write.now
    row.reason = cut(reason, REASON_CHARS_MAX)
    _say(write, row, f"{percent} % of the traffic: {row.reason}")
    return await _value(write.session, row)


async def say(write: Write, model: str, to_revision: int, reason: str) -> None:
    """Raises PlanConflictError."""
    row = await _expected(write.session, model, to_revision)
    reason = cut(reason, REASON_CHARS_MAX)
    if row.reason != reason:
        row.reason = reason
        _say(write, row, f"waits: {reason}")


async def stall(write: Write, model: str, to_revision: int, reason: str) -> Rollout:
    """Raises PlanConflictError."""
    row = await _expected(write.session, model, to_revision)
    if row.state != RolloutState.STALLED:
        row.state, row.reason = RolloutState.STALLED, cut(reason, REASON_CHARS_MAX)
        _say(write, row, f"stands still: {row.reason}")
    return await _value(write.session, row)


async def finish(write: Write, model: str, to_revision: int, reason: str) -> Rollout:
    """Raises PlanConflictError."""
    row = await _expected(write.session, model, to_revision)
    row.percent = _WHOLE
    _end(write, row, RolloutState.DONE, reason)
    return await _value(write.session, row)


async def end_rolled_back(write: Write, model: str, to_revision: int, reason: str) -> Rollout:
    """The half of it that is the rollout's; the new revision is the model's. Raises
    PlanConflictError.
    """
    row = await _expected(write.session, model, to_revision)
    row.percent = 0
    _end(write, row, RolloutState.ROLLED_BACK, reason)
    await write.session.flush()
    return await _value(write.session, row)


async def pause(write: Write, model: str) -> Rollout:
    """Raises NotFoundError, and ConflictError for one that stands still already."""
    row = await asked_for(write.session, model)
    if row.state == RolloutState.STALLED:
        raise ConflictError(f"{_name(row)} stands still already: {row.reason}")
    if row.state == RolloutState.PROGRESSING:
        row.state, row.reason = RolloutState.PAUSED, "was paused: resume to go on"
        _say(write, row, row.reason)
        write.audit("rollout.pause", model, before=row.from_revision, after=row.to_revision)
    return await _value(write.session, row)


async def resume(write: Write, model: str) -> Rollout:
    """Its step's times begin anew. Raises NotFoundError."""
    row = await asked_for(write.session, model)
    if row.state != RolloutState.PROGRESSING:
        row.state, row.reason = RolloutState.PROGRESSING, "goes on"
        row.step_at = write.now
        _say(write, row, row.reason)
        write.audit("rollout.resume", model, before=row.from_revision, after=row.to_revision)
    return await _value(write.session, row)


def _end(write: Write, row: t.RolloutRow, state: RolloutState, reason: str) -> None:
    row.state, row.ended_at = state, write.now
    row.reason = cut(reason, REASON_CHARS_MAX)
    _say(write, row, f"{state}: {row.reason}")


def _say(write: Write, row: t.RolloutRow, text: str) -> None:
    write.event(EventKind.ROLLOUT, f"{_name(row)} {text}", model=row.model)


def _name(row: t.RolloutRow) -> str:
    return f"rollout to revision {row.to_revision}"


def _policy(row: t.RolloutRow) -> RolloutPolicy:
    return msgspec.json.decode(row.policy, type=RolloutPolicy)


async def asked_for(session: AsyncSession, model: str) -> t.RolloutRow:
    """The one under way. Raises NotFoundError."""
    row = await _active_row(session, model)
    if row is None:
        raise NotFoundError("rollout under way of model", model)
    return row


async def _expected(session: AsyncSession, model: str, to_revision: int) -> t.RolloutRow:
    row = await _active_row(session, model)
    if row is None or row.to_revision != to_revision:
        raise PlanConflictError(f"model {model!r} has no rollout to revision {to_revision} now")
    return row


async def _active_row(session: AsyncSession, model: str) -> t.RolloutRow | None:
    query = select(t.RolloutRow).where(t.RolloutRow.model == model, t.RolloutRow.ended_at.is_(None))
    return (await session.scalars(query)).one_or_none()


async def _value(session: AsyncSession, row: t.RolloutRow) -> Rollout:
    base = await session.get(t.RevisionRow, (row.model, row.from_revision))
    assert base is not None, f"{row.model} lost its revision {row.from_revision}"
    return rows.rollout(row, base.spec)


async def active(session: AsyncSession) -> dict[str, Rollout]:
    """Those under way, by model."""
    found = await session.execute(_WITH_BASE.where(t.RolloutRow.ended_at.is_(None)))
    return {row.model: rows.rollout(row, base) for row, base in found}


async def active_of(session: AsyncSession, model: str) -> Rollout | None:
    query = _WITH_BASE.where(t.RolloutRow.model == model, t.RolloutRow.ended_at.is_(None))
    found = (await session.execute(query)).one_or_none()
    return rows.rollout(found[0], found[1]) if found is not None else None


async def of(session: AsyncSession, model: str) -> tuple[Rollout, ...]:
    """All of a model, newest first."""
    query = _WITH_BASE.where(t.RolloutRow.model == model).order_by(t.RolloutRow.to_revision.desc())
    return tuple(rows.rollout(row, base) for row, base in await session.execute(query))


async def newest(session: AsyncSession, model: str) -> Rollout | None:
    """Under way or ended."""
    query = _WITH_BASE.where(t.RolloutRow.model == model)
    query = query.order_by(t.RolloutRow.to_revision.desc()).limit(1)
    found = (await session.execute(query)).one_or_none()
    return rows.rollout(found[0], found[1]) if found is not None else None
