"""One controller leads, by a lease in the registry; the others wait until it is theirs.

The lease is renewed by a task of its own. Where a renewal is not confirmed in time, the work is
cancelled before anybody else can begin; what it still writes the registry refuses.
"""

import asyncio
import secrets
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import structlog

from registry.errors import LeadershipLostError, UnavailableError
from registry.state import Lease
from registry.store import Store

TTL_S = 6.0
RENEW_EVERY_S = 2.0
LOOK_EVERY_S = 1.0  # of those who wait
# A leader ends its work this long before others may begin theirs.
MARGIN_S = 1.0
_AGAIN_S = 0.3
_RELEASE_S_MAX = 2.0

_log = structlog.get_logger()


def holder_of(home: Path) -> str:
    """Who the controllers of *home* are, one after the other: each takes its predecessor's lease
    over at once. Only under the home's lock.
    """
    file = home / "controller.id"
    with suppress(FileNotFoundError):
        if known := file.read_text().strip():
            return known
    made = f"{socket.gethostname()}-{secrets.token_hex(4)}"
    draft = file.with_suffix(".new")
    draft.write_text(f"{made}\n")
    draft.replace(file)
    return made


async def lead(store: Store, holder: str, work: Callable[[Store], Awaitable[None]]) -> None:
    """Does *work* with a store that writes only while *holder* leads; begins anew after each loss.
    Ends when *work* does, or raises what it raised; lets the lease go then.
    """
    loop = asyncio.get_running_loop()
    waiting = ""
    while True:
        asked_at = loop.time()
        try:
            lease, waits_for = await _try(store, holder)
        except UnavailableError as error:
            lease, waits_for = None, str(error)
        if lease is None:
            if waits_for != waiting:
                _log.info("waits to lead", holder=holder, why=waits_for)
            waiting = waits_for
            await asyncio.sleep(LOOK_EVERY_S)
            continue
        waiting = ""
        _log.info("leads", holder=holder, term=lease.epoch)
        try:
            if await _while_held(store, lease, asked_at + TTL_S, work):
                return
            _log.warning("leads no more", holder=holder, term=lease.epoch)
        finally:
            await asyncio.shield(_release(store, lease))


async def _try(store: Store, holder: str) -> tuple[Lease | None, str]:
    """A lease, or why there is none. Looks first: a look holds nobody's write up."""
    seen = await store.lease()
    if seen is not None and seen.holder != holder and seen.expires_in_s > 0:
        return None, f"{seen.holder} leads"
    return await store.acquire_lease(holder, ttl_s=TTL_S), "another one was faster"


async def _while_held(
    store: Store, lease: Lease, until: float, work: Callable[[Store], Awaitable[None]]
) -> bool:
    """Whether *work* came to its end by itself; else the lease was lost, and it was cancelled."""
    working = asyncio.ensure_future(work(store.fenced(lease)))
    keeping = asyncio.create_task(_keep(store, lease, until))
    try:
        await asyncio.wait({working, keeping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        ended = working.done()
        for task in (working, keeping):
            task.cancel()
        await asyncio.gather(working, keeping, return_exceptions=True)
    if not ended:
        return False
    try:
        working.result()
    except LeadershipLostError:
        return False
    except ExceptionGroup as group:  # of a task group inside
        if rest := group.split(LeadershipLostError)[1]:
            raise rest from None
        return False
    return True


async def _keep(store: Store, lease: Lease, until: float) -> None:
    """Renews, and returns when the lease is lost or may be soon. *until* is of the loop's clock and
    counts from before the registry was asked, so it lies before the registry's own.
    """
    while True:
        await asyncio.sleep(RENEW_EVERY_S)
        try:
            async with asyncio.timeout_at(until - MARGIN_S):
                until = await _renewed(store, lease)
        except TimeoutError:
            _log.warning("the lease was not renewed in time", holder=lease.holder)
            return
        except LeadershipLostError as error:
            _log.warning("the lease was lost", error=str(error))
            return


async def _renewed(store: Store, lease: Lease) -> float:
    """Until when."""
    loop = asyncio.get_running_loop()
    while True:
        asked_at = loop.time()
        try:
            await store.renew_lease(lease, ttl_s=TTL_S)
        except UnavailableError:
            await asyncio.sleep(_AGAIN_S)
        else:
            return asked_at + TTL_S


async def _release(store: Store, lease: Lease) -> None:
    """If that cannot be told, the lease runs out by itself."""
    with suppress(TimeoutError, UnavailableError, LeadershipLostError):
        async with asyncio.timeout(_RELEASE_S_MAX):
            await store.release_lease(lease)
