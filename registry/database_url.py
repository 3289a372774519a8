"""The URL of the registry's database, as people write it. Errors never quote it: it holds a
password.
"""

from urllib.parse import parse_qsl, urlsplit

_DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
}
_TLS = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_FORM = "postgresql://USER:PASSWORD@HOST:PORT/DATABASE (special characters as %XX)"


def with_driver(url: str) -> str:
    """*url* with the driver that Modelyard has. Raises ValueError, whose text is what is allowed
    instead.
    """
    scheme, separator, rest = url.partition("://")
    driver = _DRIVERS.get(scheme)
    if driver is None or not separator:
        shown = f"begins with {scheme!r}" if separator and scheme.isascii() else "has no scheme"
        raise ValueError(f"{shown}, allowed is {_FORM} or sqlite:////absolute/file.db")
    if driver.startswith("postgresql"):
        _check_postgresql(url)
    return f"{driver}://{rest}"


def _check_postgresql(url: str) -> None:
    try:
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
        _ = parts.port
    except ValueError:
        raise ValueError(f"cannot be read, allowed is {_FORM}") from None
    if len(parts.path) < 2 or "@" in parts.path or parts.fragment:  # noqa: PLR2004 - "/" and a name
        raise ValueError(f"cannot be read, allowed is {_FORM}")
    if not parts.hostname and "host" not in options:
        raise ValueError(f"names no host, allowed is {_FORM}, or ?host=/folder/of/its/socket")
    if unknown := sorted(options.keys() - {"host", "sslmode"}):
        raise ValueError(f"has the option {unknown[0]!r}, allowed are host, sslmode")
    if options.get("sslmode", "prefer") not in _TLS:
        raise ValueError(f"has a wrong sslmode, allowed are {', '.join(_TLS)}")
