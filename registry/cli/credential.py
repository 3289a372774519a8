"""Where the CLI finds its admin key: MODELYARD_ADMIN_TOKEN, else <home>/admin.token."""

import os
import stat
from pathlib import Path

from registry.cli.exits import RefusedError, UnreachableError
from registry.settings import Settings

_BYTES_MAX = 4096


def admin_token(settings: Settings) -> str:
    """Raises RefusedError for a file that others can read, UnreachableError where there is
    none: then no gateway was ever started from this home.
    """
    if settings.admin_token:
        return settings.admin_token
    path = settings.admin_token_file
    try:
        with path.open("rb") as file:
            _check_private(path, os.fstat(file.fileno()))
            token = file.read(_BYTES_MAX).decode("ascii", errors="replace").strip()
    except FileNotFoundError:
        raise UnreachableError(
            f"no admin credential at {path}: start the gateway here with `modelyard up`, or set "
            "MODELYARD_ADMIN_TOKEN and MODELYARD_ADMIN_URL for one that runs elsewhere"
        ) from None
    except OSError as error:
        raise RefusedError(f"cannot read the admin credential {path}: {error.strerror}") from None
    if not token.isascii() or not token.isprintable() or not token:
        raise RefusedError(f"{path} holds no admin credential: restart the gateway to write it")
    return token


def _check_private(path: Path, status: os.stat_result) -> None:
    if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        mode = stat.S_IMODE(status.st_mode)
        raise RefusedError(
            f"{path} can be used by others (mode {mode:04o}): run `chmod 600 {path}`, and replace "
            "the key if somebody may have read it"
        )
