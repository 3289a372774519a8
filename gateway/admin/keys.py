"""Routes of API keys."""

from litestar import Controller, delete, get, post
from litestar.params import FromPath, RawBody

from gateway.admin.bodies import KeyBody, decode
from gateway.admin.context import AdminRequest, Context
from gateway.admin.documented import REFUSALS, WRITE_REFUSALS, TakesKey
from gateway.admin.records import KeyList, KeyView, NewKeyView, key_view


class KeyController(Controller):
    path = "/admin/v1/keys"
    tags = ("keys",)

    @get("/", operation_id="listKeys", responses=REFUSALS)
    async def list_keys(self, ctx: Context) -> KeyList:
        now = ctx.clock()
        return KeyList(items=tuple(key_view(key, now=now) for key in await ctx.store.keys()))

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
            models=wish.models,
            priority=wish.priority,
            expires_at=wish.expiry(now),
            by=request.auth,
        )
        return NewKeyView(key=key_view(key, now=now), secret=secret)

    @delete("/{key_id:str}", operation_id="revokeKey", responses=REFUSALS, status_code=200)
    async def revoke_key(
        self, ctx: Context, request: AdminRequest, key_id: FromPath[str]
    ) -> KeyView:
        return key_view(await ctx.store.revoke_key(key_id, by=request.auth), now=ctx.clock())
