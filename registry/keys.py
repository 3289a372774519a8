"""API keys: their secrets are made here, handed out once, and kept only as digests.

A secret has 256 random bits, so a plain SHA-256 is as hard to turn back as a slow hash.
"""

import hashlib
import secrets
from collections.abc import Iterable

import msgspec

from registry.errors import SpecError
from registry.state import Key, KeyKind

_PREFIX = {KeyKind.INFERENCE: "mk-", KeyKind.ADMIN: "mka-"}
_SECRET_BYTES = 32
SECRET_CHARS_MIN = 8
SECRET_CHARS_MAX = 512


def new_secret(kind: KeyKind) -> str:
    """``mk-…`` opens inference, ``mka-…`` the admin API."""
    return _PREFIX[kind] + secrets.token_urlsafe(_SECRET_BYTES)


def digest(secret: str) -> bytes:
    """What is stored and looked up. Takes whatever a client sent, surrogates included."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def by_digest(keys: Iterable[Key], kind: KeyKind) -> dict[bytes, Key]:
    """The unrevoked keys of *kind* by the digest of each secret that may open them. Under the one
    from before a rotation lies the same key with that secret's end as *expires_at*: who checks
    whether a key has expired has checked it for both.
    """
    good = [key for key in keys if key.kind is kind and key.revoked_at is None]
    olds = {
        key.old_digest: msgspec.structs.replace(key, expires_at=_old_end(key))
        for key in good
        if key.old_digest is not None
    }
    return {**olds, **{key.digest: key for key in good}}


def _old_end(key: Key) -> float:
    ends = [end for end in (key.old_expires_at, key.expires_at) if end is not None]
    return min(ends, default=0.0)


def new_key_id() -> str:
    return f"key_{secrets.token_hex(4)}"


def check_secret(secret: str) -> None:
    """Raises SpecError for a secret that no HTTP header carries. The error does not repeat it."""
    good = secret.isascii() and secret.isprintable() and " " not in secret
    if not good or not SECRET_CHARS_MIN <= len(secret) <= SECRET_CHARS_MAX:
        raise SpecError(
            "secret",
            f"allowed are {SECRET_CHARS_MIN} to {SECRET_CHARS_MAX} printable ASCII characters "
            "without spaces",
        )
