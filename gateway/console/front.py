"""What stands before the admin API: it gets what is its own, the rest is the console's."""

import secrets

from litestar.types import ASGIApp, HTTPScope, Receive, Send

from gateway.console.assets import Build

API_PATHS = ("/admin/v1", "/healthz", "/metrics", "/schema")
_HTML = "text/html; charset=utf-8"
_NOT_BUILT = b"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Modelyard</title></head>
<body><h1>The console is not built</h1>
<p>Run <code>make console</code> in Modelyard's folder, then start the gateway again.
The admin API and the <code>modelyard</code> command work without it.</p>
</body></html>
"""


class Front:
    """The admin listener's app: *api*, and the console as it was *build*. Of HTTP alone: the
    listener knows neither web sockets nor a lifespan.
    """

    def __init__(self, api: ASGIApp, build: Build | None) -> None:
        self._api = api
        self._build = build

    async def __call__(self, scope: HTTPScope, receive: Receive, send: Send) -> None:
        if _is_api(scope["path"]):
            await self._api(scope, receive, send)
        else:
            await self._answer(scope).send(scope, send)

    def _answer(self, scope: HTTPScope) -> "_Answer":
        path = scope["path"]
        if scope["method"] not in ("GET", "HEAD"):
            return _Answer(405, b"only GET and HEAD\n", headers={"allow": "GET, HEAD"})
        if self._build is None:
            return _Answer(503, _NOT_BUILT, content_type=_HTML)
        asset = self._build.find(path)
        if asset is not None:
            accepts = dict(scope["headers"]).get(b"accept-encoding", b"").decode("latin-1")
            encoding, body = asset.best(accepts)
            cached = "public, max-age=31536000, immutable" if asset.immutable else "no-cache"
            headers = {"cache-control": cached, "vary": "accept-encoding"}
            if encoding:
                headers["content-encoding"] = encoding
            return _Answer(200, body, content_type=asset.content_type, headers=headers)
        if self._build.is_route(path):
            nonce = secrets.token_urlsafe(18)
            return _Answer(200, self._build.page(nonce), content_type=_HTML, nonce=nonce)
        return _Answer(404, b"not in this build of the console: load the page anew\n")


def _is_api(path: str) -> bool:
    return any(
        path == prefix or path.startswith((prefix + "/", prefix + ":")) for prefix in API_PATHS
    )


def _policy(nonce: str) -> str:
    """Nothing from elsewhere and no script inside the page. Styles that libraries make at run time
    carry the page's nonce.
    """
    style = f"'self' 'nonce-{nonce}'" if nonce else "'self'"
    return (
        f"default-src 'none'; script-src 'self'; style-src {style}; connect-src 'self'; "
        "img-src 'self' data:; font-src 'self'; manifest-src 'self'; worker-src 'self'; "
        "frame-ancestors 'none'; base-uri 'none'; form-action 'self'; object-src 'none'"
    )


class _Answer:
    def __init__(
        self,
        status: int,
        body: bytes,
        *,
        content_type: str = "text/plain; charset=utf-8",
        nonce: str = "",
        headers: dict[str, str] | None = None,
    ) -> None:
        self._status = status
        self._body = body
        self._headers = {
            "content-type": content_type,
            "content-length": str(len(body)),
            "cache-control": "no-cache",
            "content-security-policy": _policy(nonce),
            "cross-origin-opener-policy": "same-origin",
            "cross-origin-resource-policy": "same-origin",
            "referrer-policy": "no-referrer",
            "x-content-type-options": "nosniff",
            "x-frame-options": "DENY",
        } | (headers or {})

    async def send(self, scope: HTTPScope, send: Send) -> None:
        headers = [(name.encode(), value.encode()) for name, value in self._headers.items()]
        await send({"type": "http.response.start", "status": self._status, "headers": headers})
        body = b"" if scope["method"] == "HEAD" else self._body
        await send({"type": "http.response.body", "body": body, "more_body": False})
