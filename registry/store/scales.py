"""How many workers autoscaled roles are to have."""

from collections import defaultdict

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from registry import rows
from registry import tables as t
from registry.errors import NotFoundError
from registry.spec import ModelSpec, Role, RoleSpec
from registry.state import EventKind, RoleScale, scales_that_stay
from registry.store.scope import Write, cut

REASON_CHARS_MAX = 1000


async def every(session: AsyncSession) -> dict[str, tuple[RoleScale, ...]]:
    """By model."""
    found: dict[str, list[RoleScale]] = defaultdict(list)
    for row in await session.scalars(select(t.ScaleRow)):
        found[row.model].append(rows.scale(row))
    return {model: tuple(scales) for model, scales in found.items()}


async def of(session: AsyncSession, model: str) -> tuple[RoleScale, ...]:
    found = await session.scalars(select(t.ScaleRow).where(t.ScaleRow.model == model))
    return tuple(map(rows.scale, found))


async def put(write: Write, model: str, slot: tuple[str, Role], workers: int, reason: str) -> None:
    """Nothing where it has so many. Raises NotFoundError unless its role is autoscaled."""
    variant, role = slot
    spec = _autoscaled(await _spec(write.session, model)).get((variant, role))
    if spec is None or spec.autoscale is None:
        raise NotFoundError("autoscaled role", f"{role} of {model}/{variant}")
    row = await write.session.get(t.ScaleRow, (model, variant, role))
    before = spec.workers if row is None else row.workers
    if workers == before:
        return
    if row is None:
        row = t.ScaleRow(model=model, variant=variant, role=role)
        write.session.add(row)
    row.workers, row.reason, row.at = workers, cut(reason, REASON_CHARS_MAX), write.now
    _tell(write, model, slot, (before, workers), reason)


async def drop(write: Write, model: str, variant: str, role: Role) -> None:
    """The role has as many workers again as its spec says, and its load leads on from there."""
    row = await write.session.get(t.ScaleRow, (model, variant, role))
    if row is None:
        return
    spec = _autoscaled(await _spec(write.session, model)).get((variant, role))
    after = spec.workers if spec is not None else 0
    await write.session.delete(row)
    _tell(write, model, (variant, role), (row.workers, after), "asked for by hand")
    write.audit("model.scale", model)


async def follow(write: Write, before: ModelSpec, after: ModelSpec | None) -> None:
    """*after* (None: deleted) takes the place of *before*, which voids what was said of some roles.
    The caller tells of it.
    """
    found = (
        await write.session.scalars(select(t.ScaleRow).where(t.ScaleRow.model == before.name))
    ).all()
    stay = scales_that_stay(before, after, map(rows.scale, found))
    slots = {(scale.variant, scale.role) for scale in stay}
    for row in found:
        if (row.variant, Role(row.role)) not in slots:
            await write.session.delete(row)


async def _spec(session: AsyncSession, model: str) -> ModelSpec:
    row = await session.get(t.ModelRow, model)
    if row is None or row.deleted:
        raise NotFoundError("model", model)
    revision = await session.get(t.RevisionRow, (model, row.revision))
    assert revision is not None, f"{model} lost its revision {row.revision}"
    return rows.revision(revision).spec


def _tell(
    write: Write, model: str, slot: tuple[str, Role], change: tuple[int, int], reason: str
) -> None:
    (variant, role), (before, after) = slot, change
    message = f"{role} of {variant} {before} → {after}: {reason}"
    write.event(EventKind.MODEL_SCALED, message, model=model)


def _autoscaled(spec: ModelSpec | None) -> dict[tuple[str, Role], RoleSpec]:
    return {
        (variant.name, role): role_spec
        for variant in (spec.variants if spec is not None else ())
        for role, role_spec in variant.topology.roles()
        if role_spec.autoscale is not None
    }
