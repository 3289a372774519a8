"""Workers move off a drained node one for one, and never below what a role keeps."""

import msgspec
import pytest
from fleets import a_node, a_snapshot, a_worker, disaggregated, unified, workers_of

from pipelines.conditions import condition, why_refused
from pipelines.departures import hurried, make_room
from pipelines.reconciler import reconcile
from pipelines.scheduler import Eviction, Reason, Refusal, Why
from pipelines.topology import expand
from registry.spec import Locality
from registry.state import NodeState, Phase

HOME, AWAY = a_node("a", state=NodeState.DRAINING), a_node("b")
BACK = a_node("a")


def on(node, worker, **change):
    return msgspec.structs.replace(worker, id=f"{worker.id}@{node}", node=node, **change)


def decide(model, workers, *nodes):
    return reconcile(a_snapshot(models=[model], workers=workers, nodes=nodes or (HOME, AWAY)), 0.0)


def slots(decision):
    return [[plan.slot[2:] for plan in gang] for gang in decision.start]


def pair(locality, **sizes):
    model = disaggregated("pd", **sizes)
    (variant,) = model.spec.variants
    topology = msgspec.structs.replace(variant.topology, locality=locality)
    variant = msgspec.structs.replace(variant, topology=topology)
    spec = msgspec.structs.replace(model.spec, variants=(variant,))
    return msgspec.structs.replace(model, spec=spec)


def keeping(model, least):
    (variant,) = model.spec.variants
    topology = msgspec.structs.replace(variant.topology, min_available=least)
    variant = msgspec.structs.replace(variant, topology=topology)
    return msgspec.structs.replace(
        model, spec=msgspec.structs.replace(model.spec, variants=(variant,))
    )


def refused(snapshot, decision, reason=Reason.NOT_ENOUGH_FREE, **changes):
    why = (Why(reason, "needs more", ("a",)),)
    return [Refusal(gang, gang[0], why, **changes) for gang in decision.start]


# --- off a drained node


def test_a_worker_on_a_drained_node_serves_until_its_successor_is_ready():
    model = unified("m")
    (old,) = workers_of(model)
    first = decide(model, [old])
    assert (slots(first), first.depart, first.drain) == (
        [[("unified", 0)]],
        {old.id: "node a is drained"},
        {},
    )

    gone = msgspec.structs.replace(old, departing=True)
    coming = on("b", a_worker(old.plan, Phase.STARTING))
    during = decide(model, [gone, coming])
    assert (during.start, during.depart, during.drain) == ((), {}, {})

    after = decide(model, [gone, on("b", old)])
    assert (after.start, after.drain) == ((), {old.id: "node a is drained"})


def test_what_is_not_ready_on_a_drained_node_is_stopped_at_once():
    model = unified("m")
    coming = a_worker(expand(model)[0][0], Phase.STARTING)

    decision = decide(model, [coming])

    assert (slots(decision), [*decision.drain]) == ([[("unified", 0)]], [coming.id])


@pytest.mark.parametrize("state", [NodeState.READY, NodeState.CORDONED])
def test_a_departing_worker_stays_when_its_node_is_drained_no_more(state):
    model = unified("m")
    old = workers_of(model, departing=True)[0]
    node = a_node("a", state=state)

    assert decide(model, [old], node).keep == (old.id,)
    coming = on("b", a_worker(old.plan, Phase.STARTING))
    halfway = decide(model, [old, coming], node, AWAY)
    assert (halfway.keep, [*halfway.drain], halfway.start) == ((old.id,), [coming.id], ())
    moved = decide(model, [old, on("b", old, departing=False)], node, AWAY)
    assert (moved.keep, [*moved.drain]) == ((), [old.id])


def test_of_a_silent_node_nobody_knows_whether_it_is_drained():
    model = unified("m")
    old = workers_of(model, departing=True)[0]

    decision = decide(model, [old], a_node("a", state=NodeState.UNKNOWN), AWAY)

    assert (decision.keep, decision.depart, decision.drain) == ((), {}, {})


def test_a_near_pair_moves_as_one_and_the_old_one_serves_until_both_are_ready():
    model = pair(Locality.NODE)
    old = workers_of(model, departing=True)
    assert slots(decide(model, old)) == [[("prefill", 0), ("decode", 0)]]

    ready = on("b", old[0], departing=False)
    coming = on("b", a_worker(old[1].plan, Phase.STARTING))
    assert decide(model, [*old, ready, coming]).drain == {}

    moved = [on("b", worker, departing=False) for worker in old]
    assert {*decide(model, [*old, *moved]).drain} == {worker.id for worker in old}


def test_a_near_pair_comes_back_as_one():
    model = pair(Locality.NODE)
    old = workers_of(model, departing=True)
    ready = on("b", old[0], departing=False)
    coming = on("b", a_worker(old[1].plan, Phase.STARTING))

    back = decide(model, [*old, ready, coming], BACK, AWAY)

    assert {*back.keep} == {worker.id for worker in old}
    assert {*back.drain} == {ready.id, coming.id}


def test_a_pair_that_may_be_apart_moves_singly():
    model = pair(Locality.PREFER)

    assert slots(decide(model, workers_of(model))) == [[("prefill", 0)], [("decode", 0)]]


