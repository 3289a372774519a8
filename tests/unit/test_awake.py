"""Who wakes, who falls asleep and who leaves, by what is asked for and what fits."""

import msgspec
from awake_world import NOW, Pooled, asked, sleeping, waiting
from fleets import GIB, a_device, a_node, a_snapshot, disaggregated, unified, with_spec, workers_of

from pipelines.awake import Arrangement, arrange
from pipelines.awake.crowds import crowds
from registry.spec import RolloutPolicy
from registry.state import Claim, NodeState, Phase, Rollout, RolloutState

NOTHING = Arrangement(wake={}, sleep={}, leave={})
replace = msgspec.structs.replace


def idle_model(name="m", *, after_s=60.0, **more):
    return with_spec(unified(name, **more), idle={"after_s": after_s})


def a_rollout(model, **more):
    values = {
        "model": model.name,
        "from_revision": 1,
        "to_revision": 2,
        "base": model.spec,
        "policy": RolloutPolicy(),
        "state": RolloutState.PROGRESSING,
        "step": 0,
        "percent": 0,
        "step_at": NOW,
        "reason": "",
        "created_at": NOW - 5,
        "ended_at": None,
    }
    return Rollout(**{**values, **more})


# --- idle


def test_a_model_that_nobody_asks_for_falls_asleep_whole():
    model = idle_model(workers=2)
    workers = workers_of(model)

    told = arrange(a_snapshot(models=[model], workers=workers), NOW)

    assert told.sleep == {w.id: "not asked for 60 s (idle.after_s)" for w in workers}
    assert told.wake == told.leave == {}


def test_a_model_stays_awake_as_long_as_it_is_asked_for_by_anybody():
    model = idle_model()
    snapshot = a_snapshot(models=[model], workers=workers_of(model))
    for demand in (
        [asked("m", NOW - 500), asked("m", NOW - 59, gateway="b")],
        [asked("m", NOW - 500, in_flight=1)],
        [waiting("m", NOW - 500, queued=1)],
    ):
        assert arrange(replace(snapshot, demand=tuple(demand)), NOW) == NOTHING


def test_what_a_gateway_said_long_ago_counts_for_when_it_was_asked_alone():
    model = idle_model()
    snapshot = a_snapshot(models=[model], workers=workers_of(model))
    old = asked("m", NOW - 500, in_flight=3, at=NOW - 16)

    assert arrange(replace(snapshot, demand=(old,)), NOW).sleep
    assert not arrange(replace(snapshot, demand=(replace(old, asked_at=NOW - 59),)), NOW).sleep


def test_who_is_seen_at_work_is_not_idle_whatever_gateways_tell():
    """They may be cut off from the registry, or be left out: tuning asks a worker itself."""
    (worker,) = workers = workers_of(idle_model())
    snapshot = a_snapshot(models=[idle_model()], workers=workers, demand=[asked("m", NOW - 500)])

    assert arrange(snapshot, NOW, {worker.id: NOW - 59}) == NOTHING
    assert arrange(snapshot, NOW, {worker.id: NOW - 60}).sleep.keys() == {worker.id}


def test_who_has_just_become_ready_is_not_idle_yet():
    model = idle_model()
    workers = workers_of(model, ready_at=NOW - 59)

    snapshot = a_snapshot(models=[model], workers=workers, demand=[asked("m", NOW - 500)])

    assert arrange(snapshot, NOW) == NOTHING
    assert arrange(snapshot, NOW + 1).sleep


def test_nobody_falls_asleep_without_an_idle_rule_or_in_a_rollout_or_on_the_way_out():
    for model, change in (
        (unified("m"), {}),
        (replace(idle_model(), rollout=a_rollout(idle_model())), {}),
        (replace(idle_model(), deleted=True), {}),
        (idle_model(), {"departing": True}),
        (idle_model(), {"phase": Phase.DRAINING}),
        (idle_model(), {"phase": Phase.STARTING}),
    ):
        workers = [replace(worker, **change) for worker in workers_of(unified("m"))]
        assert arrange(a_snapshot(models=[model], workers=workers), NOW) == NOTHING


# --- demand


def test_who_is_asked_for_wakes_where_there_is_room():
    model = idle_model()
    snapshot, (worker,) = sleeping(model, demand=[waiting("m", NOW - 1, queued=2)])

    assert arrange(snapshot, NOW).wake == {worker.id: "2 requests wait"}

    full = with_claims_of_others(snapshot, 61 * GIB)
    assert arrange(full, NOW) == NOTHING, "4 GiB are wanted, 3 GiB are free"


