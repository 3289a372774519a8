"""The console's playground: chat with any model through this gateway's own inference listener, with
a key of the console's own, so that it is limited, metered and shown like anybody's.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import NamedTuple

import httpx

from registry.errors import NotFoundError, UnavailableError
from registry.state import KeyKind, Principal
from registry.store import Store

KEY_NAME = "console"
KEY_LIFE_S = 8 * 3600.0
_FRESH_S = 5.0  # within which the listener comes to know a new key
_LOOK_S, _TRIES_MAX = 0.1, 100
_PATH = "/v1/chat/completions"
_UNAUTHORIZED = 401


class _OwnKey(NamedTuple):
    id: str
    secret: str
    made_at: float


class Playground:
    """Asks *inference*, a client of the listener, in the name of a key that it makes when first
    asked. The secret is nowhere but here: after a restart there is another key, and this one ends
    by itself.
    """

    def __init__(
        self,
        store: Store,
        inference: httpx.AsyncClient,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._inference = inference
        self._clock = clock
        self._key: _OwnKey | None = None
        self._making = asyncio.Lock()

    @property
    def url(self) -> httpx.URL:
        """Of the listener, as this machine reaches it."""
        return self._inference.base_url

    async def ask(self, body: bytes, by: Principal) -> httpx.Response:
        """Its head; what follows is to be read, and it is to be closed. Raises UnavailableError."""
        for _ in range(_TRIES_MAX):
            key = await self._own_key(by)
            response = await self._send(body, key, by)
            if response.status_code != _UNAUTHORIZED:
                return response
            await response.aclose()
            if self._clock() - key.made_at > _FRESH_S and self._key is key:
                self._key = None  # somebody revoked it
            await asyncio.sleep(_LOOK_S)
        raise UnavailableError("the inference listener does not know the console's key: try again")

    async def _own_key(self, by: Principal) -> _OwnKey:
        async with self._making:
            now, old = self._clock(), self._key
            if old is not None and now < old.made_at + KEY_LIFE_S / 2:
                return old
            made, secret = await self._store.create_key(
                name=KEY_NAME, kind=KeyKind.INFERENCE, expires_at=now + KEY_LIFE_S, by=by
            )
            self._key = _OwnKey(made.id, secret, now)
            if old is not None:
                with contextlib.suppress(NotFoundError):
                    await self._store.revoke_key(old.id, by=by)
            return self._key

    async def _send(self, body: bytes, key: _OwnKey, by: Principal) -> httpx.Response:
        headers = {
            "authorization": f"Bearer {key.secret}",
            "content-type": "application/json",
            "x-request-id": by.request_id,
        }
        request = self._inference.build_request("POST", _PATH, content=body, headers=headers)
        try:
            return await self._inference.send(request, stream=True)
        except httpx.TransportError as error:
            raise UnavailableError(
                f"the inference listener does not answer ({type(error).__name__}): see the "
                "gateway's log"
            ) from None
