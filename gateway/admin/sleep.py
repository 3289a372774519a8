"""Routes by which a model is put to sleep and woken by hand."""

from litestar import Controller, post
from litestar.params import FromPath

from gateway.admin.context import AdminRequest, Context
from gateway.admin.documented import REFUSALS
from gateway.admin.views import WorkerList, worker_view
from pipelines.sleeping import how_it_sleeps
from registry.errors import NotFoundError
from registry.state import Model, Snapshot


class SleepController(Controller):
    path = "/admin/v1/models"
    tags = ("models",)

    @post("/{name:str}/sleep", operation_id="sleepModel", responses=REFUSALS, status_code=200)
    async def sleep(self, ctx: Context, request: AdminRequest, name: FromPath[str]) -> WorkerList:
        """Its ready workers fall asleep, once they have nothing to do, and sleep until somebody
        asks for the model or wakes it. The answer has those that it was said to.
        """
        snapshot = await ctx.snapshots.newest()
        then = _find(snapshot, name).spec.idle.then
        kinds = {node.name: node.device_kind for node in snapshot.nodes}
        modes = {
            worker.id: how_it_sleeps(worker, kinds[worker.node], then)
            for worker in snapshot.workers
            if worker.plan.model == name and worker.node in kinds
        }
        told = await ctx.store.sleep_model(name, modes, reason="by hand", by=request.auth)
        return WorkerList(items=tuple(worker_view(worker, now=ctx.clock()) for worker in told))

    @post("/{name:str}/wake", operation_id="wakeModel", responses=REFUSALS, status_code=200)
    async def wake(self, ctx: Context, request: AdminRequest, name: FromPath[str]) -> WorkerList:
        """All of its sleeping workers wake up, or none where there is no room for one of them. The
        answer has those that do.
        """
        woken = await ctx.store.wake_model(name, reason="by hand", by=request.auth)
        return WorkerList(items=tuple(worker_view(worker, now=ctx.clock()) for worker in woken))


def _find(snapshot: Snapshot, name: str) -> Model:
    for model in snapshot.models:
        if model.name == name and not model.deleted:
            return model
    raise NotFoundError("model", name)
