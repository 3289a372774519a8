"""External workers in `registry.store`: they hold nothing, and no node is shown for them."""

import msgspec
import pytest
from registry_world import ME, Clock, device, gang, planned, report, spec

from pipelines.topology import expand
from registry.errors import NotFoundError, PlanConflictError
from registry.state import EventKind, NodeState, Phase
from registry.store import Store
from registry.store.nodes import NOWHERE

TOPOLOGY = {
    "type": "external",
    "workers": [{"url": "http://a:1"}, {"url": "http://b:1"}],
}


async def plans_of(store: Store):
    variant = {"engine": "vllm", "topology": TOPOLOGY}
    model, _ = await store.apply_model(spec(variants=[variant]), by=ME)
    return [plan for (plan,) in expand(model)]


async def test_it_begins_where_others_have_been_started_and_holds_nothing(store: Store) -> None:
    plan, _ = await plans_of(store)
    worker = await store.admit_external(plan, token="sk-1")

    assert (worker.phase, worker.url, worker.token) == (Phase.STARTING, "http://a:1", "sk-1")
    assert worker.plan == plan
    snapshot = await store.snapshot()
    assert (snapshot.workers, snapshot.claims, snapshot.nodes) == ((worker,), (), ())
    (event,) = await store.events(newest=True, limit=1)
    assert event.kind is EventKind.WORKER_PLACED
    assert (event.message, event.node) == ("external, at http://a:1", NOWHERE)
    assert "sk-1" not in repr(worker)


async def test_it_ends_without_a_claim_and_its_slot_is_free_again(store: Store) -> None:
    plan, _ = await plans_of(store)
    worker = await store.admit_external(plan, token="")
    await store.set_worker(worker.id, Phase.READY)
    ended = await store.set_worker(worker.id, Phase.FAILED, reason="does not answer")

    assert ended.ended_at is not None
    assert (await store.admit_external(plan, token="")).id != worker.id
    assert [each.id for each in (await store.snapshot()).ended] == [worker.id]


async def test_one_that_cannot_be_taken_up_ends_at_once(store: Store, clock: Clock) -> None:
    plan, _ = await plans_of(store)
    worker = await store.admit_external(plan, token="", failure="no key")

    assert (worker.phase, worker.reason, worker.ended_at) == (Phase.FAILED, "no key", clock.now)
    assert (await store.snapshot()).workers == ()


async def test_a_slot_has_one_and_an_unwanted_one_none(store: Store) -> None:
    first, second = await plans_of(store)
    await store.admit_external(first, token="")
    with pytest.raises(PlanConflictError, match="already fills this slot"):
        await store.admit_external(first, token="")
    with pytest.raises(PlanConflictError, match="no revision 2"):
        await store.admit_external(msgspec.structs.replace(second, revision=2), token="")
    await store.delete_model("m", by=ME)
    with pytest.raises(PlanConflictError, match="was deleted"):
        await store.admit_external(second, token="")


async def test_nowhere_is_no_node(store: Store, clock: Clock) -> None:
    plan, _ = await plans_of(store)
    await store.admit_external(plan, token="")
    await store.report_nodes((report(device()),))
    version = await store.version()
    await store.mark_nodes_unknown(("elsewhere",), why="silent")

    assert await store.version() == version
    assert [node.name for node in (await store.snapshot()).nodes] == ["n"]
    with pytest.raises(NotFoundError):
        await store.set_node_state(NOWHERE, NodeState.READY, by=ME)
    with pytest.raises(NotFoundError):
        await store.forget_node(NOWHERE, by=ME)
    with pytest.raises(PlanConflictError, match="node '' is"):
        await store.commit_gang(gang(planned(ordinal=7, node=NOWHERE)))