def test_who_is_not_asked_for_sleeps_on():
    model = idle_model()
    snapshot, _ = sleeping(model, demand=[asked("m", NOW - 1), waiting("m", NOW - 20, at=NOW - 20)])

    assert arrange(snapshot, NOW) == NOTHING


def test_a_pair_wakes_whole_or_not_at_all():
    model = with_spec(disaggregated("pd", decode=2), idle={"after_s": 60})
    snapshot, workers = sleeping(model, demand=[waiting("pd", NOW - 1)])

    assert arrange(snapshot, NOW).wake.keys() == {worker.id for worker in workers}
    assert arrange(with_claims_of_others(snapshot, 53 * GIB), NOW) == NOTHING


def test_a_pair_of_which_a_half_still_falls_asleep_does_not_wake_yet():
    model = with_spec(disaggregated("pd"), idle={"after_s": 60})
    snapshot, (one, other) = sleeping(model, demand=[waiting("pd", NOW - 1)])
    falling = replace(one, phase=Phase.FALLING_ASLEEP)

    assert arrange(replace(snapshot, workers=(falling, other)), NOW) == NOTHING


def test_what_is_left_awake_of_a_gang_that_sleeps_falls_asleep_too():
    model = with_spec(disaggregated("pd"), idle={"after_s": 60})
    snapshot, (one, other) = sleeping(model, demand=[asked("pd", NOW - 1)])
    awake = replace(one, phase=Phase.READY, ready_at=NOW - 1)

    told = arrange(replace(snapshot, workers=(awake, other)), NOW)

    assert told.sleep == {one.id: "the rest of its gang sleeps"}


def test_who_was_sent_to_sleep_by_hand_sleeps_until_it_is_asked_for():
    snapshot, (worker,) = sleeping(unified("m"))

    assert arrange(snapshot, NOW) == NOTHING
    snapshot = replace(snapshot, demand=(waiting("m", NOW - 1),))
    assert arrange(snapshot, NOW).wake.keys() == {worker.id}


def test_more_of_a_model_wake_only_where_it_costs_nobody_anything():
    model = with_spec(unified("m", workers=2), pool="tail")
    snapshot, (one, other) = sleeping(model, demand=[waiting("m", NOW - 1)], memory_gib=8)
    up = replace(snapshot, workers=(replace(one, phase=Phase.READY), other))

    assert arrange(snapshot, NOW).wake.keys() == {one.id, other.id}
    assert arrange(with_claims_of_others(up, 4 * GIB), NOW).wake.keys() == {other.id}
    assert arrange(with_claims_of_others(up, 5 * GIB), NOW) == NOTHING


def test_a_new_revision_that_sleeps_wakes_to_be_rolled_out():
    model = replace(idle_model(revision=2), rollout=a_rollout(idle_model()))
    snapshot, (worker,) = sleeping(model)

    assert arrange(snapshot, NOW).wake == {worker.id: "revision 2 is rolled out"}


def test_who_cannot_wake_where_it_lies_leaves_after_a_while():
    snapshot, (worker,) = sleeping(idle_model(), demand=[waiting("m", NOW - 9)])
    full = with_claims_of_others(snapshot, 61 * GIB)

    assert arrange(full, NOW) == NOTHING
    assert arrange(full, NOW + 2).leave == {
        worker.id: "could not wake: others have taken its place"
    }


def with_claims_of_others(snapshot, size):
    claim = Claim(worker_id="other", device_id="a/cpu0", memory_bytes=size)
    return replace(snapshot, claims=(*snapshot.claims, claim))


def test_who_has_only_just_been_placed_where_it_cannot_wake_stays_for_a_while():
    snapshot, (worker,) = sleeping(idle_model(), demand=[waiting("m", NOW - 20)])
    lately = replace(worker, created_at=NOW - 9)
    full = with_claims_of_others(replace(snapshot, workers=(lately,)), 61 * GIB)

    assert arrange(full, NOW) == NOTHING, "else it would go and come with every turn"
    assert arrange(full, NOW + 2).leave


def test_who_sleeps_on_a_node_that_does_not_answer_leaves_and_is_not_woken_in_vain():
    snapshot, (worker,) = sleeping(idle_model(), demand=[waiting("m", NOW - 9)])
    silent = replace(snapshot, nodes=(a_node("a", state=NodeState.UNKNOWN),))

    assert arrange(silent, NOW) == NOTHING
    assert arrange(silent, NOW + 2).leave == {worker.id: "could not wake: node a is unknown"}


def test_who_had_a_whole_device_that_is_gone_leaves():
    model = idle_model(memory="")
    snapshot, (worker,) = sleeping(model, memory_gib=0, demand=[waiting("m", NOW - 11)])

    assert arrange(snapshot, NOW).leave.keys() == {worker.id}


