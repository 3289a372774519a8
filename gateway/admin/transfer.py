"""Routes that take everything out of a registry, and bring it into another one."""

from litestar import Controller, Response, get, post
from litestar.params import FromQuery, RawBody

from gateway.admin.auth import FOR_ADMINS
from gateway.admin.context import AdminRequest, Context
from gateway.admin.documented import THINKING_REFUSALS, WRITE_REFUSALS, TakesYaml
from gateway.admin.errors import BadRequestError
from gateway.admin.revision_views import DiffView, coming_diff
from gateway.admin.views import View
from registry import export as exports
from registry.store.restoring import Outcome

YAML = "application/yaml"


class RestoredItem(View, frozen=True, kw_only=True):
    """*kind* is quota, pool, key or model; *name* a key's id, else a name."""

    kind: str
    name: str
    outcome: Outcome


class RestoredView(View, frozen=True, kw_only=True):
    """What a restore did, or with *dry_run* would do; then *diffs* says what changes of models."""

    dry_run: bool
    items: tuple[RestoredItem, ...]
    diffs: tuple[DiffView, ...]


class TransferController(Controller):
    path = "/admin/v1"
    tags = ("transfer",)

    @get(
        "/export",
        operation_id="export",
        media_type=YAML,
        responses=THINKING_REFUSALS,
        opt=FOR_ADMINS,
    )
    async def export(
        self, ctx: Context, request: AdminRequest, with_keys: FromQuery[bool] = False
    ) -> Response[str]:
        """Everything that makes another registry serve the same, as YAML documents: specs, quotas,
        pools. With `with_keys` the keys, too, as digests: keep that to yourself.
        """
        found = await ctx.store.export(with_keys=with_keys, by=request.auth)
        return Response(await ctx.think(lambda: exports.write(found)), media_type=YAML)

    @post(
        "/restore",
        operation_id="restore",
        operation_class=TakesYaml,
        responses={**WRITE_REFUSALS, **THINKING_REFUSALS},
        status_code=200,
    )
    async def restore(
        self, ctx: Context, request: AdminRequest, body: RawBody, dry_run: FromQuery[bool] = False
    ) -> RestoredView:
        """Makes everything in an export be there, or nothing. What is there beside it stays."""
        text = _text(body)
        wanted = await ctx.think(lambda: exports.read(text))
        models = {model.name: model for model in await ctx.store.models()}
        done = await ctx.store.restore(wanted, by=request.auth, dry_run=dry_run)
        diffs = (coming_diff(models.get(spec.name), spec) for spec in wanted.models)
        return RestoredView(
            dry_run=dry_run,
            items=tuple(RestoredItem(kind=d.kind, name=d.name, outcome=d.outcome) for d in done),
            diffs=tuple(view for view in diffs if view.changes) if dry_run else (),
        )


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise BadRequestError("the body is not UTF-8 text: send the YAML of an export") from None
