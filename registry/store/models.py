"""Models and their revisions."""

from typing import cast

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from registry import rows
from registry import tables as t
from registry.errors import ConflictError, NotFoundError
from registry.spec import ModelSpec, RolloutPolicy, to_json
from registry.state import EventKind, Model, Revision
from registry.store import rollouts, scales
from registry.store.plain import columns
from registry.store.scope import Write, cut

CONDITION_CHARS_MAX = 2000
# What is audited.
APPLY, ROLLBACK, RESTORE = "model.apply", "model.rollback", "model.restore"


async def apply(
    write: Write,
    spec: ModelSpec,
    if_match: int | None,
    *,
    create_only: bool,
    policy: RolloutPolicy | None = None,
    action: str = APPLY,
) -> tuple[Model, bool]:
    """The model and whether anything changed. Raises ConflictError."""
    row = await write.session.get(t.ModelRow, spec.name)
    standing = None if row is None or row.deleted else row
    if create_only and standing is not None:
        raise ConflictError(f"model {spec.name!r} exists already: apply without create only")
    _check_generation(spec.name, standing, if_match)
    if standing is not None:
        current = await _current(write.session, standing)
        if current.spec == spec:
            return current, False
    before = standing.revision if standing is not None else None
    if row is None:
        row = t.ModelRow(name=spec.name, generation=0, revision=0)
        write.session.add(row)
    if standing is None:
        row.created_at = write.now
    policy = policy or spec.rollout
    return await _revise(write, row, spec, before, policy, action=action), True


async def _revise(
    write: Write,
    row: t.ModelRow,
    spec: ModelSpec,
    before: int | None,
    policy: RolloutPolicy | None,
    *,
    action: str,
) -> Model:
    """With a *policy* a model that stood *before* rolls over to it."""
    assert write.by is not None, "somebody makes a revision"
    if before is not None:
        await scales.follow(write, (await _current(write.session, row)).spec, spec)
    row.generation += 1
    row.revision += 1
    row.updated_at = write.now
    row.deleted = False
    row.condition, row.degraded = "", False
    await write.session.flush()  # the revision refers to the model
    text = to_json(spec).decode()
    write.session.add(
        t.RevisionRow(
            model=row.name,
            number=row.revision,
            spec=text,
            created_at=write.now,
            created_by=cut(write.by.actor),
        )
    )
    await _assert_gap_free(write.session, row)
    write.event(EventKind.MODEL_APPLIED, f"revision {row.revision}", model=row.name)
    write.audit(action, row.name, before=before, after=row.revision)
    rollout = None
    if before is not None and policy is not None:
        rollout = await rollouts.begin(write, row.name, before, row.revision, policy)
    return rows.model(row, text, rollout, await scales.of(write.session, row.name))


async def roll_back(write: Write, name: str, to_revision: int, reason: str) -> Model:
    """What was served before becomes the newest revision. Raises PlanConflictError when no rollout
    to *to_revision* is under way.
    """
    ended = await rollouts.end_rolled_back(write, name, to_revision, reason)
    row = await _standing(write.session, name)
    return await _revise(write, row, ended.base, row.revision, None, action=ROLLBACK)


async def abort(write: Write, name: str) -> Model:
    """`roll_back` because somebody asks for it. Raises NotFoundError."""
    row = await rollouts.asked_for(write.session, name)
    write.audit("rollout.abort", name, before=row.from_revision, after=row.to_revision)
    return await roll_back(write, name, row.to_revision, "was aborted")


async def _assert_gap_free(session: AsyncSession, row: t.ModelRow) -> None:
    """Invariant I5. Numbers are unique and positive, so as many as the highest are all of them."""
    count = await session.scalar(
        select(func.count()).select_from(t.RevisionRow).where(t.RevisionRow.model == row.name)
    )
    assert count == row.revision, f"{row.name} has {count} revisions, its newest is {row.revision}"


def _check_generation(name: str, standing: t.ModelRow | None, if_match: int | None) -> None:
    if if_match is None:
        return
    if standing is None:
        raise ConflictError(f"model {name!r} is not there any more: apply without If-Match")
    if standing.generation != if_match:
        raise ConflictError(
            f"model {name!r} is at generation {standing.generation}, not {if_match}: "
            "read it again and repeat the change"
        )


async def delete(write: Write, name: str, if_match: int | None) -> Model:
    """Raises NotFoundError, ConflictError."""
    row = await _standing(write.session, name)
    _check_generation(name, row, if_match)
    row.generation += 1
    row.updated_at = write.now
    row.deleted = True
    row.condition, row.degraded = "", False
    await scales.follow(write, (await _current(write.session, row)).spec, None)
    await rollouts.supersede(write, name, "the model was deleted")
    write.event(EventKind.MODEL_DELETED, f"at revision {row.revision}", model=name)
    write.audit("model.delete", name, before=row.revision)
    return await _current(write.session, row)


async def set_condition(write: Write, name: str, condition: str, *, degraded: bool) -> None:
    """Raises NotFoundError."""
    row = await _standing(write.session, name)
    condition = cut(condition, CONDITION_CHARS_MAX)
    if (row.condition, row.degraded) == (condition, degraded):
        return
    row.condition, row.degraded = condition, degraded
    write.event(EventKind.MODEL_CONDITION, condition or "served as its spec says", model=name)


async def _standing(session: AsyncSession, name: str) -> t.ModelRow:
    row = await session.get(t.ModelRow, name)
    if row is None or row.deleted:
        raise NotFoundError("model", name)
    return row


async def _current(session: AsyncSession, row: t.ModelRow) -> Model:
    revision = await session.get(t.RevisionRow, (row.name, row.revision))
    assert revision is not None, f"{row.name} lost its revision {row.revision}"
    return rows.model(
        row,
        revision.spec,
        await rollouts.active_of(session, row.name),
        await scales.of(session, row.name),
    )


async def one(session: AsyncSession, name: str) -> Model:
    """Raises NotFoundError."""
    return await _current(session, await _standing(session, name))


async def standing(session: AsyncSession) -> tuple[Model, ...]:
    return await _select(session, ~t.ModelRow.deleted)


async def standing_or_stopping(session: AsyncSession) -> tuple[Model, ...]:
    """With the deleted ones whose last workers still stop."""
    occupied = select(t.WorkerRow.model).where(t.WorkerRow.ended_at.is_(None))
    return await _select(session, ~t.ModelRow.deleted | t.ModelRow.name.in_(occupied))


async def _select(session: AsyncSession, where: ColumnElement[bool]) -> tuple[Model, ...]:
    query = (
        columns(t.ModelRow)
        .add_columns(t.RevisionRow.spec)
        .join(
            t.RevisionRow,
            (t.RevisionRow.model == t.ModelRow.name)
            & (t.RevisionRow.number == t.ModelRow.revision),
        )
        .where(where)
        .order_by(t.ModelRow.name)
    )
    found = [(cast("t.ModelRow", row), row.spec) for row in await session.execute(query)]
    under_way, scaled = await rollouts.active(session), await scales.every(session)
    return tuple(
        rows.model(row, spec, under_way.get(row.name), scaled.get(row.name, ()))
        for row, spec in found
    )


async def revisions(session: AsyncSession, name: str) -> tuple[Revision, ...]:
    """Oldest first. Raises NotFoundError."""
    await _standing(session, name)
    found = await session.scalars(
        select(t.RevisionRow).where(t.RevisionRow.model == name).order_by(t.RevisionRow.number)
    )
    return tuple(map(rows.revision, found))
