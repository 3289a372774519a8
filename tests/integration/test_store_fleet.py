"""Nodes, placement and workers in `registry.store`, on a real SQLite file."""

import asyncio

import msgspec
import pytest
from registry_world import (
    DEVICE_BYTES,
    ME,
    Clock,
    device,
    gang,
    planned,
    report,
    serving,
    spec,
)
from sqlalchemy.exc import IntegrityError

from registry.errors import (
    ConflictError,
    NotFoundError,
    PlanConflictError,
    SpecError,
)
from registry.spec import Role
from registry.state import (
    EventKind,
    NodeState,
    Phase,
)
from registry.store import Store, workers
from registry.store.gangs import move_claimed

# --- nodes


async def test_only_a_changed_report_is_news(store: Store, clock: Clock) -> None:
    await store.report_nodes((report(device()),))
    version = await store.version()
    clock.now += 5
    await store.report_nodes((report(device()),))

    assert await store.version() == version
    assert (await store.snapshot()).nodes[0].last_seen_at == 1005.0

    await store.report_nodes((report(device(), runtimes=("a", "b")),))
    (changed,) = await store.events(after=version)
    assert (changed.kind, changed.node) == (EventKind.NODE_CHANGED, "n")
    assert (await store.snapshot()).nodes[0].runtimes == ("a", "b")


async def test_a_cordon_outlives_an_outage(store: Store, clock: Clock) -> None:
    await store.report_nodes((report(device()),))
    await store.set_node_state("n", NodeState.CORDONED, by=ME)
    clock.now += 100
    await store.mark_nodes_unknown(("n", "p"), why="no answer for 10 s")
    await store.mark_nodes_unknown(("n",), why="no answer for 11 s")
    assert (await store.snapshot()).nodes[0].state is NodeState.UNKNOWN

    await store.report_nodes((report(device()),))

    assert (await store.snapshot()).nodes[0].state is NodeState.CORDONED
    assert [e.message for e in await store.events(after=2)] == ["no answer for 10 s", "is back"]
    for name, state, error in (
        ("nobody", NodeState.READY, NotFoundError),
        ("n", NodeState.UNKNOWN, SpecError),
    ):
        with pytest.raises(error):
            await store.set_node_state(name, state, by=ME)


async def test_what_an_ended_worker_used_is_not_taken_for_foreign_use(store: Store) -> None:
    """Else its successor finds no place, or evicts somebody, until the node reports again."""
    worker = await serving(store)
    used = msgspec.structs.replace(device(), used_bytes=DEVICE_BYTES - 10)
    other = msgspec.structs.replace(device(1), used_bytes=7)
    await store.report_nodes((report(used, other),))
    await store.set_worker(worker.id, Phase.DRAINING)
    assert [one.used_bytes for one in (await store.snapshot()).devices] == [DEVICE_BYTES - 10, 7]

    await store.set_worker(worker.id, Phase.STOPPED)

    assert [one.used_bytes for one in (await store.snapshot()).devices] == [0, 7]


async def test_a_node_that_never_comes_back_is_forgotten_with_its_history(store: Store) -> None:
    worker = await serving(store)
    with pytest.raises(ConflictError, match="is ready, only a node that is unknown"):
        await store.forget_node("n", by=ME)
    await store.mark_nodes_unknown(("n",), why="silent")
    with pytest.raises(ConflictError, match="still has 1 workers"):
        await store.forget_node("n", by=ME)
    await store.set_worker(worker.id, Phase.LOST)

    await store.forget_node("n", by=ME)

    seen = await store.snapshot()
    assert (seen.nodes, seen.devices, seen.ended) == ((), (), ())
    assert (await store.audit())[-1].action == "node.forget"
    assert (await store.events(newest=True, limit=1))[0].message == "forgotten"
    with pytest.raises(NotFoundError):
        await store.forget_node("n", by=ME)
    await store.report_nodes((report(device()),))
    await store.commit_gang(gang(planned()))  # it may join anew


async def test_a_vanished_device_stays_while_claimed_and_offers_nothing_more(
    store: Store,
) -> None:
    await store.apply_model(spec(), by=ME)
    await store.report_nodes((report(device(0), device(1)),))
    (worker,) = await store.commit_gang(gang(planned(claims={"n/cpu0": 40})))

    await store.report_nodes((report(),))

    assert [(d.id, d.memory_bytes) for d in (await store.snapshot()).devices] == [("n/cpu0", 40)]
    version = await store.version()
    await store.report_nodes((report(),))
    assert await store.version() == version
    with pytest.raises(PlanConflictError, match="0 bytes free"):
        await store.commit_gang(gang(planned(ordinal=1, claims={"n/cpu0": 1})))

    await store.set_worker(worker.id, Phase.LOST)
    await store.report_nodes((report(),))
    assert (await store.snapshot()).devices == ()


