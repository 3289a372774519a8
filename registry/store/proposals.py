"""Specs that a measurement or a planner suggests, until somebody takes or refuses them."""

import secrets

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from registry import rows
from registry import tables as t
from registry.errors import ConflictError, NotFoundError, SpecError
from registry.spec import ModelSpec, to_json
from registry.state import EventKind, Model, Principal, Proposal
from registry.store import models
from registry.store.scope import Write, cut

KEPT_PER_MODEL = 20
REASON_CHARS_MAX = 2000
_ID_BYTES = 6


async def propose(
    write: Write, spec: ModelSpec, *, base_revision: int, reason: str, by: Principal
) -> Proposal:
    """Raises NotFoundError for a model that is not there, SpecError for a revision it never had."""
    model = await models.one(write.session, spec.name)
    if not 1 <= base_revision <= model.revision:
        raise SpecError(
            "base_revision", f"is {base_revision}, allowed is 1 to {model.revision} (the newest)"
        )
    row = t.ProposalRow(
        id=f"prp_{secrets.token_hex(_ID_BYTES)}",
        model=spec.name,
        base_revision=base_revision,
        spec=to_json(spec).decode(),
        reason=cut(reason, REASON_CHARS_MAX),
        created_at=write.now,
        created_by=cut(by.actor),
        taken=None,
        decided_at=None,
    )
    write.session.add(row)
    await write.session.flush()
    await _prune(write.session, spec.name)
    write.event(EventKind.PROPOSAL, f"{row.id} proposed: {row.reason}", model=row.model)
    write.audit("proposal.make", row.id, before=base_revision)
    return rows.proposal(row)


async def take(write: Write, proposal_id: str, *, force: bool) -> tuple[Proposal, Model]:
    """Raises NotFoundError (for a deleted model, too) and ConflictError."""
    row = await _undecided(write.session, proposal_id)
    model = await models.one(write.session, row.model)
    if model.revision != row.base_revision and not force:
        raise ConflictError(
            f"model {row.model!r} is at revision {model.revision}, {row.id} was made from "
            f"{row.base_revision} and would undo what came since: look at it again, then refuse "
            "it, or take it with force"
        )
    proposal = rows.proposal(row)
    written, _ = await models.apply(write, proposal.spec, None, create_only=False)
    row.taken, row.decided_at = True, write.now
    write.event(EventKind.PROPOSAL, f"{row.id} taken: revision {written.revision}", model=row.model)
    write.audit("proposal.take", row.id, before=model.revision, after=written.revision)
    return rows.proposal(row), written


async def refuse(write: Write, proposal_id: str) -> Proposal:
    """Raises NotFoundError, ConflictError."""
    row = await _undecided(write.session, proposal_id)
    row.taken, row.decided_at = False, write.now
    write.event(EventKind.PROPOSAL, f"{row.id} refused", model=row.model)
    write.audit("proposal.refuse", row.id)
    return rows.proposal(row)


async def of(session: AsyncSession, model: str | None) -> tuple[Proposal, ...]:
    """Newest first: of one model, or of all."""
    query = select(t.ProposalRow).order_by(t.ProposalRow.created_at.desc(), t.ProposalRow.id)
    if model is not None:
        query = query.where(t.ProposalRow.model == model)
    return tuple(map(rows.proposal, await session.scalars(query)))


async def one(session: AsyncSession, proposal_id: str) -> Proposal:
    """Raises NotFoundError."""
    return rows.proposal(await _row(session, proposal_id))


async def _row(session: AsyncSession, proposal_id: str) -> t.ProposalRow:
    row = await session.get(t.ProposalRow, proposal_id)
    if row is None:
        raise NotFoundError("proposal", proposal_id)
    return row


async def _undecided(session: AsyncSession, proposal_id: str) -> t.ProposalRow:
    row = await _row(session, proposal_id)
    if row.taken is not None:
        raise ConflictError(f"{row.id} was {'taken' if row.taken else 'refused'} already")
    return row


async def _prune(session: AsyncSession, model: str) -> None:
    """The newest `KEPT_PER_MODEL` stay, decided or not."""
    newest = (
        select(t.ProposalRow.id)
        .where(t.ProposalRow.model == model)
        .order_by(t.ProposalRow.created_at.desc(), t.ProposalRow.id)
        .limit(KEPT_PER_MODEL)
    )
    await session.execute(
        delete(t.ProposalRow)
        .where(t.ProposalRow.model == model, t.ProposalRow.id.not_in(newest))
        .execution_options(synchronize_session=False)
    )
