"""Browsers that are signed in. A session lives for `LIFE_S` at most, and ends when nothing was
heard of it for `IDLE_S`; whatever ends what it was begun with ends it, too.
"""

from typing import Any

from sqlalchemy import and_, delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from registry import rows
from registry import tables as t
from registry.state import AccessRole, Account, EventKind, Key, Session
from registry.store.scope import Write

LIFE_S = 12 * 3600.0
IDLE_S = 2 * 3600.0
SEEN_EVERY_S = 300.0  # how exactly it is known when something was last heard of one
PER_ACTOR_MAX = 50


async def begin_with_account(write: Write, account: Account, digest: bytes) -> Session | None:
    """None where the account has been deleted, or got another password, since it was read."""
    row = await write.session.get(t.AccountRow, account.name)
    if row is None or rows.account(row) != account:
        return None
    made = _row(write, digest, account.actor, account.role)
    made.account = account.name
    return await _begin(write, made)


async def begin_with_key(write: Write, key: Key, digest: bytes) -> Session | None:
    """None where the key has ended since it was read, or the secret that *key* was read by."""
    row = await write.session.get(t.KeyRow, key.id)
    if row is None or row.revoked_at is not None or row.digest != key.digest:
        return None
    ends = [end for end in (row.expires_at, key.expires_at) if end is not None]
    made = _row(write, digest, key.id, AccessRole(row.role))
    made.key_id = key.id
    made.expires_at = min([made.expires_at, *ends])
    return await _begin(write, made) if made.expires_at > write.now else None


def _row(write: Write, digest: bytes, actor: str, role: AccessRole) -> t.SessionRow:
    return t.SessionRow(
        digest=digest,
        actor=actor,
        role=role,
        account="",
        key_id="",
        created_at=write.now,
        seen_at=write.now,
        expires_at=write.now + LIFE_S,
    )


async def _begin(write: Write, row: t.SessionRow) -> Session:
    """Of one actor the newest `PER_ACTOR_MAX` stay."""
    newest = (
        select(t.SessionRow.digest)
        .where(t.SessionRow.actor == row.actor)
        .order_by(t.SessionRow.created_at.desc(), t.SessionRow.digest)
    )
    digests = list(await write.session.scalars(newest))
    await _delete(write, t.SessionRow.digest.in_(digests[PER_ACTOR_MAX - 1 :]))
    write.session.add(row)
    write.event(EventKind.SIGN_IN, f"{row.actor} signed in ({row.role})")
    write.audit("session.begin", "")
    return rows.session(row)


def refused(write: Write, why: str, target: str) -> None:
    """Somebody tried to sign in, and was told no."""
    write.event(EventKind.SIGN_IN, why)
    write.audit("session.refuse", target)


async def end(write: Write, digest: bytes) -> None:
    """Signs out; of one that has ended it says nothing."""
    row = await write.session.get(t.SessionRow, digest)
    if row is None:
        return
    await write.session.delete(row)
    write.event(EventKind.SIGN_IN, f"{row.actor} signed out")
    write.audit("session.end", "")


async def end_of(write: Write, actor: str, at: float | None) -> None:
    """No session of *actor* lives on after *at*; None: nothing of it ends earlier. What calls this
    tells the event.
    """
    if at is None:
        return
    theirs = t.SessionRow.actor == actor
    if at <= write.now:
        await _delete(write, theirs)
        return
    await write.session.execute(
        update(t.SessionRow)
        .where(and_(theirs, t.SessionRow.expires_at > at))
        .values(expires_at=at)
        .execution_options(synchronize_session=False)
    )


async def seen(write: Write, digest: bytes) -> None:
    write.quiet("that a session is used is no news")
    await write.session.execute(
        update(t.SessionRow)
        .where(t.SessionRow.digest == digest)
        .values(seen_at=write.now)
        .execution_options(synchronize_session=False)
    )


async def live(session: AsyncSession, digest: bytes, now: float) -> Session | None:
    row = await session.get(t.SessionRow, digest)
    if row is None or row.expires_at <= now or row.seen_at + IDLE_S <= now:
        return None
    return rows.session(row)


async def forget(write: Write) -> None:
    """Those that have ended."""
    write.quiet("history is pruned")
    await _delete(write, t.SessionRow.expires_at <= write.now)
    await _delete(write, t.SessionRow.seen_at <= write.now - IDLE_S)


async def _delete(write: Write, condition: Any) -> None:
    await write.session.execute(
        delete(t.SessionRow).where(condition).execution_options(synchronize_session=False)
    )
