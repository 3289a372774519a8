"""A plan is what the controller would do: its first turn exactly, and what comes of it."""

import msgspec
import pytest
from fleets import GIB, a_device, a_node, a_snapshot, disaggregated, unified, workers_of
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.owners import uses
from pipelines.plan import (
    Cause,
    Change,
    _carried_out,
    plan,
    refusals,
    refusals_of,
    with_specs,
)
from pipelines.reconciler import reconcile
from pipelines.refusals import ADVICE, no_places, on_node
from pipelines.scheduler import Reason, place
from registry.state import Claim, NodeState, Phase, Quota


def runtime_of(plan, kind):
    return plan.runtime or f"{plan.engine}-on-{kind}"


def a_fleet(*models, nodes=("a",), slots=2, phase=Phase.READY, quotas=()):
    """One worker of *models* after the other on the devices of *nodes*."""
    devices = [a_device(node, index) for node in nodes for index in range(slots)]
    workers, claims = [], []
    for model in models:
        for worker in workers_of(model, phase):
            device = devices[len(workers)]
            workers.append(msgspec.structs.replace(worker, node=device.node))
            claims.append(Claim(worker_id=worker.id, device_id=device.id, memory_bytes=4 * GIB))
    snapshot = a_snapshot(
        models=models,
        nodes=[a_node(node) for node in nodes],
        devices=devices,
        workers=workers,
        claims=claims,
    )
    return msgspec.structs.replace(snapshot, quotas=tuple(quotas))


def thought(snapshot, *models, now=0.0):
    return plan(snapshot, [model.spec for model in models], now, runtime_of)


def started(found):
    return [(s.worker.plan.model, s.worker.plan.ordinal, s.turn) for s in found.starts]


def with_owner(model, owner, priority=100):
    spec = msgspec.structs.replace(model.spec, owner=owner, priority=priority)
    return msgspec.structs.replace(model, spec=spec)


def test_a_new_model_starts_where_there_is_room():
    found = thought(a_fleet(unified("old")), unified("new"))

    assert started(found) == [("new", 0, 1)]
    assert found.changes == {"new": Change.CREATED}
    assert [worker.plan.model for worker in found.kept] == ["old"]
    assert found.is_complete


def test_nothing_is_to_be_done_for_what_runs_already():
    model = unified("m")
    found = thought(a_fleet(model), model)

    assert (found.starts, found.stops, found.changes) == ((), (), {"m": Change.UNCHANGED})


def test_a_change_starts_beside_the_old_worker_which_stops_later():
    found = thought(a_fleet(unified("m")), unified("m", args={"seed": 1}))

    (start,), (stop,) = found.starts, found.stops
    assert (start.turn, start.replaces, start.after) == (1, stop.worker.id, ())
    assert (stop.cause, stop.turn) == (Cause.OUTDATED, 2)
    assert found.kept == ()


def test_a_change_without_room_beside_the_old_worker_comes_when_that_has_ended():
    found = thought(a_fleet(unified("m"), slots=1), unified("m", args={"seed": 1}))

    (start,), (stop,) = found.starts, found.stops
    assert (stop.cause, stop.turn) == (Cause.OUTDATED, 1)
    assert (start.turn, start.after) == (2, (stop.worker.id,))
    assert found.is_complete


def test_another_topology_starts_beside_the_old_workers_which_stop_once_it_is_ready():
    pair = disaggregated("m", prefill=2)
    found = thought(a_fleet(unified("m", workers=2), slots=5), pair)

    starts = sorted((start.turn, start.worker.plan.role) for start in found.starts)
    assert starts == [(1, "decode"), (1, "prefill"), (2, "prefill")]
    assert {(stop.cause, stop.turn) for stop in found.stops} == {(Cause.OUTDATED, 3)}
    assert found.is_complete


def test_a_rollout_without_room_is_thought_to_its_end():
    fleet = a_fleet(unified("m", workers=4), slots=4)
    found = thought(fleet, unified("m", workers=4, args={"seed": 1}))

    assert len(found.starts) == len(found.stops) == 4
    assert found.is_complete
    turns = [start.turn for start in found.starts]
    assert turns == sorted(set(turns)), "one after the other"


def test_fewer_workers_stop_the_last_ones_at_once():
    found = thought(a_fleet(unified("m", workers=2)), unified("m", workers=1))

    assert [(stop.worker.plan.ordinal, stop.cause, stop.turn) for stop in found.stops] == [
        (1, Cause.REMOVED, 1)
    ]


def test_what_has_no_place_says_why_on_every_node_once_for_like_workers():
    found = thought(a_fleet(nodes=("a", "b"), slots=1), unified("m", workers=4))
    (none,) = no_places(found.refused)

    assert not found.is_complete
    assert none.workers == ("unified 2", "unified 3")
    (why,) = none.why
    assert (why.reason, why.nodes) == (Reason.NOT_ENOUGH_FREE, ("a", "b"))


def test_a_pair_without_a_place_is_told_as_a_whole():
    found = thought(a_fleet(slots=2), disaggregated("pd", decode=2))
    (none,) = no_places(found.refused)

    assert none.is_gang
    assert none.workers == ("prefill 0", "decode 0", "decode 1")