# --- pools


def test_one_of_a_pool_wakes_beside_the_others_while_there_is_room():
    pool = Pooled(memory_gib=8).awake("a").asleep("b").asks("b", NOW - 1)

    assert arrange(pool.snapshot(), NOW) == replace(NOTHING, wake={"b": "1 request waits"})


def test_who_is_idle_makes_room_at_once_and_the_longest_idle_first():
    pool = Pooled(memory_gib=8).awake("a", "b").asleep("c").asks("c", NOW - 1)
    pool.asked("a", NOW - 30).asked("b", NOW - 40)

    assert arrange(pool.snapshot(), NOW).sleep == {"b": "makes room for c (pool tail)"}


def test_who_is_busy_makes_room_only_once_time_runs_out():
    pool = Pooled(memory_gib=4).awake("a").asleep("b").busy("a")
    pool.asks("b", NOW - 2)
    assert arrange(pool.snapshot(), NOW) == NOTHING

    pool.asks("b", NOW - 2.5)  # a quarter of the 10 s that count where nothing is promised
    assert arrange(pool.snapshot(), NOW).sleep == {"a": "makes room for b (pool tail)"}


def test_nobody_makes_room_before_it_was_awake_for_as_long_as_its_pool_says():
    pool = Pooled(memory_gib=4, awake_min_s=30).awake("a", since=NOW - 29).asleep("b")
    pool.asks("b", NOW - 5)

    assert arrange(pool.snapshot(), NOW) == NOTHING
    assert arrange(pool.snapshot(), NOW + 1).sleep.keys() == {"a"}


def test_who_falls_asleep_still_holds_its_place_and_frees_it_for_one_alone():
    pool = Pooled(memory_gib=8).awake("a").falling("b").asleep("c", "d")
    pool.asks("c", NOW - 2).asks("d", NOW - 1).busy("a")

    assert arrange(pool.snapshot(), NOW) == NOTHING, "c waits for b, and d's time has not come"

    pool.asks("d", NOW - 9, ttft_s=40).asks("c", NOW - 10)
    assert arrange(pool.snapshot(), NOW) == NOTHING, "d was promised less"
    pool.asks("d", NOW - 11, ttft_s=40)
    assert arrange(pool.snapshot(), NOW).sleep.keys() == {"a"}


def test_a_place_that_is_freed_is_not_taken_by_who_comes_later():
    pool = Pooled(memory_gib=8).asleep("big", gib=8).asleep("small").awake("b").busy("b")
    pool.asks("big", NOW - 2).asks("small", NOW - 1)

    assert arrange(pool.snapshot(), NOW) == NOTHING, "4 GiB are free, and big waits for b's too"
    pool.asked("big", NOW - 2)
    assert arrange(pool.snapshot(), NOW).wake.keys() == {"small"}


def test_who_only_waits_for_its_turn_does_not_leave():
    pool = Pooled(memory_gib=4).awake("a", since=NOW - 1).asleep("b", "c")
    pool.asks("b", NOW - 20).asks("c", NOW - 15)

    assert arrange(pool.snapshot(), NOW) == NOTHING


def test_only_as_many_make_room_as_are_needed():
    pool = Pooled(memory_gib=16).awake("a", "b", gib=2).awake("c", gib=10).asleep("d", gib=8)
    pool.asks("d", NOW - 1).asked("a", NOW - 50).asked("b", NOW - 45).asked("c", NOW - 40)

    assert arrange(pool.snapshot(), NOW).sleep.keys() == {"c"}


def test_nobody_of_another_pool_and_none_that_is_never_taken_makes_room():
    pool = Pooled(memory_gib=4).awake("a", pool="other").asleep("b").asks("b", NOW - 5)
    assert arrange(pool.snapshot(), NOW) == NOTHING

    kept = Pooled(memory_gib=4).awake("a", min_available=1).asleep("b").asks("b", NOW - 5)
    assert arrange(kept.snapshot(), NOW) == NOTHING
    assert arrange(kept.snapshot(), NOW + 6).leave.keys() == {"b"}, "a never goes"


def test_whom_its_spec_keeps_available_is_passed_over_for_another():
    pool = Pooled(memory_gib=8).awake("a", min_available=1).awake("c").asleep("b")
    pool.asked("a", NOW - 90).asked("c", NOW - 50).asks("b", NOW - 1)

    assert arrange(pool.snapshot(), NOW).sleep.keys() == {"c"}


def test_a_promise_that_is_due_earlier_is_kept_first():
    pool = Pooled(memory_gib=4).asleep("a", "b")
    pool.asks("a", NOW - 3, ttft_s=20).asks("b", NOW - 1, ttft_s=5)

    assert arrange(pool.snapshot(), NOW).wake.keys() == {"b"}


