"""Moves are proposed that make holes larger, and none that break what is whole."""

import pytest
from fleets import GIB, a_device, a_node, a_snapshot, a_worker, disaggregated, runtime_of, unified

from pipelines.scheduler import defragment, place
from pipelines.topology import expand
from registry.state import Claim, Phase


def a_fleet(sizes, *held, phase=Phase.READY):
    """*held*: models and for each of their workers the device it holds, of 4 GiB each."""
    workers, claims = [], []
    for model, devices in held:
        plans = [plan for gang in expand(model) for plan in gang]
        for plan, device in zip(plans, devices, strict=True):
            worker = a_worker(plan, phase, node=device.split("/")[0])
            workers.append(worker)
            claims.append(Claim(worker_id=worker.id, device_id=device, memory_bytes=4 * GIB))
    return a_snapshot(
        models=[model for model, _ in held],
        nodes=[a_node(name) for name in sizes],
        devices=[a_device(name, i) for name, count in sizes.items() for i in range(count)],
        workers=workers,
        claims=claims,
    )


def moved(found):
    return [(move.node, move.to.node) for move in found.moves]


def test_the_emptier_of_two_broken_nodes_is_emptied_into_the_other():
    snapshot = a_fleet(
        {"a": 4, "b": 4, "c": 4}, (unified("m", workers=3), ["a/cpu0", "a/cpu1", "b/cpu0"])
    )

    found = defragment(snapshot, runtime_of)

    assert moved(found) == [("b", "a")]
    assert found.gains == ("b becomes empty: 4 devices in one piece",)


def test_nothing_moves_into_what_is_whole():
    snapshot = a_fleet({"a": 2, "b": 2}, (unified("m"), ["a/cpu0"]))

    assert not defragment(snapshot, runtime_of).moves


def test_a_gang_is_not_moved_apart():
    snapshot = a_fleet({"a": 4, "b": 4}, (disaggregated("pd"), ["a/cpu0", "b/cpu0"]))

    assert not defragment(snapshot, runtime_of).moves


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.DRAINING])
def test_only_workers_that_serve_move(phase):
    snapshot = a_fleet({"a": 2, "b": 2}, (unified("m", workers=2), ["a/cpu0", "b/cpu0"]))
    other = a_fleet({"a": 2, "b": 2}, (unified("m", workers=2), ["a/cpu0", "b/cpu0"]), phase=phase)

    assert defragment(snapshot, runtime_of).moves
    assert not defragment(other, runtime_of).moves


def test_moves_are_bounded():
    snapshot = a_fleet(
        {"a": 4, "b": 4}, (unified("m", workers=4), ["a/cpu0", "a/cpu1", "b/cpu0", "b/cpu1"])
    )

    assert not defragment(snapshot, runtime_of, moves_max=1).moves
    assert len(defragment(snapshot, runtime_of, moves_max=2).moves) == 2


def test_a_named_gang_finds_a_place_with_no_move_too_many():
    small = unified("m", workers=4)
    snapshot = a_fleet({"a": 2, "b": 2, "c": 3}, (small, ["a/cpu0", "b/cpu0", "c/cpu0", "c/cpu1"]))
    (gang,) = expand(unified("large", devices=2))
    assert place(snapshot, [gang], runtime_of).refused

    found = defragment(snapshot, runtime_of, wanted=gang)

    assert len(found.moves) == 1
    assert found.gains == ("large/default finds a place",)


def test_no_moves_are_proposed_that_do_not_help():
    snapshot = a_fleet({"a": 2, "b": 2}, (unified("m", workers=2), ["a/cpu0", "b/cpu0"]))
    (gang,) = expand(unified("large", devices=3))

    assert not defragment(snapshot, runtime_of, wanted=gang).moves
