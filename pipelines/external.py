"""The keys of workers that somebody else runs: read from a file, and never shown."""

import stat
from pathlib import Path

_TOKEN_CHARS_MAX = 4096


class TokenError(Exception):
    """A token file that cannot be used. The message names the file, and nothing it holds."""


def read_token(path: str) -> str:
    """The key in the file *path*, one line; "" without a path. Raises TokenError."""
    if not path:
        return ""
    file = Path(path)
    try:
        if not stat.S_ISREG(file.stat().st_mode):  # a pipe would keep us waiting
            raise TokenError(f"token_file {path}: is not a regular file")
        with file.open(encoding="utf-8") as opened:
            token = opened.read(_TOKEN_CHARS_MAX + 1).strip()
    except OSError as error:
        raise TokenError(f"token_file {path}: {error.strerror}") from None
    except UnicodeError:
        raise TokenError(f"token_file {path}: is not text") from None
    good = token.isascii() and token.isprintable() and 0 < len(token) <= _TOKEN_CHARS_MAX
    if not good or " " in token:
        raise TokenError(f"token_file {path}: must hold one key, alone on one line")
    return token
