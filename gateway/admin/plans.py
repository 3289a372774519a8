"""Routes that say what would happen, and let nothing happen."""

from litestar import Controller, get, post
from litestar.params import RawBody

from gateway.admin.auth import FOR_VIEWERS
from gateway.admin.bodies import decode_plan
from gateway.admin.context import Context
from gateway.admin.documented import THINKING_REFUSALS, TakesPlan
from gateway.admin.plan_views import (
    DefragmentationView,
    PlanView,
    defragmentation_view,
    plan_view,
)
from pipelines.engines import runtime_of
from pipelines.plan import plan
from pipelines.scheduler import defragment


class PlanController(Controller):
    path = "/admin/v1"
    tags = ("planning",)

    @post(
        "/plan",
        operation_id="plan",
        operation_class=TakesPlan,
        responses=THINKING_REFUSALS,
        status_code=200,
        opt=FOR_VIEWERS,
        description="What applying these specs would do; without any, what is to be done as it "
        "is. Nothing is changed.",
    )
    async def plan(self, ctx: Context, body: RawBody) -> PlanView:
        specs, now = decode_plan(body), ctx.clock()
        snapshot = await ctx.store.snapshot()
        return await ctx.think(lambda: plan_view(plan(snapshot, specs, now, runtime_of), snapshot))

    @get("/defragmentation", operation_id="proposeDefragmentation", responses=THINKING_REFUSALS)
    async def defragmentation(self, ctx: Context) -> DefragmentationView:
        """Which workers could move so that whole nodes become empty. Nothing moves by it."""
        snapshot = await ctx.store.snapshot()
        return await ctx.think(
            lambda: defragmentation_view(defragment(snapshot, runtime_of), snapshot)
        )
