"""Routes of the session of a browser."""

import httpx
from litestar import Controller, Response, delete, get, post
from litestar.exceptions import NotAuthorizedException
from litestar.params import RawBody

from gateway.admin.account_bodies import SignInBody
from gateway.admin.auth import FOR_VIEWERS, OPEN, asking
from gateway.admin.bodies import decode
from gateway.admin.browser import check_sign_in, cookie, cookie_secret, csrf_token
from gateway.admin.context import AdminRequest, Context
from gateway.admin.documented import REFUSALS, SIGN_IN_REFUSALS, TakesSignIn
from gateway.admin.views import View, iso, iso_or_none
from registry.state import AccessRole
from registry.store.sessions import LIFE_S

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_HTTP_PORT = 80


class SessionView(View, frozen=True, kw_only=True):
    """Who asks. *csrf* is what unsafe requests of the page send as X-CSRF-Token; of a key it is
    empty, and *expires_at* null. Inference is served on *inference_port* of *inference_host*; where
    that is empty, on the host that the asker calls this machine.
    """

    actor: str
    role: AccessRole
    csrf: str
    expires_at: str | None
    inference_host: str
    inference_port: int


class SignedOutView(View, frozen=True, kw_only=True):
    signed_out: bool


class SessionController(Controller):
    path = "/admin/v1/session"
    tags = ("session",)

    @post(
        "/",
        operation_id="signIn",
        operation_class=TakesSignIn,
        responses=SIGN_IN_REFUSALS,
        opt=OPEN,
        security=[{}],
        description="Begins a session: its secret is a cookie, which lives for 12 hours at most "
        "and ends when nothing was asked for two.",
    )
    async def sign_in(
        self, ctx: Context, request: AdminRequest, body: RawBody
    ) -> Response[SessionView]:
        check_sign_in(dict(request.scope["headers"]))
        wish, by = decode(body, SignInBody), asking(request.scope, "nobody")
        if isinstance(wish.key, str):
            session, secret = await ctx.door.with_key(wish.key, by)
        else:
            name, password = wish.account_and_password
            session, secret = await ctx.door.with_password(name, password, by)
        host, port = inference_at(ctx.playground.url)
        view = SessionView(
            actor=session.actor,
            role=session.role,
            csrf=csrf_token(secret),
            expires_at=iso(session.expires_at),
            inference_host=host,
            inference_port=port,
        )
        return Response(view, headers={"set-cookie": cookie(secret, LIFE_S)})

    @get("/", operation_id="describeSession", responses=REFUSALS, opt=OPEN)
    async def describe_session(self, ctx: Context, request: AdminRequest) -> SessionView | None:
        """Who this is, by its cookie or its key; null for nobody, which is no error to a page that
        only wants to know whether it has to ask.
        """
        try:
            asker = await ctx.guard.admit(request.scope)
        except NotAuthorizedException:
            if b"authorization" in dict(request.scope["headers"]):
                raise
            return None
        session = asker.session
        secret = cookie_secret(dict(request.scope["headers"]))
        signed_in = session is not None and secret is not None
        host, port = inference_at(ctx.playground.url)
        return SessionView(
            actor=asker.principal.actor,
            role=asker.principal.role,
            csrf=csrf_token(secret) if signed_in and secret else "",
            expires_at=iso_or_none(session.expires_at if session is not None else None),
            inference_host=host,
            inference_port=port,
        )

    @delete("/", operation_id="signOut", responses=REFUSALS, status_code=200, opt=FOR_VIEWERS)
    async def sign_out(self, ctx: Context, request: AdminRequest) -> Response[SignedOutView]:
        """Ends the session, for whoever else has its secret, too."""
        if request.user is not None:
            await ctx.store.sign_out(request.user.digest, by=request.auth)
        view = SignedOutView(signed_out=request.user is not None)
        return Response(view, headers={"set-cookie": cookie("", 0)})


def inference_at(url: httpx.URL) -> tuple[str, int]:
    """What is bound to every address is asked by this machine at a loopback one, which is nobody
    else's.
    """
    host = "" if url.host in _LOOPBACK else url.host
    return host, url.port or _HTTP_PORT
