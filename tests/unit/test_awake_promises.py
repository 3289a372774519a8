"""Room that was made for a model that waits to wake is its own, whoever else wants a place."""

import msgspec
from awake_world import NOW, Pooled
from fleets import GIB, a_device, a_node, runtime_of, unified, with_spec

from pipelines.awake.arrange import promises
from pipelines.awake.places import place_awake_or_asleep
from pipelines.topology import expand
from registry.state import Claim, Phase

replace = msgspec.structs.replace


def crowded():
    """Of 8 GiB a serves with 4, b has made room for c, and c has yet to wake."""
    return Pooled(memory_gib=8).awake("a").asleep("b").asleep("c").asks("c", NOW - 5)


def proposed(snapshot, new):
    """What the controller would be proposed for a new model of no pool."""
    fleet = replace(snapshot, models=(*snapshot.models, new))
    return place_awake_or_asleep(fleet, expand(new), runtime_of, NOW)


def is_placed(snapshot, *, gib=4, priority=100):
    new = with_spec(unified("new", memory=f"{gib}GiB"), priority=priority)
    return bool(proposed(snapshot, new).placed)


def test_room_goes_to_the_waiter_and_not_to_who_was_refused_before():
    assert not is_placed(crowded().snapshot())
    assert is_placed(crowded().asked("c", NOW).snapshot()), "nobody waits for it any more"


def test_who_has_a_higher_priority_than_the_waiter_gets_it():
    assert is_placed(crowded().snapshot(), priority=101)


def test_what_the_waiter_needs_not_is_free_for_all():
    roomy = Pooled(memory_gib=10).awake("a").asleep("c").asks("c", NOW - 5).snapshot()
    assert is_placed(roomy, gib=2)
    assert not is_placed(roomy, gib=3)


def test_a_place_on_another_device_is_free_for_all():
    snapshot = crowded().snapshot()
    devices = (*snapshot.devices, a_device("a", 1, memory_bytes=4 * GIB))
    (gang,) = proposed(replace(snapshot, devices=devices), unified("new", memory="4GiB")).placed
    assert [claim.device_id for claim in gang.workers[0].claims] == ["a/cpu1"]


def test_no_more_is_kept_than_was_made_room_for():
    """What is left by who ends is for those whom it ends for."""
    pool = Pooled(memory_gib=8).awake("a", "b").asleep("c").asks("c", NOW - 5)
    assert promises(pool.snapshot(), NOW)[0].bytes_by_device == {"a/cpu0": 0}

    ending = Pooled(memory_gib=8).awake("a").awake("b").asleep("c").asks("c", NOW - 5).snapshot()
    workers = [replace(w, phase=Phase.DRAINING) if w.id == "b" else w for w in ending.workers]
    assert promises(replace(ending, workers=tuple(workers)), NOW)[0].bytes_by_device == {
        "a/cpu0": 0
    }

    falling = Pooled(memory_gib=8).awake("a").falling("b").asleep("c", "d")
    kept = promises(falling.asks("c", NOW - 5).asks("d", NOW - 4).snapshot(), NOW)
    assert [dict(one.bytes_by_device) for one in kept] == [{"a/cpu0": 4 * GIB}, {"a/cpu0": 0}]


def test_who_cannot_wake_where_it_lies_keeps_nothing():
    snapshot = crowded().snapshot()
    other = with_spec(unified("other", memory="6GiB"), pool="another")
    claims = (*snapshot.claims, Claim(worker_id="x", device_id="a/cpu0", memory_bytes=6 * GIB))
    full = replace(snapshot, models=(*snapshot.models, other), claims=claims, nodes=(a_node("a"),))
    assert promises(full, NOW) == ()


def test_who_is_refused_does_not_wait_for_room_that_falls_to_the_waiter():
    pool = Pooled(memory_gib=8).awake("a").falling("b").asleep("c")
    new = unified("new", memory="4GiB")

    (refusal,) = proposed(pool.asks("c", NOW - 5).snapshot(), new).refused
    assert refusal.waits_for == ()

    (refusal,) = proposed(pool.asked("c", NOW).snapshot(), new).refused
    assert refusal.waits_for == ("b",)
