"""Which key a request carries, and whether it is good now."""

import hashlib
from collections.abc import Mapping

from gateway.errors import AuthenticationError, BadRequestError
from registry.keys import SECRET_CHARS_MAX
from registry.state import Key, Priority

_BEARER = b"Bearer "
_KNOWN_MAX = 10_000


def credential(authorization: bytes | None, api_key: bytes) -> bytes | None:
    """What a request shows, as an Authorization header: its own, or the x-api-key that Anthropic's
    clients send instead.
    """
    return _BEARER + api_key if authorization is None and api_key else authorization


def authenticate(authorization: bytes | None, keys: Mapping[bytes, Key], now: float) -> Key:
    """The key of an ``Authorization: Bearer`` header at time *now* (seconds since the epoch).

    *keys* holds unrevoked inference keys by digest: a wrong, revoked or admin secret is simply
    not in it, so all of them take the same path. Raises AuthenticationError.
    """
    if authorization is None:
        raise AuthenticationError(
            "No API key. Send it as 'Authorization: Bearer <key>', or as 'x-api-key: <key>'."
        )
    scheme, _, secret = authorization.partition(b" ")
    secret = secret.strip()
    if scheme.lower() != b"bearer" or not secret or len(secret) > SECRET_CHARS_MAX:
        raise AuthenticationError("The Authorization header is not 'Bearer <key>'.")
    key = keys.get(hashlib.sha256(secret).digest())
    if key is None or not _is_good(key, now):
        raise AuthenticationError("The API key is not known, or no longer good.")
    return key


def _is_good(key: Key, now: float) -> bool:
    return key.expires_at is None or now < key.expires_at


class KeyRing:
    """`authenticate` with a memory of the headers that have passed, for as long as *keys* holds."""

    def __init__(self, keys: Mapping[bytes, Key]) -> None:
        self._keys = keys
        self._known: dict[bytes, Key] = {}

    def authenticate(self, authorization: bytes | None, now: float) -> Key:
        """Raises AuthenticationError."""
        key = self._known.get(authorization) if authorization is not None else None
        if key is None or not _is_good(key, now):
            key = authenticate(authorization, self._keys, now)
            if authorization is not None and len(self._known) < _KNOWN_MAX:
                self._known[authorization] = key
        return key


def priority(asked: bytes, allowed: Priority) -> Priority:
    """What the client asks for, but never more than its key has. Raises BadRequestError."""
    if not asked:
        return allowed
    try:
        wanted = Priority(asked.decode("latin-1").strip().lower())
    except ValueError:
        raise BadRequestError(
            "The x-modelyard-priority header must be high, normal or low.",
            param="x-modelyard-priority",
        ) from None
    return max(wanted, allowed, key=lambda each: each.rank)