async def test_a_shrunk_device_never_goes_below_its_claims(store: Store) -> None:
    worker = await serving(store)
    await store.report_nodes((report(device(0, memory_bytes=60), device(1)),))
    assert (await store.snapshot()).devices[0].memory_bytes == DEVICE_BYTES
    await store.set_worker(worker.id, Phase.STOPPED)
    await store.report_nodes((report(device(0, memory_bytes=60), device(1)),))
    assert (await store.snapshot()).devices[0].memory_bytes == 60


# --- placement


async def test_a_gang_is_placed_with_ids_tokens_and_claims(store: Store) -> None:
    name = "Org_Model.V1" + "x" * 40
    await store.apply_model(spec(name), by=ME)
    await store.report_nodes((report(device(0), device(1)),))

    prefill, decode = await store.commit_gang(
        gang(
            planned(name, role=Role.PREFILL, claims={"n/cpu0": 30}),
            planned(name, role=Role.DECODE, claims={"n/cpu0": 70, "n/cpu1": 1}),
        )
    )

    assert prefill.id.startswith("org-model.v1" + "x" * 28 + "-prefill-0-")
    assert (prefill.phase, prefill.url, prefill.created_at) == (Phase.ASSIGNED, "", 1000.0)
    assert prefill.token != decode.token
    assert len(prefill.token) >= 32
    assert prefill.token not in repr(prefill)
    seen = await store.snapshot()
    assert {w.id for w in seen.workers} == {prefill.id, decode.id}
    assert sorted((c.device_id, c.memory_bytes) for c in seen.claims) == [
        ("n/cpu0", 30),
        ("n/cpu0", 70),
        ("n/cpu1", 1),
    ]
    assert await store.worker(decode.id) == decode
    assert await store.workers(model=name) == await store.workers()


@pytest.mark.parametrize(
    ("plan", "why"),
    [
        (planned("nobody"), "deleted"),
        (planned(revision=2), "no revision 2"),
        (planned(node="elsewhere"), "gone"),
        (planned(ordinal=1, claims={"n/cpu9": 1}), "not on"),
        (planned(ordinal=1, claims={"other/cpu0": 1}), "not on"),
        (planned(ordinal=1, claims={"n/cpu1": DEVICE_BYTES}), "99 bytes free"),
        (planned(ordinal=1, claims={"n/cpu0": 1}), "0 bytes free"),
        (planned(claims={"n/cpu1": 1}), "already fills"),
    ],
)
async def test_a_plan_that_no_longer_fits_is_refused_whole(
    store: Store, plan: object, why: str
) -> None:
    await serving(store)
    await store.report_nodes((report(device(0, node="other"), node="other"),))
    before = await store.snapshot()
    good = planned(ordinal=7, claims={"n/cpu1": 1})

    with pytest.raises(PlanConflictError, match=why):
        await store.commit_gang(gang(good, plan))

    assert await store.snapshot() == before


async def test_no_worker_goes_to_a_cordoned_or_silent_node_or_a_deleted_model(
    store: Store,
) -> None:
    await store.apply_model(spec(), by=ME)
    await store.report_nodes((report(device()),))
    await store.set_node_state("n", NodeState.CORDONED, by=ME)
    with pytest.raises(PlanConflictError, match="cordoned"):
        await store.commit_gang(gang(planned()))
    await store.set_node_state("n", NodeState.READY, by=ME)
    await store.mark_nodes_unknown(("n",), why="silent")
    with pytest.raises(PlanConflictError, match="unknown"):
        await store.commit_gang(gang(planned()))
    await store.report_nodes((report(device()),))
    await store.delete_model("m", by=ME)
    with pytest.raises(PlanConflictError, match="deleted"):
        await store.commit_gang(gang(planned()))


async def test_a_new_fingerprint_may_stand_beside_the_old_worker_of_its_slot(
    store: Store,
) -> None:
    old = await serving(store)
    (new,) = await store.commit_gang(gang(planned(fingerprint="g", claims={"n/cpu1": 1})))
    assert {w.id for w in await store.workers()} == {old.id, new.id}


