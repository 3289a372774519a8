"""Routes of workers, nodes and who leads."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, nullcontext
from typing import Annotated, cast

from litestar import Controller, delete, get, post
from litestar.params import FromPath, FromQuery, QueryParameter
from litestar.response import Stream

from gateway.admin.context import AdminContext, AdminRequest, Context, stream
from gateway.admin.documented import (
    REFUSALS,
    STREAM_REFUSALS,
    THINKING_REFUSALS,
    WRITE_REFUSALS,
)
from gateway.admin.fleet_map import FleetView, fleet_view
from gateway.admin.pages import NodePage
from gateway.admin.plan_views import NoPlaceView, no_place_views
from gateway.admin.records import (
    ControllerList,
    NodeList,
    NodeView,
    controller_list,
    node_views,
)
from gateway.admin.status import restarts, worker_order
from gateway.admin.views import WorkerList, WorkerView, worker_view
from pipelines.cluster.base import ClusterError
from pipelines.engines import runtime_of
from pipelines.plan import refusals
from pipelines.refusals import no_places, on_node
from registry.errors import NotFoundError
from registry.state import Node, NodeState, Phase, Snapshot, Worker

TAIL_LINES_MAX = 100_000
ENGINES_ASKED_MAX = 256  # for one list: as many as answer within a second through one client

Tail = Annotated[int, QueryParameter(ge=0, le=TAIL_LINES_MAX, description="lines before the end")]


class WorkerController(Controller):
    path = "/admin/v1/workers"
    tags = ("workers",)

    @get("/", operation_id="listWorkers", responses=REFUSALS)
    async def list_workers(
        self, ctx: Context, model: FromQuery[str | None] = None, ended: FromQuery[bool] = False
    ) -> WorkerList:
        """With what their engines count, where they are few enough to be asked all."""
        workers = await ctx.store.workers(model=model, include_ended=ended)
        return WorkerList(items=await _worker_views(ctx, tuple(sorted(workers, key=worker_order))))

    @get("/{worker_id:str}", operation_id="describeWorker", responses=REFUSALS)
    async def describe_worker(self, ctx: Context, worker_id: FromPath[str]) -> WorkerView:
        worker = await ctx.store.worker(worker_id)
        (view,) = await _worker_views(ctx, (worker,))
        return view

    @get(
        "/{worker_id:str}/logs",
        operation_id="readWorkerLog",
        responses=STREAM_REFUSALS,
        media_type="text/plain",
    )
    async def read_log(
        self,
        ctx: Context,
        worker_id: FromPath[str],
        tail: Tail = 200,
        follow: FromQuery[bool] = False,
    ) -> Stream:
        worker = await ctx.store.worker(worker_id)
        if worker.plan.external:
            raise NotFoundError("log of an external worker", worker_id)
        if follow:
            ctx.followers.check()
        return stream(_log(ctx, worker, tail, follow=follow), "text/plain; charset=utf-8")


class FleetController(Controller):
    path = "/admin/v1/fleet"
    tags = ("nodes",)

    @get("/", operation_id="describeFleet", responses=REFUSALS)
    async def describe_fleet(self, ctx: Context) -> FleetView:
        """Who holds how much of which device, and how workers belong together. No engine is
        asked.
        """
        return fleet_view(await ctx.snapshots.newest())


class NodeController(Controller):
    path = "/admin/v1/nodes"
    tags = ("nodes",)

    @get("/", operation_id="listNodes", responses=REFUSALS)
    async def list_nodes(self, ctx: Context) -> NodeList:
        snapshot = await ctx.snapshots.newest()
        nodes = sorted(snapshot.nodes, key=lambda item: item.name)
        return NodeList(items=node_views(nodes, snapshot.devices, snapshot.claims))

    @get("/{name:str}", operation_id="describeNode", responses=THINKING_REFUSALS)
    async def describe_node(self, ctx: Context, name: FromPath[str]) -> NodePage:
        snapshot = await ctx.snapshots.newest()
        node = _find(snapshot, name)
        workers = tuple(worker for worker in snapshot.workers if worker.node == name)
        here = {worker.plan.model for worker in workers}
        return NodePage(
            node=_view(snapshot, node),
            workers=await _worker_views(ctx, tuple(sorted(workers, key=worker_order))),
            no_place=await _no_place(ctx, snapshot, name),
            conditions={
                model.name: model.condition
                for model in snapshot.models
                if model.condition and model.name in here
            },
        )

    @delete("/{name:str}", operation_id="forgetNode", responses=WRITE_REFUSALS, status_code=200)
    async def forget(self, ctx: Context, request: AdminRequest, name: FromPath[str]) -> NodeView:
        """Takes a node that does not report, and has no worker, out of the registry."""
        snapshot = await ctx.snapshots.newest()
        gone = _find(snapshot, name)
        await ctx.store.forget_node(name, by=request.auth)
        return _view(snapshot, gone)

    @post("/{name:str}/drain", operation_id="drainNode", responses=REFUSALS, status_code=200)
    async def drain(self, ctx: Context, request: AdminRequest, name: FromPath[str]) -> NodeView:
        """Its workers move to other nodes, each once its successor there is ready."""
        return await _set_node_state(ctx, request, name, NodeState.DRAINING)

    @post("/{name:str}/cordon", operation_id="cordonNode", responses=REFUSALS, status_code=200)
    async def cordon(self, ctx: Context, request: AdminRequest, name: FromPath[str]) -> NodeView:
        return await _set_node_state(ctx, request, name, NodeState.CORDONED)

    @post("/{name:str}/uncordon", operation_id="uncordonNode", responses=REFUSALS, status_code=200)
    async def uncordon(self, ctx: Context, request: AdminRequest, name: FromPath[str]) -> NodeView:
        return await _set_node_state(ctx, request, name, NodeState.READY)


class LeadershipController(Controller):
    path = "/admin/v1/controllers"
    tags = ("nodes",)

    @get("/", operation_id="listControllers", responses=REFUSALS)
    async def list_controllers(self, ctx: Context) -> ControllerList:
        """The controller that leads; none where nobody does. Those that wait are not known."""
        return controller_list(await ctx.store.lease())


def _view(snapshot: Snapshot, node: Node) -> NodeView:
    (view,) = node_views((node,), snapshot.devices, snapshot.claims)
    return view


def _find(snapshot: Snapshot, name: str) -> Node:
    for node in snapshot.nodes:
        if node.name == name:
            return node
    raise NotFoundError("node", name)


async def _no_place(ctx: AdminContext, snapshot: Snapshot, name: str) -> tuple[NoPlaceView, ...]:
    now = ctx.clock()
    found = await ctx.thought("nodes", snapshot, lambda: refusals(snapshot, now, runtime_of))
    return no_place_views(no_places(on_node(found, name)))


async def _worker_views(ctx: AdminContext, workers: tuple[Worker, ...]) -> tuple[WorkerView, ...]:
    ready = sum(worker.phase is Phase.READY for worker in workers)
    asked = workers if ready <= ENGINES_ASKED_MAX else ()
    async with asyncio.TaskGroup() as group:
        counting = group.create_task(ctx.engine_counts(asked))
        reading = group.create_task(ctx.seen.look())
    counts, standing, now = counting.result(), reading.result().standing, ctx.clock()
    ended = restarts(standing.snapshot)
    return tuple(
        worker_view(
            worker,
            now=now,
            devices=standing.devices.get(worker.id, ()),
            restarts=ended.get(worker.plan.slot, 0),
            metrics=counts.get(worker.id),
        )
        for worker in workers
    )


async def _set_node_state(
    ctx: AdminContext, request: AdminRequest, name: str, state: NodeState
) -> NodeView:
    node = await ctx.store.set_node_state(name, state, by=request.auth)
    return _view(await ctx.snapshots.newest(), node)


async def _log(
    ctx: AdminContext, worker: Worker, tail: int, *, follow: bool
) -> AsyncGenerator[bytes, None]:
    """The log's bytes. What goes wrong once the answer has begun is said in its last line."""
    # Backends write `logs` as an async generator; closing it ends what follows the file.
    chunks = cast(
        "AsyncGenerator[bytes, None]",
        ctx.cluster.logs(worker.node, worker.id, tail_lines=tail, follow=follow),
    )
    with ctx.followers.one() if follow else nullcontext():
        try:
            async with aclosing(chunks):
                async for chunk in chunks:
                    yield chunk
        except (ClusterError, NotFoundError, OSError) as error:
            yield f"modelyard: this log cannot be read: {error}\n".encode()
