"""Routes of proposals: specs that a measurement suggests, to be looked at, taken or refused."""

from litestar import Controller, get, post
from litestar.params import FromPath, FromQuery

from gateway.admin.context import AdminContext, AdminRequest, Context
from gateway.admin.documented import REFUSALS, WRITE_REFUSALS
from gateway.admin.views import View, iso, iso_or_none
from registry.spec import ModelSpec
from registry.state import Proposal


class ProposalView(View, frozen=True, kw_only=True):
    """*base_revision* is what it was made from, *revision* the model's present one, 0 for a model
    that is deleted: where they differ, taking it would undo what came since. *taken* is null until
    somebody decides.
    """

    id: str
    model: str
    base_revision: int
    revision: int
    reason: str
    created_at: str
    created_by: str
    taken: bool | None
    decided_at: str | None
    spec: ModelSpec


class ProposalList(View, frozen=True, kw_only=True):
    items: tuple[ProposalView, ...]


class ProposalController(Controller):
    path = "/admin/v1/proposals"
    tags = ("proposals",)

    @get("/", operation_id="listProposals", responses=REFUSALS)
    async def list_proposals(
        self, ctx: Context, model: FromQuery[str | None] = None
    ) -> ProposalList:
        """Newest first, decided ones too; of each model the newest are kept."""
        found, revisions = await ctx.store.proposals(model), await _revisions(ctx)
        return ProposalList(items=tuple(proposal_view(item, revisions) for item in found))

    @get("/{proposal_id:str}", operation_id="describeProposal", responses=REFUSALS)
    async def describe_proposal(self, ctx: Context, proposal_id: FromPath[str]) -> ProposalView:
        return proposal_view(await ctx.store.proposal(proposal_id), await _revisions(ctx))

    @post(
        "/{proposal_id:str}/take",
        operation_id="takeProposal",
        responses=WRITE_REFUSALS,
        status_code=200,
    )
    async def take(
        self,
        ctx: Context,
        request: AdminRequest,
        proposal_id: FromPath[str],
        force: FromQuery[bool] = False,
    ) -> ProposalView:
        """Makes its spec the model's newest revision. With force also where the model has moved on
        since, which undoes what came in between.
        """
        taken, model = await ctx.store.take_proposal(proposal_id, by=request.auth, force=force)
        return proposal_view(taken, {model.name: model.revision})

    @post(
        "/{proposal_id:str}/refuse",
        operation_id="refuseProposal",
        responses=WRITE_REFUSALS,
        status_code=200,
    )
    async def refuse(
        self, ctx: Context, request: AdminRequest, proposal_id: FromPath[str]
    ) -> ProposalView:
        refused = await ctx.store.refuse_proposal(proposal_id, by=request.auth)
        return proposal_view(refused, await _revisions(ctx))


async def _revisions(ctx: AdminContext) -> dict[str, int]:
    return {model.name: model.revision for model in await ctx.store.models()}


def proposal_view(proposal: Proposal, revisions: dict[str, int]) -> ProposalView:
    return ProposalView(
        id=proposal.id,
        model=proposal.model,
        base_revision=proposal.base_revision,
        revision=revisions.get(proposal.model, 0),
        reason=proposal.reason,
        created_at=iso(proposal.created_at),
        created_by=proposal.created_by,
        taken=proposal.taken,
        decided_at=iso_or_none(proposal.decided_at),
        spec=proposal.spec,
    )
