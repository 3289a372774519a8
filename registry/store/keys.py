"""API keys."""

import math

import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy import func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from registry import rows
from registry import tables as t
from registry.errors import ConflictError, NotFoundError, SpecError
from registry.keys import check_secret, digest, new_key_id, new_secret
from registry.spec import LIMIT_MAX, NAME_ALLOWED, is_name
from registry.state import (
    NANO,
    NO_KEY_LIMITS,
    AccessRole,
    BudgetPeriod,
    EventKind,
    Key,
    KeyKind,
    KeyLimits,
    Priority,
)
from registry.store import sessions, spending
from registry.store.scope import Write

KEYS_MAX = 100_000
KEY_MODELS_MAX = 1000
NAME_CHARS_MAX = 64
ID_CHARS_MAX = 32
BUDGET_NANO_MAX = 10**9 * NANO
OVERLAP_S_MAX = 90 * 86_400


class KeyWish(msgspec.Struct, frozen=True, kw_only=True):
    """What a new key is to be."""

    name: str
    kind: KeyKind
    role: AccessRole = AccessRole.ADMIN
    models: tuple[str, ...] = ()
    priority: Priority = Priority.NORMAL
    limits: KeyLimits = NO_KEY_LIMITS
    expires_at: float | None = None


class KeyLimitsChange(msgspec.Struct, frozen=True, kw_only=True):
    """What of a key's limits is to be otherwise; UNSET leaves it as it is, 0 lifts it."""

    requests_per_minute: int | UnsetType = UNSET
    tokens_per_minute: int | UnsetType = UNSET
    in_flight: int | UnsetType = UNSET
    budget_nano: int | UnsetType = UNSET
    budget_period: BudgetPeriod | UnsetType = UNSET

    def applied(self, limits: KeyLimits) -> KeyLimits:
        return msgspec.structs.replace(limits, **_given(self))


class KeyChange(msgspec.Struct, frozen=True, kw_only=True):
    """What of a key is to be otherwise; UNSET leaves it as it is."""

    name: str | UnsetType = UNSET
    models: tuple[str, ...] | UnsetType = UNSET
    priority: Priority | UnsetType = UNSET
    expires_at: float | UnsetType | None = UNSET
    limits: KeyLimitsChange | UnsetType = UNSET


def _given(change: KeyChange | KeyLimitsChange) -> dict[str, object]:
    given = msgspec.structs.asdict(change)
    return {field: value for field, value in given.items() if value is not UNSET}


async def create(write: Write, wish: KeyWish, secret: str | None) -> tuple[Key, str]:
    """The key and its secret. Raises SpecError, ConflictError."""
    _check(wish)
    _check_end(wish.expires_at, write.now)
    if secret is None:
        secret = new_secret(wish.kind)
    check_secret(secret)
    found = await _owner(write.session, digest(secret))
    if found is not None:
        if found.kind != wish.kind:
            raise ConflictError(f"this secret is already the {found.kind} key {found.id}")
        return await _told(write, found), secret
    if (await write.session.scalar(select(func.count(t.KeyRow.id))) or 0) >= KEYS_MAX:
        raise ConflictError(f"there are {KEYS_MAX} keys, more are not kept")
    row = t.KeyRow(
        id=new_key_id(),
        name=wish.name,
        kind=wish.kind,
        digest=digest(secret),
        role=wish.role,
        models=rows.names_text(wish.models),
        priority=wish.priority,
        limits=rows.limits_text(wish.limits),
        created_at=write.now,
        expires_at=wish.expires_at,
        revoked_at=None,
    )
    write.session.add(row)
    write.event(EventKind.KEY_CREATED, f"{row.id} {wish.name} ({wish.kind})")
    write.audit("key.create", row.id)
    return rows.key(row), secret


async def _owner(session: AsyncSession, found: bytes) -> t.KeyRow | None:
    """The key with that digest, a retired secret's too: it must not come back as another key's."""
    query = select(t.KeyRow).where(or_(t.KeyRow.digest == found, t.KeyRow.old_digest == found))
    return await session.scalar(query)


