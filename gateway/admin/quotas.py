"""Routes of quotas: what the owners of models may hold, and what they do."""

from litestar import Controller, delete, get, put
from litestar.params import FromPath, RawBody

from gateway.admin.bodies import QuotaBody, decode
from gateway.admin.context import AdminContext, AdminRequest, Context
from gateway.admin.documented import REFUSALS, WRITE_REFUSALS, TakesQuota
from gateway.admin.plan_views import OwnerList, OwnerView, owner_view
from pipelines.owners import OwnerUse, uses


class QuotaController(Controller):
    path = "/admin/v1/quotas"
    tags = ("quotas",)

    @get("/", operation_id="listQuotas", responses=REFUSALS)
    async def list_quotas(self, ctx: Context) -> OwnerList:
        """Every owner of a model, with or without a quota, and every quota."""
        return OwnerList(items=tuple(map(owner_view, await _uses(ctx))))

    @put(
        "/{owner:str}",
        operation_id="setQuota",
        operation_class=TakesQuota,
        responses=WRITE_REFUSALS,
    )
    async def set_quota(
        self, ctx: Context, request: AdminRequest, owner: FromPath[str], body: RawBody
    ) -> OwnerView:
        """The whole quota: what is left out, or null, is no limit."""
        await ctx.store.put_quota(decode(body, QuotaBody).quota(owner), by=request.auth)
        return await _one(ctx, owner)

    @delete("/{owner:str}", operation_id="deleteQuota", responses=WRITE_REFUSALS, status_code=200)
    async def delete_quota(
        self, ctx: Context, request: AdminRequest, owner: FromPath[str]
    ) -> OwnerView:
        """The owner's models stay, and have no limit any more."""
        await ctx.store.delete_quota(owner, by=request.auth)
        return await _one(ctx, owner)


async def _uses(ctx: AdminContext) -> tuple[OwnerUse, ...]:
    snapshot = await ctx.snapshots.newest()
    return uses(snapshot, snapshot)


async def _one(ctx: AdminContext, owner: str) -> OwnerView:
    for use in await _uses(ctx):
        if use.owner == owner:
            return owner_view(use)
    nothing = OwnerUse(
        owner=owner,
        quota=None,
        models=(),
        devices=0,
        memory_bytes=0,
        devices_then=0,
        memory_bytes_then=0,
    )
    return owner_view(nothing)
