"""Passwords of people: what is allowed, and their argon2id hashes.

To hash and to verify takes tens of milliseconds and 64 MiB on purpose: do it in a thread, and not
many at once.
"""

import unicodedata

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from registry.errors import SpecError

PASSWORD_CHARS_MIN = 12
PASSWORD_CHARS_MAX = 256
_HASHER = PasswordHasher()  # argon2id with the parameters of RFC 9106 for little memory
# No password has it, and to find that out takes as long as with any.
_NOBODYS = (
    f"$argon2id$v=19$m={_HASHER.memory_cost},t={_HASHER.time_cost},p={_HASHER.parallelism}"
    f"${'A' * 22}${'A' * 43}"
)


def check_password(password: str, name: str) -> None:
    """Raises SpecError. The error does not repeat it."""
    if not PASSWORD_CHARS_MIN <= len(password) <= PASSWORD_CHARS_MAX:
        raise SpecError(
            "password",
            f"allowed are {PASSWORD_CHARS_MIN} to {PASSWORD_CHARS_MAX} characters, such as a few "
            "words in a row",
        )
    if not password.isprintable():
        raise SpecError("password", "allowed are printable characters")
    if len(set(password)) < PASSWORD_CHARS_MIN // 2 or name.casefold() in password.casefold():
        raise SpecError("password", "is easy to guess: it holds the name, or few letters often")


def hash_password(password: str) -> str:
    return _HASHER.hash(_normal(password))


def is_password(password: str, password_hash: str | None) -> bool:
    """Takes as long where there is no hash, as of an unknown account: its answer tells nothing."""
    try:
        _HASHER.verify(password_hash or _NOBODYS, _normal(password))
    except (Argon2Error, InvalidHashError):
        return False
    return password_hash is not None


def _normal(password: str) -> bytes:
    """Keyboards make the same letter in several ways."""
    return unicodedata.normalize("NFKC", password).encode("utf-8", "surrogatepass")
