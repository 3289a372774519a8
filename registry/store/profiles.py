"""Measured step times: of each weights, engine, device model and count of devices the newest."""

import secrets

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from registry import rows
from registry import tables as t
from registry.errors import NotFoundError
from registry.state import EventKind, Principal, Profile, StoredProfile
from registry.store import models
from registry.store.scope import Write, cut

_ID_BYTES = 6


async def put(
    write: Write, profile: Profile, *, model: str, variant: str, runtime: str, by: Principal
) -> StoredProfile:
    """Takes the place of an earlier one, and its id. Raises NotFoundError for a model that is not
    there.
    """
    await models.one(write.session, model)
    row = await write.session.scalar(
        select(t.ProfileRow).where(
            t.ProfileRow.source == profile.source,
            t.ProfileRow.engine == profile.engine,
            t.ProfileRow.device_model == profile.device_model,
            t.ProfileRow.devices == profile.devices,
        )
    )
    if row is None:
        row = t.ProfileRow(
            id=f"prf_{secrets.token_hex(_ID_BYTES)}",
            source=profile.source,
            engine=profile.engine,
            device_model=profile.device_model,
            devices=profile.devices,
        )
        write.session.add(row)
    row.model, row.variant, row.runtime = model, variant, runtime
    row.memory_bytes, row.batched_tokens = profile.memory_bytes, profile.batched_tokens
    row.kv_tokens, row.is_kv_told = profile.kv_tokens, profile.is_kv_told
    row.points = rows.points_text(profile.points)
    row.measured_at, row.measured_by = write.now, cut(by.actor)
    write.event(EventKind.PROFILE, f"{row.id} measured: {_named(row)}", model=model)
    write.audit("profile.put", row.id)
    return rows.profile(row)


async def delete(write: Write, profile_id: str) -> StoredProfile:
    """Raises NotFoundError."""
    row = await write.session.get(t.ProfileRow, profile_id)
    if row is None:
        raise NotFoundError("profile", profile_id)
    deleted = rows.profile(row)
    await write.session.delete(row)
    write.event(EventKind.PROFILE, f"{row.id} deleted: {_named(row)}", model=row.model)
    write.audit("profile.delete", row.id)
    return deleted


async def every(session: AsyncSession) -> tuple[StoredProfile, ...]:
    """By what they are of."""
    query = select(t.ProfileRow).order_by(
        t.ProfileRow.source, t.ProfileRow.device_model, t.ProfileRow.devices, t.ProfileRow.engine
    )
    return tuple(map(rows.profile, await session.scalars(query)))


def _named(row: t.ProfileRow) -> str:
    return f"{row.source} on {row.devices}x {row.device_model} with {row.engine}"