def _check(wish: KeyWish) -> None:
    if not wish.name.isprintable() or not 1 <= len(wish.name) <= NAME_CHARS_MAX:
        raise SpecError("name", f"allowed are 1 to {NAME_CHARS_MAX} printable characters")
    if len(wish.models) > KEY_MODELS_MAX:
        raise SpecError("models", f"are {len(wish.models)}, allowed are {KEY_MODELS_MAX}")
    for index, model in enumerate(wish.models):
        if not is_name(model):
            raise SpecError(f"models[{index}]", f"is {model[:80]!r}, {NAME_ALLOWED}")
    if wish.kind is KeyKind.ADMIN:
        _check_admin(wish)
    elif wish.role is not AccessRole.ADMIN:
        raise SpecError("role", "an inference key opens no admin API: leave it out")
    for field in ("requests_per_minute", "tokens_per_minute", "in_flight"):
        value = getattr(wish.limits, field)
        if not 0 <= value <= LIMIT_MAX:
            raise SpecError(f"limits.{field}", f"is {value}, allowed is 0 (none) to {LIMIT_MAX}")
    if not 0 <= wish.limits.budget_nano <= BUDGET_NANO_MAX:
        most = BUDGET_NANO_MAX // NANO
        raise SpecError("limits.budget.amount", f"allowed is 0 (none) to {most}")


def _check_admin(wish: KeyWish) -> None:
    if wish.models:
        raise SpecError("models", "an admin key is for all models: leave it out")
    if wish.priority is not Priority.NORMAL:
        raise SpecError("priority", "an admin key's requests never queue: leave it out")
    if wish.limits != NO_KEY_LIMITS:
        raise SpecError("limits", "an admin key opens no model: leave them out")


def _check_end(expires_at: float | None, now: float) -> None:
    if expires_at is not None and not now < expires_at < math.inf:
        raise SpecError("expires_at", f"is {expires_at}, allowed is a time in the future")


async def update(write: Write, key_id: str, change: KeyChange) -> Key:
    """Raises NotFoundError, SpecError, and ConflictError for a revoked key."""
    row = await _standing(write.session, key_id)
    before = await _told(write, row)
    given = _given(change)
    if isinstance(change.limits, KeyLimitsChange):
        given["limits"] = change.limits.applied(before.limits)
    after = msgspec.structs.replace(before, **given)
    changed = [field for field in given if getattr(after, field) != getattr(before, field)]
    if not changed:
        return before
    _check(_as_wish(after))
    if "expires_at" in changed:
        _check_end(after.expires_at, write.now)
    row.name, row.priority, row.expires_at = after.name, after.priority, after.expires_at
    row.models, row.limits = rows.names_text(after.models), rows.limits_text(after.limits)
    if "expires_at" in changed:
        await sessions.end_of(write, row.id, after.expires_at)
    write.event(EventKind.KEY_CHANGED, f"{row.id} {row.name}: {', '.join(changed)}")
    write.audit("key.update", row.id)
    return await _told(write, row)  # in another period it has spent something else


async def rotate(write: Write, key_id: str, overlap_s: float) -> tuple[Key, str]:
    """The key with a new secret; the one it had is good for *overlap_s* more seconds, one from an
    earlier rotation no longer. Raises NotFoundError, SpecError, and ConflictError for a key that
    has ended.
    """
    row = await _standing(write.session, key_id)
    if not 0 <= overlap_s <= OVERLAP_S_MAX:
        raise SpecError("overlap_s", f"is {overlap_s}, allowed is 0 to {OVERLAP_S_MAX}")
    if row.expires_at is not None and row.expires_at <= write.now:
        raise ConflictError(f"the key {key_id} has expired: give it a new end first")
    secret = new_secret(KeyKind(row.kind))
    row.old_digest, row.old_expires_at = row.digest, write.now + overlap_s
    row.digest = digest(secret)
    await sessions.end_of(write, row.id, row.old_expires_at)
    write.event(EventKind.KEY_ROTATED, f"{row.id} {row.name}")
    write.audit("key.rotate", row.id)
    return await _told(write, row), secret


async def revoke(write: Write, key_id: str) -> Key:
    """All its secrets. Revoking twice changes nothing. Raises NotFoundError."""
    row = await _row(write.session, key_id)
    if row.revoked_at is None:
        row.revoked_at = write.now
        await sessions.end_of(write, row.id, write.now)
        write.event(EventKind.KEY_REVOKED, f"{row.id} {row.name}")
        write.audit("key.revoke", row.id)
    return await _told(write, row)


