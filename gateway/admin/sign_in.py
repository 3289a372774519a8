"""The door: who shows a good admin key, or an account's password, gets a session.

Every try costs one of its address and, with a password, of its account, and is given back if it was
right; so nobody guesses fast, and whoever knows the password is not locked out for long.
"""

import asyncio
import secrets
import time
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import structlog
from litestar.exceptions import NotAuthorizedException

from gateway.admin.auth import AdminKeys
from gateway.admin.buckets import Buckets
from gateway.admin.errors import TooManyError
from registry.errors import NotFoundError
from registry.keys import digest
from registry.passwords import PASSWORD_CHARS_MAX, hash_password, is_password
from registry.state import Account, Key, Principal, Session, account_actor
from registry.store import Store

HASHING_MAX = 2  # at once, 64 MiB each
WAITING_MAX = 16
_SECRET_BYTES = 32

_log = structlog.get_logger(__name__)
_T = TypeVar("_T")


class Passwords:
    """Hashes and verifies in threads, a few at once."""

    def __init__(self) -> None:
        self._room = asyncio.Semaphore(HASHING_MAX)
        self._there = 0

    async def hash(self, password: str) -> str:
        """Raises TooManyError."""
        return await self._run(lambda: hash_password(password))

    async def verify(self, password: str, password_hash: str | None) -> bool:
        """False, after the same time, where there is no hash. Raises TooManyError."""
        return await self._run(lambda: is_password(password, password_hash))

    async def _run(self, work: Callable[[], _T]) -> _T:
        if self._there >= HASHING_MAX + WAITING_MAX:
            raise TooManyError("too many passwords are being checked: try again in a moment")
        self._there += 1
        try:
            async with self._room:
                return await asyncio.to_thread(work)
        finally:
            self._there -= 1


class Begun(NamedTuple):
    session: Session
    secret: str


class Door:
    def __init__(
        self,
        store: Store,
        keys: AdminKeys,
        passwords: Passwords,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._keys = keys
        self._passwords = passwords
        self._clock = clock
        self._by_address = Buckets(burst=20, every_s=6)
        self._by_account = Buckets(burst=10, every_s=30)
        # What strangers do fills neither the audit nor the events.
        self._told = Buckets(burst=50, every_s=60)

    async def with_key(self, secret: str, by: Principal) -> Begun:
        """Raises NotAuthorizedException, TooManyError."""
        self._take(self._by_address, by.client_ip, "this address")
        key = await self._keys.find(secret)
        begun = await self._begin(key, by) if key is not None else None
        if begun is None:
            await self._tell("an admin key that opens nothing", "", by)
            raise NotAuthorizedException(
                "this key does not open the admin API: it is unknown, expired, revoked, or of the "
                "inference kind"
            )
        self._by_address.give_back(by.client_ip)
        return begun

    async def with_password(self, name: str, password: str, by: Principal) -> Begun:
        """Raises NotAuthorizedException, TooManyError."""
        named = digest(name)  # people type passwords there
        self._take(self._by_address, by.client_ip, "this address")
        self._take(self._by_account, named, "this account")
        account = await self._account(name)
        is_right = await self._passwords.verify(
            password[: PASSWORD_CHARS_MAX + 1], account.password_hash if account else None
        )
        begun = await self._begin(account, by) if account is not None and is_right else None
        if begun is None:
            known = account_actor(account.name) if account is not None else ""
            await self._tell(f"a wrong password for {known or 'an unknown account'}", known, by)
            raise NotAuthorizedException("there is no such account, or its password is another one")
        self._by_address.give_back(by.client_ip)
        self._by_account.give_back(named)
        return begun

    def _take(self, buckets: Buckets, key: object, what: str) -> None:
        wait_s = buckets.take(key, self._clock())
        if wait_s:
            raise TooManyError(
                f"too many sign-ins failed from or for {what}: try again in {wait_s:.0f} s",
                retry_after_s=wait_s,
            )

    async def _account(self, name: str) -> Account | None:
        try:
            return await self._store.account(name)
        except NotFoundError:
            return None

    async def _begin(self, who: Account | Key, by: Principal) -> Begun | None:
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        actor = who.actor if isinstance(who, Account) else who.id
        principal = Principal(
            actor=actor, role=who.role, request_id=by.request_id, client_ip=by.client_ip
        )
        session = await self._store.sign_in(who, digest(secret), by=principal)
        return Begun(session, secret) if session is not None else None

    async def _tell(self, why: str, target: str, by: Principal) -> None:
        _log.warning("sign-in refused", why=why, client_ip=by.client_ip, request_id=by.request_id)
        if not self._told.take("", self._clock()):
            await self._store.refuse_sign_in(f"refused: {why}", target=target, by=by)
