"""The admin application: all routes, behind one guard, with one error envelope."""

import time
from collections.abc import Callable
from typing import Any

import httpx
import prometheus_client
from litestar import Litestar, Response, get
from litestar.datastructures import MutableScopeHeaders
from litestar.di import Provide
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme
from litestar.types import ControllerRouterHandler, Message, Scope

from gateway.admin.accounts import AccountController
from gateway.admin.auth import OPEN, AdminKeys, Guard, guarded_by
from gateway.admin.bodies import BODY_BYTES_MAX
from gateway.admin.browser import COOKIE
from gateway.admin.context import AdminContext, Context
from gateway.admin.documented import REFUSALS, AnswerSchemaPlugin, SpecSchemaPlugin
from gateway.admin.errors import answer_error, request_id
from gateway.admin.fleet import (
    FleetController,
    LeadershipController,
    NodeController,
    WorkerController,
)
from gateway.admin.gauges import fleet_text
from gateway.admin.history import HistoryController
from gateway.admin.keys import KeyController
from gateway.admin.live.routes import LiveController
from gateway.admin.models import ModelController
from gateway.admin.plans import PlanController
from gateway.admin.playground import Playground
from gateway.admin.playground_route import PlaygroundController
from gateway.admin.pools import PoolController
from gateway.admin.profiles import ProfileController
from gateway.admin.proposals import ProposalController
from gateway.admin.quotas import QuotaController
from gateway.admin.recommendations import RecommendationController
from gateway.admin.revisions import RevisionController
from gateway.admin.rollouts import RolloutController
from gateway.admin.sessions import SessionController
from gateway.admin.sign_in import Door, Passwords
from gateway.admin.sleep import SleepController
from gateway.admin.transfer import TransferController
from gateway.admin.tuning import TuningController
from gateway.admin.usage import UsageController
from gateway.exposition import Exposition
from gateway.snapshots import Snapshots
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
    text = await ctx.exposition() + await fleet_text(ctx.snapshots)
    return Response(text, media_type=prometheus_client.CONTENT_TYPE_LATEST)


_ROUTES: list[ControllerRouterHandler] = [
    health,
    metrics,
    ModelController,
    RevisionController,
    SleepController,
    WorkerController,
    NodeController,
    FleetController,
    LeadershipController,
    PlanController,
    QuotaController,
    RolloutController,
    ProposalController,
    RecommendationController,
    TuningController,
    ProfileController,
    PoolController,
    KeyController,
    SessionController,
    AccountController,
    HistoryController,
    LiveController,
    UsageController,
    TransferController,
    PlaygroundController,
]


def create_admin_app(
    *,
    store: Store,
    snapshots: Snapshots,
    cluster: Cluster,
    probe: httpx.AsyncClient,
    exposition: Exposition,
    inference: httpx.AsyncClient,
    clock: Callable[[], float] = time.time,
) -> Litestar:
    """The app for the admin listener; *inference* is a client of the other one. What is handed in
    stays the caller's to close.
    """
    keys, passwords = AdminKeys(store, clock), Passwords()
    guard = Guard(store, keys, clock)
    ctx = AdminContext(
        store=store,
        snapshots=snapshots,
        cluster=cluster,
        probe=probe,
        exposition=exposition,
        guard=guard,
        door=Door(store, keys, passwords),
        passwords=passwords,
        playground=Playground(store, inference, clock),
        clock=clock,
    )
    return Litestar(
        route_handlers=_ROUTES,
        dependencies={"ctx": Provide(lambda: ctx, sync_to_thread=False)},
        middleware=[guarded_by(guard)],
        exception_handlers={Exception: answer_error},
        before_send=[_add_headers],
        request_max_body_size=BODY_BYTES_MAX,
        openapi_config=_openapi(),
        plugins=[SpecSchemaPlugin(), AnswerSchemaPlugin()],
        logging_config=None,
    )


def openapi_document() -> dict[str, Any]:
    """What the API is, without running it: clients' types are made from this."""
    app = Litestar(
        route_handlers=_ROUTES,
        dependencies={"ctx": Provide(lambda: None, sync_to_thread=False)},
        openapi_config=_openapi(),
        plugins=[SpecSchemaPlugin(), AnswerSchemaPlugin()],
    )
    return app.openapi_schema.to_schema()


async def _add_headers(message: Message, scope: Scope) -> None:
    """On every answer, errors and unknown paths included."""
    if message["type"] != "http.response.start":
        return
    headers = MutableScopeHeaders.from_message(message)
    headers["X-Request-Id"] = request_id(scope)
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Cache-Control"] = "no-store"
    headers["Content-Security-Policy"] = "default-src 'none'; frame-ancestors 'none'"
    headers["Cross-Origin-Resource-Policy"] = "same-origin"


def _openapi() -> OpenAPIConfig:
    return OpenAPIConfig(
        title="Modelyard admin API",
        version=_VERSION,
        path="/schema",
        # Only JSON: the pages that show it would load scripts from elsewhere.
        render_plugins=[JsonRenderPlugin(path=["/", "/openapi.json"])],
        use_handler_docstrings=True,
        security=[{"admin_key": []}, {"session": []}],
        components=Components(
            security_schemes={
                "admin_key": SecurityScheme(type="http", scheme="bearer"),
                "session": SecurityScheme(type="apiKey", name=COOKIE, security_scheme_in="cookie"),
            }
        ),
    )
