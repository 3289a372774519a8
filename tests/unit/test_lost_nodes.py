"""A node is given up for its own silence only, and comes back clean."""

from fleets import a_node, a_snapshot, unified, workers_of

from pipelines.cluster.base import Observation, Sighting
from pipelines.lost_nodes import LOOK_S_MAX, NodeWatch, may_report, surplus
from registry.state import NodeState, Phase


def looks(watch, seconds, answered=frozenset("b"), *, begin=0, step=1):
    for now in range(begin, begin + seconds + 1, step):
        watch.look("ab", answered, float(now))


def test_a_silent_node_is_unknown_first_and_lost_later():
    watch = NodeWatch(30)
    looks(watch, 9)
    assert (watch.unknown(), watch.lost()) == ({}, {})
    looks(watch, 19, begin=10)
    assert ([*watch.unknown()], watch.lost()) == (["a"], {})
    looks(watch, 0, begin=30)
    assert watch.lost() == {"a": 30.0}
    watch.look("ab", frozenset("ab"), 31.0)
    assert watch.unknown() == {}


def test_a_cluster_that_is_away_says_nothing_of_its_nodes():
    watch = NodeWatch(30)
    looks(watch, 29)
    watch.nobody_answers()
    looks(watch, 9, begin=100)
    assert watch.unknown() == {}


def test_a_controller_that_slept_counts_no_silence_for_it():
    watch = NodeWatch(30)
    watch.look("ab", frozenset("ab"), 0.0)
    watch.look("ab", frozenset("b"), 1.0)
    watch.look("ab", frozenset("b"), 1000.0)
    assert watch.unknown() == {}
    watch.look("ab", frozenset("b"), 2000.0)
    assert watch.unknown() == {"a": 2 * LOOK_S_MAX}


def seen(worker_id, node, phase=Phase.STARTING):
    return Observation(worker_id=worker_id, node=node, phase=phase, reason="", url="")


def test_surplus_is_what_lives_where_the_registry_does_not_say_so():
    (worker,) = workers_of(unified("m"))
    sighting = Sighting(
        nodes=frozenset("ab"),
        workers=(
            seen(worker.id, "a"),
            seen(worker.id, "b"),
            seen("stray", "b"),
            seen("ended", "a", Phase.FAILED),
        ),
    )
    assert surplus(sighting, [worker]) == {"b": {worker.id, "stray"}}


def test_a_node_is_taken_back_only_once_it_was_seen_clean():
    snapshot = a_snapshot(nodes=[a_node("a", state=NodeState.UNKNOWN), a_node("b")])
    sighting = Sighting(nodes=frozenset("ac"), workers=())
    assert may_report("a", snapshot, sighting, {})
    assert not may_report("a", snapshot, sighting, {"a": {"stray"}})
    assert not may_report("c", snapshot, sighting, {"c": {"stray"}})  # it joins
    assert may_report("b", snapshot, sighting, {"b": {"stray"}})  # it never was away
    assert not may_report("d", snapshot, sighting, {})  # it was not seen
