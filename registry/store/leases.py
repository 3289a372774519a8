"""Who leads: a row that its holder renews in time, by the clock of the database.

A term begins with `acquire` and has an epoch of its own. `check`, in the transaction of every write
of the leader, is the fence: all of them hold the one write lock, so nobody can begin a new term
between the check and the commit.
"""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from registry import tables as t
from registry.errors import LeadershipLostError
from registry.state import EventKind, Lease
from registry.store.clock import database_now
from registry.store.scope import Write

CONTROLLER = "controller"  # the one thing that is led


async def acquire(write: Write, holder: str, ttl_s: float) -> Lease | None:
    """A new term; None while another holder's lasts. A holder's own earlier term ends at once: it
    is of a process that is gone, or of a call whose outcome was not known.
    """
    if await write.session.get(t.LeaseRow, CONTROLLER) is None:
        write.session.add(t.LeaseRow(name=CONTROLLER, holder="", epoch=0, expires_at=0.0))
        write.quiet("that nobody has led yet")
        await write.session.flush()
    row, now = await _newest(write.session, write.now)
    assert row is not None, "it was made above"
    if row.holder != holder and row.expires_at > now:
        return None
    row.holder, row.epoch, row.expires_at = holder, row.epoch + 1, now + ttl_s
    write.event(EventKind.LEADER_CHANGED, f"{holder} leads, term {row.epoch}")
    return Lease(holder=holder, epoch=row.epoch, expires_in_s=ttl_s)


async def renew(write: Write, lease: Lease, ttl_s: float) -> Lease:
    """Raises LeadershipLostError. A term that has expired is not taken up again."""
    row, now = await _held(write, lease)
    write.quiet("the same one leads")
    row.expires_at = now + ttl_s
    return Lease(holder=lease.holder, epoch=lease.epoch, expires_in_s=ttl_s)


async def release(write: Write, lease: Lease) -> None:
    """Lets another one lead at once. Raises LeadershipLostError."""
    row, now = await _held(write, lease)
    row.expires_at = now
    write.event(EventKind.LEADER_CHANGED, f"{lease.holder} leads no more")


async def check(write: Write, lease: Lease) -> None:
    """Raises LeadershipLostError."""
    await _held(write, lease)


async def _held(write: Write, lease: Lease) -> tuple[t.LeaseRow, float]:
    row, now = await _newest(write.session, write.now)
    if row is None or (row.holder, row.epoch) != (lease.holder, lease.epoch):
        since = f"{row.holder} has led since" if row else "nobody leads"
        raise LeadershipLostError(f"term {lease.epoch} of {lease.holder} is over: {since}")
    if row.expires_at <= now:
        ago_s = now - row.expires_at
        raise LeadershipLostError(f"term {lease.epoch} of {lease.holder} ended {ago_s:.1f} s ago")
    return row, now


async def one(session: AsyncSession, machine_now: float) -> Lease | None:
    """The newest term, over or not; None before the first."""
    row, now = await _newest(session, machine_now)
    if row is None:
        return None
    return Lease(holder=row.holder, epoch=row.epoch, expires_in_s=row.expires_at - now)


async def _newest(
    session: AsyncSession, machine_now: float
) -> tuple[t.LeaseRow, float] | tuple[None, float]:
    """With the database's time."""
    clock = await database_now(session, machine_now)
    query = select(t.LeaseRow, clock).where(t.LeaseRow.name == CONTROLLER)
    found = (await session.execute(query)).one_or_none()
    return (found[0], found[1]) if found else (None, machine_now)