async def is_there(session: AsyncSession, key: Key) -> bool:
    found = await _owner(session, key.digest)
    return found is not None and found.digest == key.digest


async def put_back(write: Write, key: Key) -> Key:
    """A key of an export, with the secrets that it had: known by these, whatever its id is here.
    Raises SpecError, and ConflictError where one of them has another secret, or another key.
    """
    _check_id(key.id)
    _check(_as_wish(key))
    row = await _owner(write.session, key.digest)
    if row is not None and (row.digest, row.kind) != (key.digest, key.kind):
        raise ConflictError(f"its secret is a former one of the {row.kind} key {row.id}")
    if row is None:
        if await write.session.get(t.KeyRow, key.id) is not None:
            raise ConflictError(f"the key {key.id} has another secret here: it was rotated since")
        row = t.KeyRow(id=key.id, kind=key.kind, digest=key.digest, created_at=key.created_at)
        write.session.add(row)
        write.event(EventKind.KEY_CREATED, f"{row.id} {key.name} ({key.kind})")
    elif _settings(rows.key(row)) == _settings(key):
        return await _told(write, row)
    else:
        write.event(EventKind.KEY_CHANGED, f"{row.id} {key.name}: as in an export")
    if key.old_digest is not None:
        other = await _owner(write.session, key.old_digest)
        if other is not None and other is not row:
            raise ConflictError(f"its former secret is one of the key {other.id}")
    row.name, row.priority = key.name, key.priority
    row.models, row.limits = rows.names_text(key.models), rows.limits_text(key.limits)
    row.expires_at, row.revoked_at = key.expires_at, key.revoked_at
    row.old_digest, row.old_expires_at = key.old_digest, key.old_expires_at
    row.role = key.role
    await sessions.end_of(write, row.id, write.now)  # whatever changed, they are begun anew
    write.audit("key.restore", row.id)
    return await _told(write, row)


def _as_wish(key: Key) -> KeyWish:
    return KeyWish(
        name=key.name,
        kind=key.kind,
        role=key.role,
        models=key.models,
        priority=key.priority,
        limits=key.limits,
    )


def _settings(key: Key) -> tuple[object, ...]:
    """What an export can change of a key that is there."""
    ends = (key.expires_at, key.revoked_at, key.old_digest, key.old_expires_at)
    return (_as_wish(key), *ends)


def _check_id(key_id: str) -> None:
    if not is_name(key_id) or len(key_id) > ID_CHARS_MAX:
        raise SpecError("id", f"is {key_id[:40]!r}, allowed are ids as in key_0a1b2c3d")


async def _row(session: AsyncSession, key_id: str) -> t.KeyRow:
    row = await session.get(t.KeyRow, key_id)
    if row is None:
        raise NotFoundError("key", key_id)
    return row


async def _standing(session: AsyncSession, key_id: str) -> t.KeyRow:
    row = await _row(session, key_id)
    if row.revoked_at is not None:
        raise ConflictError(f"the key {key_id} is revoked: make another one")
    return row


async def _told(write: Write, row: t.KeyRow) -> Key:
    (key,) = await _with_spending(write.session, [row], write.now)
    return key


async def one(session: AsyncSession, key_id: str, now: float) -> Key:
    """Raises NotFoundError."""
    (key,) = await _with_spending(session, [await _row(session, key_id)], now)
    return key


async def every(session: AsyncSession, now: float) -> tuple[Key, ...]:
    """Revoked and expired ones too, oldest first, with what they spent in the period of *now*."""
    found = await session.scalars(select(t.KeyRow).order_by(t.KeyRow.created_at, t.KeyRow.id))
    return await _with_spending(session, list(found), now)


async def names(session: AsyncSession) -> dict[str, str]:
    """By id, of revoked and expired ones too."""
    found = await session.execute(select(t.KeyRow.id, t.KeyRow.name))
    return {row.id: row.name for row in found}


async def _with_spending(
    session: AsyncSession, found: list[t.KeyRow], now: float
) -> tuple[Key, ...]:
    keys = tuple(map(rows.key, found))
    spent = await spending.spent(session, keys, now)
    return tuple(
        msgspec.structs.replace(key, spent_nano=spent[key.id]) if key.id in spent else key
        for key in keys
    )
