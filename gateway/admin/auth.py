"""Who may use the admin API, and for what: by an admin key as a bearer, or by the session that a
browser's cookie stands for. For every route not marked open.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

from litestar.exceptions import NotAuthorizedException
from litestar.types import ASGIApp, Receive, Scope, Send

from gateway.admin.browser import SAFE_METHODS, Headers, check_page, cookie_secret
from gateway.admin.errors import ForbiddenError, request_id
from registry.keys import SECRET_CHARS_MAX, by_digest, digest
from registry.state import AccessRole, Key, KeyKind, Principal, Session
from registry.store import Store
from registry.store.sessions import SEEN_EVERY_S

# A route's `opt`. Without: whoever looks may use GET and HEAD, only an admin all else.
OPEN = {"open": True}  # it answers without a key
FOR_VIEWERS = {"role": AccessRole.VIEWER}  # it changes nothing, though it is a POST
FOR_ADMINS = {"role": AccessRole.ADMIN}  # it tells more than who only looks should know


class AdminKeys:
    """The registry's admin keys by digest, read again only when the registry changed."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock
        self._version = -1
        self._by_digest: dict[bytes, Key] = {}

    async def find(self, secret: str) -> Key | None:
        """The live admin key with that *secret*; one lookup by SHA-256, so its time tells
        nothing about how much of a wrong secret was right.
        """
        await self._refresh()
        key = self._by_digest.get(digest(secret))
        if key is None:
            return None
        if key.expires_at is not None and key.expires_at <= self._clock():
            return None
        return key

    async def _refresh(self) -> None:
        version = await self._store.version()
        if version == self._version:
            return
        self._by_digest = by_digest(await self._store.keys(), KeyKind.ADMIN)
        self._version = version  # the older of the two: a key made in between is read next time


class Asker(NamedTuple):
    """Who asks; *session* where it is a browser that is signed in."""

    principal: Principal
    session: Session | None


class Guard:
    """Tells who asks, and whether that one may."""

    def __init__(
        self, store: Store, keys: AdminKeys, clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._keys = keys
        self._clock = clock

    async def admit(self, scope: Scope) -> Asker:
        """Raises NotAuthorizedException, CsrfError, ForbiddenError."""
        asker = await self._ask(scope)
        needed = _needed_role(scope)
        if needed is AccessRole.ADMIN and asker.principal.role is not AccessRole.ADMIN:
            raise ForbiddenError(
                f"this needs the admin role, and {asker.principal.actor} has the viewer role: sign "
                "in as an admin, or ask one"
            )
        return asker

    async def is_still_admitted(self, scope: Scope) -> bool:
        """Whether whoever asked for a long answer may go on reading it. It counts as no use."""
        try:
            headers = dict(scope["headers"])
            if b"authorization" in headers:
                await self._key(headers)
                return True
            secret = cookie_secret(headers)
            return secret is not None and await self._store.session(digest(secret)) is not None
        except NotAuthorizedException:
            return False

    async def _ask(self, scope: Scope) -> Asker:
        headers = dict(scope["headers"])
        if b"authorization" in headers:
            key = await self._key(headers)
            return Asker(asking(scope, key.id, key.role), None)
        secret = cookie_secret(headers)
        if secret is None:
            raise NotAuthorizedException(
                "send an admin key: Authorization: Bearer mka-…, or sign in with a browser"
            )
        if _method(scope) not in SAFE_METHODS:
            check_page(headers, secret)
        session = await self._store.session(digest(secret))
        if session is None:
            raise NotAuthorizedException("you are signed out: sign in again")
        if session.seen_at + SEEN_EVERY_S <= self._clock():
            await self._store.saw_session(session.digest)
        return Asker(asking(scope, session.actor, session.role), session)

    async def _key(self, headers: Headers) -> Key:
        scheme, _, secret = headers[b"authorization"].decode("latin-1").partition(" ")
        secret = secret.strip()
        if scheme.lower() != "bearer" or not 0 < len(secret) <= SECRET_CHARS_MAX:
            raise NotAuthorizedException("send an admin key: Authorization: Bearer mka-…")
        key = await self._keys.find(secret)
        if key is None:
            raise NotAuthorizedException(
                "this key does not open the admin API: it is unknown, expired, revoked, or of the "
                "inference kind"
            )
        return key


def guarded_by(guard: Guard) -> Callable[[ASGIApp], ASGIApp]:
    """Middleware for the whole app, so that a new route is guarded without asking for it."""

    def middleware(app: ASGIApp) -> ASGIApp:
        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            if not scope["route_handler"].opt.get("open"):
                scope["auth"], scope["user"] = await guard.admit(scope)
            await app(scope, receive, send)

        return guarded

    return middleware


def asking(scope: Scope, actor: str, role: AccessRole = AccessRole.ADMIN) -> Principal:
    client = scope.get("client")
    return Principal(
        actor=actor,
        role=role,
        request_id=request_id(scope),
        client_ip=client[0] if client else "",
    )


def _needed_role(scope: Scope) -> AccessRole:
    said = scope["route_handler"].opt.get("role")
    if isinstance(said, AccessRole):
        return said
    return AccessRole.VIEWER if _method(scope) in SAFE_METHODS else AccessRole.ADMIN


def _method(scope: Scope) -> str:
    return str(scope.get("method", ""))