def test_memory_that_sleepers_keep_is_not_free():
    pool = Pooled(memory_gib=8).asleep("a", gib=6, held_gib=1).asleep("b", gib=2, held_gib=2)
    pool.asks("a", NOW - 1)
    assert arrange(pool.snapshot(), NOW).wake.keys() == {"a"}

    pool = Pooled(memory_gib=8).asleep("a", gib=7, held_gib=1).asleep("b", gib=2, held_gib=2)
    pool.asks("a", NOW - 1)
    assert arrange(pool.snapshot(), NOW) == NOTHING


def test_a_device_in_quarantine_wakes_nobody():
    pool = Pooled(memory_gib=8).asleep("a").asks("a", NOW - 1)
    snapshot = pool.snapshot()
    ill = replace(snapshot, devices=(replace(snapshot.devices[0], quarantine="burns"),))

    assert arrange(ill, NOW) == NOTHING
    assert arrange(ill, NOW + 10).leave.keys() == {"a"}


def test_who_wants_a_whole_device_wakes_when_all_of_it_is_free():
    model = with_spec(unified("m", memory=""), pool="tail")
    (worker,) = workers_of(model, Phase.ASLEEP)
    claim = Claim(worker_id=worker.id, device_id="a/cpu0", memory_bytes=0)
    snapshot = a_snapshot(
        models=[model],
        nodes=[a_node("a")],
        devices=[a_device("a", 0)],
        workers=[worker],
        claims=[claim],
        demand=[waiting("m", NOW - 1)],
    )

    assert arrange(snapshot, NOW).wake.keys() == {worker.id}
    taken = Claim(worker_id="other", device_id="a/cpu0", memory_bytes=1)
    assert arrange(replace(snapshot, claims=(claim, taken)), NOW).wake == {}


def crowded(*, calm=True, created_at=1.0, b_queued=1):
    """b waits beside a, which is busy; on another device c sleeps, or is asked for, too."""
    pool = Pooled(memory_gib=4).awake("a").asleep("b").busy("a", 3)
    pool.asks("b", NOW - 5, queued=b_queued).awake("c")
    pool.asked("c", NOW - (60 if calm else 10))
    snapshot = pool.snapshot()
    (claim,) = (claim for claim in snapshot.claims if claim.worker_id == "c")
    moved = replace(claim, device_id="a/cpu1")
    return replace(
        snapshot,
        devices=(*snapshot.devices, a_device("a", 1)),
        claims=(*(one for one in snapshot.claims if one is not claim), moved),
        workers=tuple(replace(worker, created_at=created_at) for worker in snapshot.workers),
    )


def test_before_busy_ones_sleep_for_it_it_goes_where_it_is_calmer():
    told = arrange(crowded(), NOW)

    reason = "goes where it is calmer: those it shares its device with are busy"
    assert told == Arrangement(wake={}, sleep={}, leave={"b": reason})


def test_who_was_placed_lately_or_is_asked_for_more_or_finds_nothing_calmer_stays():
    for snapshot in (crowded(created_at=NOW - 59), crowded(b_queued=4), crowded(calm=False)):
        told = arrange(snapshot, NOW)
        assert told.leave == {}
        assert told.sleep == {"a": "makes room for b (pool tail)"}


def test_its_own_device_is_no_calmer_place():
    pool = Pooled(memory_gib=8).awake("a").awake("d", since=NOW - 1).asleep("b").busy("a", 3)
    pool.asked("d", NOW - 60).asks("b", NOW - 5)

    told = arrange(pool.snapshot(), NOW)

    assert (told.leave, told.sleep.keys()) == ({}, {"a"})


# --- as people see it


def test_a_pool_is_told_by_device_and_by_model():
    pool = Pooled(memory_gib=16).awake("a", gib=8).asleep("b", gib=12, held_gib=1)
    pool.awake("x", gib=2, pool="other").asks("b", NOW - 1, queued=3).busy("a")

    (other, tail) = crowds(pool.snapshot(), NOW)

    assert [(m.model, m.awake, m.asleep, m.queued, m.in_flight) for m in tail.members] == [
        ("a", 1, 0, 0, 1),
        ("b", 0, 1, 3, 0),
    ]
    (device,) = tail.devices
    assert (device.awake, device.asleep) == (("a",), ("b",))
    sizes = (device.claimed_bytes, device.all_awake_bytes, device.others_bytes)
    assert [size // GIB for size in sizes] == [9, 20, 2]
    assert (tail.is_set, other.is_set, other.pool.name) == (True, False, "other")