def test_a_quota_that_is_used_up_refuses():
    snapshot = a_fleet(slots=4, quotas=[Quota(owner="team", devices=1)])
    found = thought(snapshot, with_owner(unified("m", workers=2), "team"))

    assert len(found.starts) == len(found.refused) == 1
    assert found.refused[0].why[0].reason is Reason.QUOTA
    (use,) = found.uses
    assert (use.devices, use.devices_then, use.quota.devices) == (0, 1, 1)


def test_what_failed_waits_and_its_place_is_told():
    model = unified("m")
    (worker,) = workers_of(model, Phase.FAILED, ended_at=10.0, reason="boom")
    snapshot = msgspec.structs.replace(a_fleet(), models=(model,), ended=(worker,))
    found = thought(snapshot, now=10.1)

    assert "boom" in found.waiting["m"]
    assert started(found) == [("m", 0, 2)]


def test_a_worker_that_leaves_already_makes_room():
    snapshot = a_fleet(unified("old"), slots=1, phase=Phase.DRAINING)
    found = thought(msgspec.structs.replace(snapshot, models=()), unified("new"))

    (start,), (stop,) = found.starts, found.stops
    assert (stop.cause, start.after) == (Cause.LEAVING, (stop.worker.id,))


def test_why_not_is_told_of_one_model_and_of_one_node():
    model = unified("m", workers=3)
    snapshot = msgspec.structs.replace(a_fleet(nodes=("a", "b"), slots=1), models=(model,))

    assert len(refusals_of(snapshot, "m", 0.0, runtime_of)) == 1
    assert refusals_of(snapshot, "other", 0.0, runtime_of) == ()
    (here,) = on_node(refusals(snapshot, 0.0, runtime_of), "b")
    assert [why.nodes for why in here.why] == [("b",)]


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_comes_with_what_would_help(reason):
    assert ADVICE[reason]


def test_a_drained_nodes_worker_moves_and_stops_later():
    snapshot = a_fleet(unified("m"), nodes=("a", "b"), slots=1)
    nodes = (a_node("a", state=NodeState.DRAINING), a_node("b"))
    found = thought(msgspec.structs.replace(snapshot, nodes=nodes))

    (start,), (stop,) = found.starts, found.stops
    assert (start.worker.node, start.turn, start.replaces) == ("b", 1, stop.worker.id)
    assert (stop.cause, stop.turn) == (Cause.DEPARTING, 2)


def test_what_a_removed_model_holds_counts_for_its_owner():
    model = with_owner(unified("m"), "team")
    snapshot = a_fleet(model, quotas=[Quota(owner="idle", devices=2)])

    assert [(use.owner, use.devices) for use in uses(snapshot, snapshot)] == [
        ("idle", 0),
        ("team", 1),
    ]


shapes = st.lists(
    st.tuples(st.booleans(), st.integers(1, 3), st.sampled_from(["1GiB", "4GiB", "9GiB"])),
    max_size=4,
)


@given(before=shapes, after=shapes, slots=st.integers(1, 4))
@settings(max_examples=25, deadline=None)
def test_the_first_turn_is_what_the_controller_does(before, after, slots):
    def models(found, seed):
        return [
            unified(f"m{i}", workers=count, memory=memory, args={"seed": seed})
            if single
            else disaggregated(f"m{i}", decode=count, memory=memory)
            for i, (single, count, memory) in enumerate(found)
        ]

    begin = thought(a_fleet(nodes=("a", "b"), slots=slots), *models(before, 1))
    old = models(before, 1)
    workers, claims = [], []
    for start in begin.starts:
        worker = workers_of(old[int(start.worker.plan.model[1:])])[0]
        name = "-".join(map(str, start.worker.plan.slot))
        workers.append(
            msgspec.structs.replace(worker, id=name, plan=start.worker.plan, node=start.worker.node)
        )
        claims += [
            Claim(worker_id=name, device_id=c.device_id, memory_bytes=c.memory_bytes)
            for c in start.worker.claims
        ]
    snapshot = msgspec.structs.replace(
        a_fleet(nodes=("a", "b"), slots=slots),
        models=tuple(old),
        workers=tuple(workers),
        claims=tuple(claims),
    )
    applied, _ = with_specs(snapshot, [model.spec for model in models(after, 2)], 0.0)
    decision = reconcile(applied, 0.0)
    committed = place(_carried_out(applied, decision), decision.start, runtime_of).placed

    found = thought(snapshot, *models(after, 2))

    first = [start.worker for start in found.starts if start.turn == 1]
    where = [(w.plan.slot, w.node, w.claims) for gang in committed for w in gang.workers]
    assert [(w.plan.slot, w.node, w.claims) for w in first] == where
    assert found == thought(snapshot, *models(after, 2))


def test_who_is_evicted_is_told_with_whose_place_comes_then_and_what_becomes_of_it():
    snapshot = a_fleet(with_owner(unified("low"), "b", priority=10), slots=1)
    found = thought(snapshot, with_owner(unified("high"), "a", priority=900))

    (start,), (stop,) = found.starts, found.stops
    assert (stop.cause, stop.turn) == (Cause.EVICTED, 1)
    assert "high" in stop.sentence
    assert (start.worker.plan.model, start.after) == ("high", (stop.worker.id,))
    assert [refusal.plan.model for refusal in found.refused] == ["low"]
