"""Accounts of people. Passwords are hashed before they come here: that takes long on purpose."""

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from registry import rows
from registry import tables as t
from registry.errors import ConflictError, NotFoundError, SpecError
from registry.spec import NAME_ALLOWED, is_name
from registry.state import AccessRole, Account, EventKind, account_actor
from registry.store import sessions
from registry.store.scope import Write

ACCOUNTS_MAX = 10_000


async def create(write: Write, name: str, role: AccessRole, password_hash: str) -> Account:
    """Raises SpecError, and ConflictError where there is one of that name."""
    if not is_name(name):
        raise SpecError("name", f"is {name[:80]!r}, {NAME_ALLOWED}")
    if await write.session.get(t.AccountRow, name) is not None:
        raise ConflictError(f"there is an account {name} already: set its password, or delete it")
    if (await write.session.scalar(select(func.count(t.AccountRow.name))) or 0) >= ACCOUNTS_MAX:
        raise ConflictError(f"there are {ACCOUNTS_MAX} accounts, more are not kept")
    row = t.AccountRow(
        name=name,
        role=role,
        password_hash=password_hash,
        created_at=write.now,
        updated_at=write.now,
    )
    write.session.add(row)
    write.event(EventKind.ACCOUNT_CHANGED, f"{name} ({role}) created")
    write.audit("account.create", name)
    return rows.account(row)


async def set_password(write: Write, name: str, password_hash: str) -> Account:
    """Ends its sessions. Raises NotFoundError."""
    row = await _row(write.session, name)
    row.password_hash, row.updated_at = password_hash, write.now
    await sessions.end_of(write, account_actor(name), write.now)
    write.event(EventKind.ACCOUNT_CHANGED, f"{name}: password")
    write.audit("account.set-password", name)
    return rows.account(row)


async def delete(write: Write, name: str) -> Account:
    """Ends its sessions. Raises NotFoundError."""
    row = await _row(write.session, name)
    found = rows.account(row)
    await write.session.delete(row)
    await sessions.end_of(write, found.actor, write.now)
    write.event(EventKind.ACCOUNT_CHANGED, f"{name} deleted")
    write.audit("account.delete", name)
    return found


async def one(session: AsyncSession, name: str) -> Account:
    """Raises NotFoundError."""
    return rows.account(await _row(session, name))


async def every(session: AsyncSession) -> tuple[Account, ...]:
    found = await session.scalars(select(t.AccountRow).order_by(t.AccountRow.name))
    return tuple(map(rows.account, found))


async def _row(session: AsyncSession, name: str) -> t.AccountRow:
    row = await session.get(t.AccountRow, name) if is_name(name) else None
    if row is None:
        raise NotFoundError("account", name)
    return row
