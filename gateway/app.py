"""The inference application: the data plane's raw ASGI, mounted in a Litestar app.

Litestar owns the app; the routes under it are the data plane's own, because between a token from
a worker and the client there is no room for a framework (measured in the design).
"""

from typing import Any, cast
from urllib.parse import unquote

from litestar import Litestar, asgi
from litestar.types import Receive, Scope, Send

from gateway.dataplane import DataPlane


def create_inference_app(dataplane: DataPlane) -> Litestar:
    """The app for the inference listener; *dataplane* stays the caller's to close."""

    @asgi("/", is_mount=True, copy_scope=False)
    async def inference(scope: Scope, receive: Receive, send: Send) -> None:
        # A mount gets its path rewritten (a slash at the end); clients meant what they sent.
        scope["path"] = unquote(scope["raw_path"].decode("latin-1"))
        # Litestar's ASGI types list each message; the data plane takes any ASGI server's.
        await dataplane(cast("Any", scope), cast("Any", receive), cast("Any", send))

    return Litestar(route_handlers=[inference], openapi_config=None, logging_config=None)
