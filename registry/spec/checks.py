"""What fields of a spec may hold: ranges, names, texts, sizes. Each refusal names the field."""

import re
from typing import NoReturn

import msgspec

from registry.explain import SEPARATOR

NAME_ALLOWED = (
    "allowed are 1 to 64 letters, digits, '.', '_', '-', beginning and ending with a letter or "
    "digit, without '..'"
)
NAME_PATTERN = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?"  # … but for '..'
_NAME = re.compile(NAME_PATTERN)
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,6})?)\s*(KiB|MiB|GiB|TiB|KB|MB|GB|TB)?")
_SIZE_FACTOR = {
    None: 1,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
}


class Strict(msgspec.Struct, forbid_unknown_fields=True, frozen=True, omit_defaults=True):
    pass


def refuse(field: str, message: str) -> NoReturn:
    raise ValueError(f"{field}{SEPARATOR}{message}")


def check_range(field: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        refuse(field, f"is {value}, allowed is {low} to {high}")


def parse_size_bytes(text: str) -> int:
    """``"4GiB"`` → bytes. Raises ValueError with the allowed form."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"is {text[:80]!r}, allowed is a number with a unit, as in 4GiB or 512MiB")
    return int(float(match[1]) * _SIZE_FACTOR[match[2]])


def check_text(field: str, value: str, chars_max: int) -> None:
    # Control characters and lone surrogates can be neither an argument of a process nor stored.
    if len(value) > chars_max or not value.isprintable():
        refuse(field, f"allowed are {chars_max} printable characters at most")


def is_name(value: str) -> bool:
    """Of a model or a variant, as `NAME_ALLOWED` says."""
    return _NAME.fullmatch(value) is not None and ".." not in value


def check_name(field: str, value: str) -> None:
    if not is_name(value):
        refuse(field, f"is {value[:80]!r}, {NAME_ALLOWED}")
