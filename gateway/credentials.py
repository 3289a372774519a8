"""The two keys that `up` makes once and keeps for its owner: admin and inference.

Each lies in a file of mode 0600 under the home; the registry knows only their digests.
"""

import os
from pathlib import Path

from registry.keys import digest, new_secret
from registry.settings import Settings
from registry.state import KeyKind, Principal
from registry.store import Store

_BY = Principal(actor="up")


async def ensure_admin_token(store: Store, settings: Settings) -> str:
    """The token in home/admin.token, made and registered where it is missing."""
    return await _ensure(store, settings.admin_token_file, KeyKind.ADMIN, "local admin")


async def ensure_api_key(store: Store, settings: Settings) -> str:
    """The key in MODELYARD_API_KEY, else the one in home/api.key, made where it is missing."""
    if settings.api_key:
        await store.create_key(
            name="MODELYARD_API_KEY", kind=KeyKind.INFERENCE, secret=settings.api_key, by=_BY
        )
        return settings.api_key
    return await _ensure(store, settings.api_key_file, KeyKind.INFERENCE, "starter")


async def _ensure(store: Store, file: Path, kind: KeyKind, name: str) -> str:
    secret = _read(file) or new_secret(kind)
    key, secret = await store.create_key(name=name, kind=kind, secret=secret, by=_BY)
    # Its owner revoked it, or has rotated it away from the file: the next start gets another.
    if key.revoked_at is not None or key.digest != digest(secret):
        _, secret = await store.create_key(name=name, kind=kind, by=_BY)
    _write(file, secret)
    return secret


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except FileNotFoundError:
        return ""


def _write(file: Path, secret: str) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as handle:
        handle.write(secret + "\n")
    file.chmod(0o600)
