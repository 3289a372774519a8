"""The admin application: all routes, behind one guard, with one error envelope."""

import time
from collections.abc import Callable
from functools import partial

import httpx
import prometheus_client
from litestar import Litestar, Response, get
from litestar.datastructures import MutableScopeHeaders
from litestar.di import Provide
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme
from litestar.types import Message, Scope

from gateway.admin.auth import OPEN, AdminKeys, authenticate, require_admin
from gateway.admin.bodies import BODY_BYTES_MAX
from gateway.admin.context import AdminContext, Context
from gateway.admin.documented import REFUSALS, SpecSchemaPlugin
from gateway.admin.errors import answer_error, request_id
from gateway.admin.fleet import LeadershipController, NodeController, WorkerController
from gateway.admin.gauges import fleet_text
from gateway.admin.history import HistoryController
from gateway.admin.keys import KeyController
from gateway.admin.live.routes import LiveController
from gateway.admin.models import ModelController
from gateway.admin.plans import PlanController
from gateway.admin.pools import PoolController
from gateway.admin.proposals import ProposalController
from gateway.admin.quotas import QuotaController
from gateway.admin.revisions import RevisionController
from gateway.admin.rollouts import RolloutController
from gateway.admin.sleep import SleepController
from gateway.admin.transfer import TransferController
from gateway.admin.tuning import TuningController
from gateway.admin.usage import UsageController
from gateway.exposition import Exposition
from pipelines.cluster.base import Cluster
from registry.store import Store

_VERSION = "1"


@get("/healthz", operation_id="health", opt=OPEN, security=[{}], tags=["process"])
async def health() -> dict[str, str]:
    return {"status": "ok"}


@get(
    "/metrics",
    operation_id="metrics",
    media_type="text/plain",
    responses={401: REFUSALS[401]},
    tags=["process"],
)
async def metrics(ctx: Context) -> Response[bytes]:
    text = await ctx.exposition() + await fleet_text(ctx.store)
    return Response(text, media_type=prometheus_client.CONTENT_TYPE_LATEST)


def create_admin_app(
    *,
    store: Store,
    cluster: Cluster,
    probe: httpx.AsyncClient,
    exposition: Exposition,
    clock: Callable[[], float] = time.time,
) -> Litestar:
    """The app for the admin listener. What is handed in stays the caller's to close."""
    keys = AdminKeys(store, clock)
    ctx = AdminContext(
        store=store,
        cluster=cluster,
        probe=probe,
        exposition=exposition,
        authenticate=partial(authenticate, keys),
        clock=clock,
    )
    return Litestar(
        route_handlers=[
            health,
            metrics,
            ModelController,
            RevisionController,
            SleepController,
            WorkerController,
            NodeController,
            LeadershipController,
            PlanController,
            QuotaController,
            RolloutController,
            ProposalController,
            TuningController,
            PoolController,
            KeyController,
            HistoryController,
            LiveController,
            UsageController,
            TransferController,
        ],
        dependencies={"ctx": Provide(lambda: ctx, sync_to_thread=False)},
        middleware=[require_admin(keys)],
        exception_handlers={Exception: answer_error},
        before_send=[_add_headers],
        request_max_body_size=BODY_BYTES_MAX,
        openapi_config=_openapi(),
        plugins=[SpecSchemaPlugin()],
        logging_config=None,
    )


async def _add_headers(message: Message, scope: Scope) -> None:
    """On every answer, errors and unknown paths included."""
    if message["type"] != "http.response.start":
        return
    headers = MutableScopeHeaders.from_message(message)
    headers["X-Request-Id"] = request_id(scope)
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Cache-Control"] = "no-store"


def _openapi() -> OpenAPIConfig:
    return OpenAPIConfig(
        title="Modelyard admin API",
        version=_VERSION,
        path="/schema",
        # Only JSON: the pages that show it would load scripts from elsewhere.
        render_plugins=[JsonRenderPlugin(path=["/", "/openapi.json"])],
        use_handler_docstrings=True,
        security=[{"admin_key": []}],
        components=Components(
            security_schemes={"admin_key": SecurityScheme(type="http", scheme="bearer")}
        ),
    )
