"""Routes of pools: how models share devices, and who is awake."""

from litestar import Controller, delete, get, put
from litestar.params import FromPath, RawBody

from gateway.admin.bodies import PoolBody, decode
from gateway.admin.context import AdminContext, AdminRequest, Context
from gateway.admin.documented import REFUSALS, WRITE_REFUSALS, TakesPool
from gateway.admin.views import View, iso_or_none
from pipelines.awake.crowds import Crowd, crowds
from registry.state import Pool


class PoolMemberView(View, frozen=True, kw_only=True):
    """A model, its workers, and its requests: *queued* ones wait for a worker, for one to wake up,
    too. *asked_at* is when one was last let in.
    """

    model: str
    awake: int
    asleep: int
    queued: int
    in_flight: int
    asked_at: str | None


class PoolDeviceView(View, frozen=True, kw_only=True):
    """Which models are awake and asleep on a device. *all_awake_bytes* is what they would claim if
    all of them were awake, *others_bytes* what workers of no or another pool claim.
    """

    device: str
    memory_bytes: int
    claimed_bytes: int
    all_awake_bytes: int
    others_bytes: int
    awake: tuple[str, ...]
    asleep: tuple[str, ...]


class PoolView(View, frozen=True, kw_only=True):
    """*is_set*: it was given settings; without them a pool has the usual ones."""

    name: str
    is_set: bool
    overcommit: float
    awake_min_s: float
    members: tuple[PoolMemberView, ...]
    devices: tuple[PoolDeviceView, ...]


class PoolList(View, frozen=True, kw_only=True):
    items: tuple[PoolView, ...]


class PoolController(Controller):
    path = "/admin/v1/pools"
    tags = ("pools",)

    @get("/", operation_id="listPools", responses=REFUSALS)
    async def list_pools(self, ctx: Context) -> PoolList:
        """Every pool that a model is in, and every one that has settings."""
        return PoolList(items=tuple(map(_view, await _crowds(ctx))))

    @put("/{name:str}", operation_id="setPool", operation_class=TakesPool, responses=WRITE_REFUSALS)
    async def set_pool(
        self, ctx: Context, request: AdminRequest, name: FromPath[str], body: RawBody
    ) -> PoolView:
        """All settings of the pool: what is left out is as usual."""
        await ctx.store.put_pool(decode(body, PoolBody).pool(name), by=request.auth)
        return await _one(ctx, name)

    @delete("/{name:str}", operation_id="deletePool", responses=WRITE_REFUSALS, status_code=200)
    async def delete_pool(
        self, ctx: Context, request: AdminRequest, name: FromPath[str]
    ) -> PoolView:
        """Its models stay in it, with the usual settings."""
        await ctx.store.delete_pool(name, by=request.auth)
        return await _one(ctx, name)


async def _crowds(ctx: AdminContext) -> tuple[Crowd, ...]:
    return crowds(await ctx.store.snapshot(), ctx.clock())


async def _one(ctx: AdminContext, name: str) -> PoolView:
    for crowd in await _crowds(ctx):
        if crowd.pool.name == name:
            return _view(crowd)
    return _view(Crowd(pool=Pool(name=name), is_set=False, members=(), devices=()))


def _view(crowd: Crowd) -> PoolView:
    return PoolView(
        name=crowd.pool.name,
        is_set=crowd.is_set,
        overcommit=crowd.pool.overcommit,
        awake_min_s=crowd.pool.awake_min_s,
        members=tuple(
            PoolMemberView(
                model=member.model,
                awake=member.awake,
                asleep=member.asleep,
                queued=member.queued,
                in_flight=member.in_flight,
                asked_at=iso_or_none(member.asked_at or None),
            )
            for member in crowd.members
        ),
        devices=tuple(
            PoolDeviceView(
                device=one.device,
                memory_bytes=one.memory_bytes,
                claimed_bytes=one.claimed_bytes,
                all_awake_bytes=one.all_awake_bytes,
                others_bytes=one.others_bytes,
                awake=one.awake,
                asleep=one.asleep,
            )
            for one in crowd.devices
        ),
    )
