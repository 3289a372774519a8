"""Who may use the admin API: a bearer key of the ADMIN kind, for every route not marked open."""

import time
from collections.abc import Callable

from litestar.exceptions import NotAuthorizedException
from litestar.types import ASGIApp, Receive, Scope, Send

from gateway.admin.errors import request_id
from registry.keys import SECRET_CHARS_MAX, by_digest, digest
from registry.state import Key, KeyKind, Principal
from registry.store import Store

OPEN = {"open": True}  # a route's `opt` that lets it answer without a key


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


def require_admin(keys: AdminKeys) -> Callable[[ASGIApp], ASGIApp]:
    """Middleware for the whole app, so that a new route is guarded without asking for it."""

    def middleware(app: ASGIApp) -> ASGIApp:
        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            if not scope["route_handler"].opt.get("open"):
                scope["auth"] = await authenticate(keys, scope)
            await app(scope, receive, send)

        return guarded

    return middleware


async def authenticate(keys: AdminKeys, scope: Scope) -> Principal:
    """Who asks. Raises NotAuthorizedException; of a stream, once its key is none any more."""
    header = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
    scheme, _, secret = header.partition(" ")
    secret = secret.strip()
    if scheme.lower() != "bearer" or not 0 < len(secret) <= SECRET_CHARS_MAX:
        raise NotAuthorizedException("send an admin key: Authorization: Bearer mka-…")
    key = await keys.find(secret)
    if key is None:
        raise NotAuthorizedException(
            "this key does not open the admin API: it is unknown, expired, revoked, or of the "
            "inference kind"
        )
    client = scope.get("client")
    return Principal(
        actor=key.id, request_id=request_id(scope), client_ip=client[0] if client else ""
    )
