"""Routes of API keys."""

from litestar import Controller, delete, get, patch, post
from litestar.params import FromPath, RawBody

from gateway.admin.bodies import KeyBody, KeyPatchBody, RotateBody, decode
from gateway.admin.context import AdminRequest, Context
from gateway.admin.documented import (
    REFUSALS,
    WRITE_REFUSALS,
    TakesKey,
    TakesKeyPatch,
    TakesRotate,
)
from gateway.admin.records import KeyList, KeyView, NewKeyView, key_view
from registry.state import NO_KEY_LIMITS


class KeyController(Controller):
    path = "/admin/v1/keys"
    tags = ("keys",)

    @get("/", operation_id="listKeys", responses=REFUSALS)
    async def list_keys(self, ctx: Context) -> KeyList:
        now = ctx.clock()
        return KeyList(items=tuple(key_view(key, now=now) for key in await ctx.store.keys()))

    @get("/{key_id:str}", operation_id="describeKey", responses=REFUSALS)
    async def describe_key(self, ctx: Context, key_id: FromPath[str]) -> KeyView:
        return key_view(await ctx.store.key(key_id), now=ctx.clock())

    @post(
        "/",
        operation_id="createKey",
        operation_class=TakesKey,
        responses=WRITE_REFUSALS,
        description="The secret is in this answer and nowhere else.",
    )
    async def create_key(self, ctx: Context, request: AdminRequest, body: RawBody) -> NewKeyView:
        wish, now = decode(body, KeyBody), ctx.clock()
        key, secret = await ctx.store.create_key(
            name=wish.name,
            kind=wish.kind,
            role=wish.role,
            models=wish.models,
            priority=wish.priority,
            limits=wish.limits.change().applied(NO_KEY_LIMITS),
            expires_at=wish.expiry(now),
            by=request.auth,
        )
        return NewKeyView(key=key_view(key, now=now), secret=secret)

    @patch(
        "/{key_id:str}",
        operation_id="updateKey",
        operation_class=TakesKeyPatch,
        responses=WRITE_REFUSALS,
        description="What the body leaves out stays as it is.",
    )
    async def update_key(
        self, ctx: Context, request: AdminRequest, key_id: FromPath[str], body: RawBody
    ) -> KeyView:
        wish, now = decode(body, KeyPatchBody), ctx.clock()
        key = await ctx.store.update_key(key_id, wish.change(now), by=request.auth)
        return key_view(key, now=now)

    @post(
        "/{key_id:str}/rotate",
        operation_id="rotateKey",
        operation_class=TakesRotate,
        responses=WRITE_REFUSALS,
        status_code=200,
        description="Gives the key a new secret, which is in this answer and nowhere else. The one "
        "before stays good for `overlap_s` seconds; one from an earlier rotation ends now.",
    )
    async def rotate_key(
        self, ctx: Context, request: AdminRequest, key_id: FromPath[str], body: RawBody
    ) -> NewKeyView:
        overlap_s = decode(body, RotateBody).overlap_s
        key, secret = await ctx.store.rotate_key(key_id, overlap_s=overlap_s, by=request.auth)
        return NewKeyView(key=key_view(key, now=ctx.clock()), secret=secret)

    @delete("/{key_id:str}", operation_id="revokeKey", responses=REFUSALS, status_code=200)
    async def revoke_key(
        self, ctx: Context, request: AdminRequest, key_id: FromPath[str]
    ) -> KeyView:
        return key_view(await ctx.store.revoke_key(key_id, by=request.auth), now=ctx.clock())