def test_what_is_missing_of_a_living_gang_is_placed_singly_and_held_back_singly():
    model = disaggregated("pd", prefill=2, decode=2)
    prefill, first, decode, second = workers_of(model)
    failed = msgspec.structs.replace(first, id="f", phase=Phase.FAILED, ended_at=0.0, reason="boom")
    snapshot = a_snapshot(models=[model], workers=[prefill, decode], ended=[failed])

    decision = reconcile(snapshot, now=0.5)

    assert slots(decision) == [[second.plan.slot[2:]]]
    assert "prefill 1 of default starts again" in decision.waiting["pd"]


# --- where there is no room


@pytest.mark.parametrize(("least", "goes"), [(0, 2), (1, 1), (2, 0)])
def test_without_room_elsewhere_as_many_go_as_their_role_may_lack(least, goes):
    model = keeping(unified("m", workers=2), least)
    old = workers_of(model, departing=True, reason="node a is drained")
    snapshot = a_snapshot(models=[model], workers=old, nodes=(HOME, AWAY))

    room = make_room(snapshot, refused(snapshot, reconcile(snapshot, 0.0)))

    assert len(room.go) == goes
    assert set(room.go.values()) <= {"node a is drained"}
    if goes == 2:
        assert room.stay == {}
    else:
        text = condition(model, old, "", room.stay["m"])
        assert "on a must go and stays" in text
        assert "min_available" in text


def test_nobody_goes_beside_one_of_its_role_that_is_evicted_in_the_same_turn():
    model = keeping(unified("m", workers=2), 1)
    departing, other = workers_of(model)
    departing = msgspec.structs.replace(departing, departing=True, reason="node a is drained")
    snapshot = a_snapshot(models=[model], workers=[departing, on("b", other)], nodes=(HOME, AWAY))
    wanted = expand(unified("x"))[0][0]
    evicted = [Eviction(on("b", other).id, "m", wanted)]

    room = make_room(snapshot, refused(snapshot, reconcile(snapshot, 0.0)), evicted)

    assert (room.go, [*room.stay]) == ({}, ["m"])


def test_a_worker_whose_successor_has_a_place_coming_stays_till_then():
    model = unified("m")
    old = workers_of(model, departing=True)
    snapshot = a_snapshot(models=[model], workers=old, nodes=(HOME, AWAY))
    refusals = refused(snapshot, reconcile(snapshot, 0.0), waits_for=("somebody",))

    assert make_room(snapshot, refusals).go == {}


def test_a_refused_replacement_pushes_out_its_own_predecessor_only():
    old = workers_of(unified("m"))[0]
    other = workers_of(unified("other"))[0]
    model = unified("m", args={"seed": 1})
    snapshot = a_snapshot(models=[model], workers=[old, other])

    room = make_room(snapshot, refused(snapshot, reconcile(snapshot, 0.0)))

    assert room.go == {old.id: "makes room for its new revision"}


@pytest.mark.parametrize("reason", [Reason.LABELS_DIFFER, Reason.NODE_NOT_READY])
def test_a_replacement_that_no_room_would_help_pushes_nobody_out(reason):
    """What serves goes on, and the condition says why nothing changes."""
    old = workers_of(unified("m"))
    model = unified("m", args={"seed": 1})
    snapshot = a_snapshot(models=[model], workers=old, nodes=[BACK])

    room = make_room(snapshot, refused(snapshot, reconcile(snapshot, 0.0), reason))

    assert room.go == {}
    text = condition(model, old, "", room.stay["m"])
    assert "stays: its new revision fits nowhere" in text
    assert "needs more" in text


def test_a_refused_replacement_of_a_role_that_may_lack_nobody_pushes_nobody_out():
    old = workers_of(unified("m"))
    model = keeping(unified("m", args={"seed": 1}), 1)
    snapshot = a_snapshot(models=[model], workers=old)

    room = make_room(snapshot, refused(snapshot, reconcile(snapshot, 0.0)))

    assert (room.go, [*room.stay]) == ({}, ["m"])


# --- evicted


def test_it_has_to_be_quick_only_for_those_of_a_higher_priority():
    victim = workers_of(unified("m"), Phase.DRAINING)[0]
    plan = expand(unified("other"))[0][0]
    higher = msgspec.structs.replace(plan, priority=500)
    snapshot = a_snapshot(models=[unified("m")], workers=[victim])

    assert hurried(snapshot, [Refusal((higher,), higher, (), (victim.id, "gone"))]) == {
        victim.id: "other"
    }
    assert hurried(snapshot, [Refusal((plan,), plan, (), (victim.id,))]) == {}


def test_who_was_evicted_and_who_waits_say_so():
    model = unified("m")
    gone = a_worker(
        expand(model)[0][0], Phase.STOPPED, ended_at=1.0, reason="makes room for x (priority 500)"
    )
    plan = gone.plan
    snapshot = a_snapshot(models=[model], ended=[gone])

    refusal = Refusal((plan,), plan, (), ("w1",))

    told = why_refused(snapshot, [refusal])["m"]

    assert told == f"{refusal.sentence}; the last one went: makes room for x (priority 500)"
