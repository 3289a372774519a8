"""Proposals in `registry.store`, on SQLite and PostgreSQL."""

import pytest
from registry_world import ME, Clock, spec

from registry.errors import ConflictError, NotFoundError, SpecError
from registry.spec import ModelSpec
from registry.state import EventKind
from registry.store import Store
from registry.store.proposals import KEPT_PER_MODEL


def wider(name: str = "m") -> ModelSpec:
    topology = {"type": "aggregated", "workers": 2}
    return spec(name, variants=[{"engine": "emulator", "topology": topology}])


async def test_a_proposal_changes_nothing_until_it_is_taken(store: Store, clock: Clock) -> None:
    before, _ = await store.apply_model(spec(), by=ME)
    made = await store.propose(wider(), base_revision=1, reason="it is measured", by=ME)
    assert await store.model("m") == before
    assert (made.taken, made.decided_at, made.created_by) == (None, None, ME.actor)
    clock.now += 5

    taken, model = await store.take_proposal(made.id, by=ME)

    assert (model.revision, model.spec) == (2, wider())
    assert await store.model("m") == model
    assert (taken.taken, taken.decided_at) == (True, clock.now)
    assert await store.proposal(made.id) == taken
    events = await store.events(model="m")
    told = [(event.kind, event.message) for event in events if event.kind != EventKind.ROLLOUT]
    assert told == [
        (EventKind.MODEL_APPLIED, "revision 1"),
        (EventKind.PROPOSAL, f"{made.id} proposed: it is measured"),
        (EventKind.MODEL_APPLIED, "revision 2"),
        (EventKind.PROPOSAL, f"{made.id} taken: revision 2"),
    ]
    audit = [(entry.action, entry.object) for entry in await store.audit()]
    assert audit[1:] == [
        ("proposal.make", made.id),
        ("model.apply", "m"),
        ("proposal.take", made.id),
    ]


async def test_a_decision_stands(store: Store) -> None:
    await store.apply_model(spec(), by=ME)
    refused = await store.propose(wider(), base_revision=1, reason="", by=ME)
    taken = await store.propose(wider(), base_revision=1, reason="", by=ME)
    assert (await store.refuse_proposal(refused.id, by=ME)).taken is False
    await store.take_proposal(taken.id, by=ME)

    for proposal_id, word in ((refused.id, "refused"), (taken.id, "taken")):
        with pytest.raises(ConflictError, match=f"was {word} already"):
            await store.take_proposal(proposal_id, by=ME, force=True)
        with pytest.raises(ConflictError, match=f"was {word} already"):
            await store.refuse_proposal(proposal_id, by=ME)
    with pytest.raises(NotFoundError, match="proposal"):
        await store.take_proposal("prp_none", by=ME)


async def test_what_came_since_a_proposal_is_undone_by_force_only(store: Store) -> None:
    await store.apply_model(spec(), by=ME)
    made = await store.propose(wider(), base_revision=1, reason="", by=ME)
    await store.apply_model(spec(priority=7), by=ME)
    version = await store.version()
    with pytest.raises(ConflictError, match="is at revision 2"):
        await store.take_proposal(made.id, by=ME)
    assert await store.version() == version
    assert (await store.proposal(made.id)).taken is None

    _, model = await store.take_proposal(made.id, by=ME, force=True)

    assert (model.revision, model.spec) == (3, wider())


async def test_a_proposal_needs_its_model(store: Store) -> None:
    with pytest.raises(NotFoundError, match="model"):
        await store.propose(wider(), base_revision=1, reason="", by=ME)
    await store.apply_model(spec(), by=ME)
    for revision in (0, 2):
        with pytest.raises(SpecError, match="base_revision"):
            await store.propose(wider(), base_revision=revision, reason="", by=ME)
    made = await store.propose(wider(), base_revision=1, reason="", by=ME)
    await store.delete_model("m", by=ME)

    with pytest.raises(NotFoundError, match="model"):
        await store.take_proposal(made.id, by=ME, force=True)


async def test_of_each_model_the_newest_proposals_are_kept(store: Store, clock: Clock) -> None:
    for name in ("m", "other"):
        await store.apply_model(spec(name), by=ME)
    other = await store.propose(wider("other"), base_revision=1, reason="", by=ME)
    made = []
    for _ in range(KEPT_PER_MODEL + 3):
        clock.now += 1
        made.append(await store.propose(wider(), base_revision=1, reason="", by=ME))

    assert await store.proposals("m") == tuple(reversed(made[3:]))
    assert await store.proposals() == (*reversed(made[3:]), other)
