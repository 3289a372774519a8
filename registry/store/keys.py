"""API keys."""

import math

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from registry import rows
from registry import tables as t
from registry.errors import ConflictError, NotFoundError, SpecError
from registry.keys import check_secret, digest, new_key_id, new_secret
from registry.spec import NAME_ALLOWED, is_name
from registry.state import EventKind, Key, KeyKind, Priority
from registry.store.scope import Write

KEYS_MAX = 100_000
KEY_MODELS_MAX = 1000


async def create(
    write: Write,
    *,
    name: str,
    kind: KeyKind,
    models: tuple[str, ...],
    priority: Priority,
    expires_at: float | None,
    secret: str | None,
) -> tuple[Key, str]:
    """The key and its secret. Raises SpecError, ConflictError."""
    _check_wishes(name, models, expires_at, write.now)
    if secret is None:
        secret = new_secret(kind)
    check_secret(secret)
    found = await write.session.scalar(select(t.KeyRow).where(t.KeyRow.digest == digest(secret)))
    if found is not None:
        if found.kind != kind:
            raise ConflictError(f"this secret is already the {found.kind} key {found.id}")
        return rows.key(found), secret
    if (await write.session.scalar(select(func.count(t.KeyRow.id))) or 0) >= KEYS_MAX:
        raise ConflictError(f"there are {KEYS_MAX} keys, more are not kept")
    row = t.KeyRow(
        id=new_key_id(),
        name=name,
        kind=kind,
        digest=digest(secret),
        models=rows.names_text(models),
        priority=priority,
        created_at=write.now,
        expires_at=expires_at,
        revoked_at=None,
    )
    write.session.add(row)
    write.event(EventKind.KEY_CREATED, f"{row.id} {name} ({kind})")
    write.audit("key.create", row.id)
    return rows.key(row), secret


def _check_wishes(name: str, models: tuple[str, ...], expires_at: float | None, now: float) -> None:
    if not name.isprintable() or not 1 <= len(name) <= 128:  # noqa: PLR2004 - said in the message
        raise SpecError("name", "allowed are 1 to 128 printable characters")
    if len(models) > KEY_MODELS_MAX:
        raise SpecError("models", f"are {len(models)}, allowed are {KEY_MODELS_MAX}")
    for index, model in enumerate(models):
        if not is_name(model):
            raise SpecError(f"models[{index}]", f"is {model[:80]!r}, {NAME_ALLOWED}")
    if expires_at is not None and not now < expires_at < math.inf:
        raise SpecError("expires_at", f"is {expires_at}, allowed is a time in the future")


async def revoke(write: Write, key_id: str) -> Key:
    """Revoking twice changes nothing. Raises NotFoundError."""
    row = await write.session.get(t.KeyRow, key_id)
    if row is None:
        raise NotFoundError("key", key_id)
    if row.revoked_at is None:
        row.revoked_at = write.now
        write.event(EventKind.KEY_REVOKED, f"{row.id} {row.name}")
        write.audit("key.revoke", row.id)
    return rows.key(row)


async def every(session: AsyncSession) -> tuple[Key, ...]:
    """Revoked and expired ones too, oldest first."""
    found = await session.scalars(select(t.KeyRow).order_by(t.KeyRow.created_at, t.KeyRow.id))
    return tuple(map(rows.key, found))
