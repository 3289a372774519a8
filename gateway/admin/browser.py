"""What tells our own page from others that make a browser ask: cookie, CSRF token, origin. Pure.

SameSite=Strict alone would let other ports of this host in: they are the same site.
"""

import base64
import hashlib
import hmac
import ipaddress
from collections.abc import Mapping
from urllib.parse import SplitResult, urlsplit

from gateway.admin.errors import BadRequestError, CsrfError

COOKIE = "__Host-modelyard"
CSRF_HEADER = b"x-csrf-token"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_SECRET_CHARS_MAX = 64
_ATTRIBUTES = "Path=/; Secure; HttpOnly; SameSite=Strict"

Headers = Mapping[bytes, bytes]  # names in lower case, as ASGI has them


def cookie(secret: str, life_s: float) -> str:
    """The value of Set-Cookie; with a life of 0 the browser drops it."""
    return f"{COOKIE}={secret}; Max-Age={int(life_s)}; {_ATTRIBUTES}"


def cookie_secret(headers: Headers) -> str | None:
    for part in headers.get(b"cookie", b"").decode("latin-1").split(";"):
        name, _, value = part.strip().partition("=")
        if name == COOKIE and 0 < len(value) <= _SECRET_CHARS_MAX:
            return value
    return None


def csrf_token(secret: str) -> str:
    """What only a page can know that read it from an answer; it tells nothing of *secret*."""
    made = hmac.digest(secret.encode(), b"modelyard csrf", hashlib.sha256)
    return base64.urlsafe_b64encode(made).rstrip(b"=").decode()


def check_page(headers: Headers, secret: str) -> None:
    """That a page of ours asks, with its session's token. Raises CsrfError."""
    if not _is_same_origin(headers, silent=False):
        raise CsrfError("this request did not come from the console's own page: open it directly")
    given = headers.get(CSRF_HEADER, b"")
    if not hmac.compare_digest(given, csrf_token(secret).encode()):
        raise CsrfError(
            "X-CSRF-Token is not that of this session (perhaps you signed in anew in another tab): "
            "load the page anew"
        )


def check_sign_in(headers: Headers) -> None:
    """That no page of somebody else signs a browser in, and that the browser will keep its cookie.
    What is no browser says neither, and may. Raises CsrfError, BadRequestError.
    """
    if not _is_same_origin(headers, silent=True):
        raise CsrfError("sign in from the console's own page: open it directly")
    origin = urlsplit(headers.get(b"origin", b"").decode("latin-1"))
    if origin.scheme == "http" and not _is_loopback(origin):
        raise BadRequestError(
            "your browser keeps no session over plain http from another machine: open the console "
            f"over https, or through a tunnel (ssh -L {origin.port or 80}:127.0.0.1:"
            f"{origin.port or 80} {origin.hostname}) as http://127.0.0.1:{origin.port or 80}"
        )


def _is_same_origin(headers: Headers, *, silent: bool) -> bool:
    """By Sec-Fetch-Site, which no page can set; browsers leave it out over plain http from another
    machine, then by Origin. *silent*: what holds of a client that says neither.
    """
    site = headers.get(b"sec-fetch-site")
    if site is not None:
        return site == b"same-origin"
    origin = headers.get(b"origin")
    if origin is None:
        return silent
    host = urlsplit(origin.decode("latin-1")).netloc
    return bool(host) and host.lower() == headers.get(b"host", b"").decode("latin-1").lower()


def _is_loopback(origin: SplitResult) -> bool:
    host = (origin.hostname or "").lower()
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