async def test_the_database_refuses_what_the_checks_would_miss(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second guard of invariant I1: with the first one blinded, constraints still hold."""
    await serving(store)

    async def blind(*_: object) -> None:
        return None

    monkeypatch.setattr("registry.store.gangs._check_slot", blind)
    with pytest.raises(PlanConflictError, match="refused by the database") as refused:
        await store.commit_gang(gang(planned(claims={"n/cpu1": 1})))
    assert "parameters hidden" in str(refused.value.__cause__)  # the new worker's token is one
    async with store._scopes.write() as write:
        write.quiet("a test")
        with pytest.raises(IntegrityError, match="ck_devices_claimed"):
            await move_claimed(write.session, "n/cpu0", 1)


async def test_two_stores_on_one_database_claim_a_device_once(store: Store, url: str) -> None:
    """Gateway and controller are two processes; verify-then-write must hold there."""
    await store.apply_model(spec(), by=ME)
    await store.report_nodes((report(device(0), device(1)),))
    other = await Store.open(url)
    try:
        for round_ in range(5):
            results = await asyncio.gather(
                *(
                    one.commit_gang(gang(planned(ordinal=10 * round_ + place)))
                    for place, one in enumerate((store, other, store, other))
                ),
                return_exceptions=True,
            )
            won = [r for r in results if isinstance(r, tuple)]
            assert [type(r) for r in results if r not in won] == [PlanConflictError] * 3
            assert len((await other.snapshot()).claims) == 1
            await other.set_worker(won[0][0].id, Phase.STOPPED)
    finally:
        await other.aclose()


async def test_concurrent_applies_lose_no_revision(store: Store, url: str) -> None:
    other = await Store.open(url)
    try:
        applied = await asyncio.gather(
            *(
                one.apply_model(spec(source=f"hf://org/m{n}"), by=ME)
                for n, one in enumerate((store, other) * 8)
            )
        )
    finally:
        await other.aclose()
    assert sorted(model.revision for model, _ in applied) == list(range(1, 17))
    assert [r.number for r in await store.revisions("m")] == list(range(1, 17))


# --- workers


async def test_a_worker_goes_through_its_phases_and_releases_its_claims_at_the_end(
    store: Store, clock: Clock
) -> None:
    worker = await serving(store)
    clock.now = 1010.0
    await store.set_worker(worker.id, Phase.STARTING, reason="loading")
    version = await store.version()
    await store.set_worker(worker.id, Phase.STARTING, reason="loading")
    assert await store.version() == version

    ready = await store.set_worker(worker.id, Phase.READY, url="http://127.0.0.1:9")
    assert (ready.ready_at, ready.url, ready.reason) == (1010.0, "http://127.0.0.1:9", "")
    clock.now = 1020.0
    failed = await store.set_worker(worker.id, Phase.FAILED, reason="x" * 5000)

    assert (failed.phase, failed.ended_at, failed.url) == (Phase.FAILED, 1020.0, ready.url)
    assert (failed.ready_at, len(failed.reason)) == (1010.0, 1000)
    seen = await store.snapshot()
    assert (seen.workers, seen.claims, seen.ended) == ((), (), (failed,))
    await store.commit_gang(gang(planned()))  # the device is free again


async def test_a_worker_keeps_its_addresses_until_told_others(store: Store) -> None:
    worker = await serving(store)
    assert (worker.url, worker.events_url, worker.kv_port) == ("", "", 0)
    known = await store.set_worker(
        worker.id, Phase.STARTING, url="http://n:1", events_url="tcp://n:2", kv_port=7
    )
    assert (known.url, known.events_url, known.kv_port) == ("http://n:1", "tcp://n:2", 7)
    kept = await store.set_worker(worker.id, Phase.READY)
    assert (kept.url, kept.events_url, kept.kv_port) == ("http://n:1", "tcp://n:2", 7)
    version = await store.version()
    moved = await store.set_worker(worker.id, Phase.READY, events_url="tcp://n:3")
    assert (moved.url, moved.events_url) == ("http://n:1", "tcp://n:3")
    assert await store.version() > version
    assert (await store.snapshot()).workers == (moved,)


async def test_an_ended_worker_never_lives_again(store: Store) -> None:
    worker = await serving(store)
    ended = await store.set_worker(worker.id, Phase.STOPPED)
    version = await store.version()
    for phase in (Phase.READY, Phase.FAILED, Phase.ASSIGNED):
        assert await store.set_worker(worker.id, phase, reason="late") == ended
    assert await store.version() == version
    with pytest.raises(NotFoundError):
        await store.set_worker("nobody", Phase.READY)
    with pytest.raises(NotFoundError):
        await store.worker("nobody")


async def test_only_the_newest_ended_workers_of_each_slot_are_remembered(
    store: Store, clock: Clock
) -> None:
    await store.apply_model(spec(), by=ME)
    await store.report_nodes((report(device(0), device(1)),))
    ids = []
    for _ in range(4):
        clock.now += 1
        pair = await store.commit_gang(
            gang(planned(ordinal=0), planned(ordinal=1, claims={"n/cpu1": 5}))
        )
        ids.append([w.id for w in pair])
        for worker in pair:
            await store.set_worker(worker.id, Phase.FAILED)
    clock.now += 1
    (live,) = await store.commit_gang(gang(planned()))
    version = await store.version()

    await store.forget_ended(keep_per_slot=2)

    ended = {w.id for w in (await store.snapshot()).ended}
    assert ended == {*ids[2], *ids[3]}
    assert [w.id for w in await store.workers(include_ended=True)][-1] == live.id
    assert await store.version() == version
    assert workers.ENDED_PER_SLOT_MAX == 10
