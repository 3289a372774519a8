"""Who has to go for whom: lower priority only, never half a gang, no more than needed."""

import msgspec
import pytest
from fleets import (
    GIB,
    a_device,
    a_node,
    a_snapshot,
    a_worker,
    disaggregated,
    runtime_of,
    unified,
    with_spec,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.scheduler import place
from pipelines.topology import expand
from registry.spec import Role
from registry.state import Claim, Phase


def holding(model, *, where, phase=Phase.READY, **change):
    """Workers of *model* and their claims: *where* lists, for each in turn, its whole devices."""
    workers, claims = [], []
    plans = [plan for gang in expand(model) for plan in gang]
    for plan, devices in zip(plans, where, strict=True):
        node = devices[0].split("/")[0]
        worker = a_worker(plan, phase, node=node, **change)
        workers.append(worker)
        size = plan.memory_bytes or 4 * GIB
        claims += [Claim(worker_id=worker.id, device_id=d, memory_bytes=size) for d in devices]
    return workers, claims


def a_fleet(sizes, models, *held):
    """*sizes*: devices of 4 GiB each, by node."""
    return a_snapshot(
        models=models,
        nodes=[a_node(name) for name in sizes],
        devices=[a_device(name, i) for name, count in sizes.items() for i in range(count)],
        workers=[worker for workers, _ in held for worker in workers],
        claims=[claim for _, claims in held for claim in claims],
    )


def gangs_of(*models):
    return [gang for model in models for gang in expand(model)]


def of(name, priority, **more):
    return with_spec(unified(name, **more), priority=priority)


def evicted(proposal):
    return {one.worker_id for one in proposal.evicted}


@pytest.mark.parametrize(("priority", "goes"), [(99, True), (100, False), (101, False)])
def test_only_strictly_lower_priority_goes(priority, goes):
    low, high = of("low", priority), of("high", 100)
    snapshot = a_fleet({"a": 1}, [low, high], holding(low, where=[["a/cpu0"]]))

    proposal = place(snapshot, gangs_of(high), runtime_of)

    assert evicted(proposal) == ({"low-default-unified-0-ready"} if goes else set())
    assert len(proposal.refused) == 1
    assert ("waits for 1 worker to make room" in proposal.refused[0].sentence) is goes


def test_who_falls_asleep_makes_room_and_nobody_else_has_to_go():
    falls, serves, high = of("falls", 1), of("serves", 1), of("high", 100)
    snapshot = a_fleet(
        {"a": 2},
        [falls, serves, high],
        holding(falls, where=[["a/cpu0"]], phase=Phase.FALLING_ASLEEP),
        holding(serves, where=[["a/cpu1"]]),
    )

    proposal = place(snapshot, gangs_of(high), runtime_of)

    assert evicted(proposal) == set()
    assert proposal.refused[0].waits_for == ("falls-default-unified-0-falling-asleep",)


def test_what_leaves_and_what_falls_asleep_is_waited_for_by_equals_too():
    falls, other = of("falls", 100), of("other", 100)
    snapshot = a_fleet(
        {"a": 1},
        [falls, other],
        holding(falls, where=[["a/cpu0"]], phase=Phase.FALLING_ASLEEP),
    )

    assert place(snapshot, gangs_of(other), runtime_of).refused[0].waits_for


def test_the_priority_of_a_running_worker_is_its_models_spec():
    low, high = of("low", 50), of("high", 100)
    workers = holding(low, where=[["a/cpu0"]])
    snapshot = a_fleet({"a": 1}, [with_spec(low, priority=500), high], workers)

    assert not place(snapshot, gangs_of(high), runtime_of).evicted


def test_a_pair_goes_whole():
    low, high = with_spec(disaggregated("low"), priority=1), of("high", 100)
    snapshot = a_fleet({"a": 1, "b": 1}, [low, high], holding(low, where=[["a/cpu0"], ["b/cpu0"]]))

    proposal = place(snapshot, gangs_of(high), runtime_of)

    assert len(evicted(proposal)) == 2


def test_a_unified_worker_is_cheaper_than_a_pair():
    pair, one, high = with_spec(disaggregated("pair"), priority=1), of("one", 1), of("high", 100)
    snapshot = a_fleet(
        {"a": 2, "b": 1},
        [pair, one, high],
        holding(pair, where=[["a/cpu0"], ["a/cpu1"]]),
        holding(one, where=[["b/cpu0"]]),
    )

    assert evicted(place(snapshot, gangs_of(high), runtime_of)) == {"one-default-unified-0-ready"}


def test_nobody_goes_whose_place_another_victim_makes_up_for():
    """The pair, which has to go for the second worker, leaves room for the first one, too."""
    one, pair = of("one", 1), with_spec(disaggregated("pair"), priority=2)
    high = with_spec(disaggregated("high"), priority=100)
    snapshot = a_fleet(
        {"a": 1, "b": 1, "c": 1},
        [one, pair, high],
        holding(one, where=[["a/cpu0"]]),
        holding(pair, where=[["b/cpu0"], ["c/cpu0"]]),
    )

    proposal = place(snapshot, gangs_of(high), runtime_of)

    assert {eviction.model for eviction in proposal.evicted} == {"pair"}


def test_one_of_equal_priority_stays_beside_one_of_lower():
    low, equal, high = of("low", 1), of("equal", 100), of("high", 100, devices=2)
    snapshot = a_fleet(
        {"a": 2},
        [low, equal, high],
        holding(low, where=[["a/cpu0"]]),
        holding(equal, where=[["a/cpu1"]]),
    )

    assert not place(snapshot, gangs_of(high), runtime_of).evicted


def test_what_comes_up_goes_before_what_serves():
    first, second, high = of("first", 1), of("second", 1), of("high", 100)
    snapshot = a_fleet(
        {"a": 1, "b": 1},
        [first, second, high],
        holding(first, where=[["a/cpu0"]]),
        holding(second, where=[["b/cpu0"]], phase=Phase.STARTING),
    )

    assert evicted(place(snapshot, gangs_of(high), runtime_of)) == {
        "second-default-unified-0-starting"
    }


@pytest.mark.parametrize(("kept", "goes"), [(0, 2), (1, 1), (2, 0)])
def test_a_role_keeps_what_it_must_have(kept, goes):
    low = of("low", 1, workers=2)
    low = with_spec(low, topology={"min_available": kept})
    high = of("high", 100, workers=2)
    snapshot = a_fleet({"a": 2}, [low, high], holding(low, where=[["a/cpu0"], ["a/cpu1"]]))

    assert len(evicted(place(snapshot, gangs_of(high), runtime_of))) == goes


def test_who_must_stay_is_who_serves_not_who_comes_up():
    low = with_spec(unified("m", workers=2), topology={"min_available": 1}, priority=1)
    (serves, comes_up), claims = holding(low, where=[["a/cpu0"], ["b/cpu0"]])
    comes_up = msgspec.structs.replace(comes_up, phase=Phase.STARTING)
    high = of("high", 500, placement={"labels": {"wanted": "yes"}})
    fleet = a_fleet({"a": 1, "b": 1}, [low, high], ([serves, comes_up], claims))
    nodes = (a_node("a", labels={"wanted": "yes"}), a_node("b"))

    proposal = place(msgspec.structs.replace(fleet, nodes=nodes), gangs_of(high), runtime_of)

    assert not proposal.evicted


def test_a_pair_that_must_keep_some_never_goes():
    low = with_spec(disaggregated("low"), priority=1, topology={"prefill": {"min_available": 1}})
    high = of("high", 100)
    snapshot = a_fleet({"a": 2}, [low, high], holding(low, where=[["a/cpu0"], ["a/cpu1"]]))

    assert not place(snapshot, gangs_of(high), runtime_of).evicted


def test_nobody_goes_while_a_place_is_coming():
    leaver, low, high = of("leaver", 1000), of("low", 1), of("high", 100)
    snapshot = a_fleet(
        {"a": 1, "b": 1},
        [leaver, low, high],
        holding(leaver, where=[["a/cpu0"]], phase=Phase.DRAINING),
        holding(low, where=[["b/cpu0"]]),
    )

    proposal = place(snapshot, gangs_of(high), runtime_of)

    assert not proposal.evicted
    assert proposal.refused[0].waits_for == ("leaver-default-unified-0-draining",)


def test_a_place_that_is_coming_is_nobody_elses():
    leaver, high, low = of("leaver", 1), of("high", 100, devices=2), of("low", 10)
    snapshot = a_fleet(
        {"a": 2}, [leaver, high, low], holding(leaver, where=[["a/cpu0"]], phase=Phase.STOPPING)
    )

    proposal = place(snapshot, gangs_of(low, high), runtime_of)

    assert not proposal.placed
    assert [(r.plan.model, bool(r.waits_for)) for r in proposal.refused] == [
        ("high", True),
        ("low", False),
    ]


def test_a_departing_worker_serves_on_and_holds_its_devices():
    moving, high = of("moving", 1000), of("high", 100)
    snapshot = a_fleet(
        {"a": 1}, [moving, high], holding(moving, where=[["a/cpu0"]], departing=True)
    )

    refusal = place(snapshot, gangs_of(high), runtime_of).refused[0]

    assert not refusal.waits_for


def test_a_gang_that_must_be_on_one_node_empties_one():
    low = of("low", 1, workers=4)
    high = with_spec(disaggregated("high"), priority=100, topology={"locality": "node"})
    snapshot = a_fleet(
        {"a": 2, "b": 2},
        [low, high],
        holding(low, where=[["a/cpu0"], ["b/cpu0"], ["a/cpu1"], ["b/cpu1"]]),
    )

    proposal = place(snapshot, gangs_of(high), runtime_of)

    nodes = {w.node for w in snapshot.workers if w.id in evicted(proposal)}
    assert (len(evicted(proposal)), len(nodes)) == (2, 1)


running = st.lists(
    st.tuples(st.integers(0, 3), st.integers(1, 3), st.sampled_from([1, 50, 200]), st.booleans()),
    max_size=6,
)
wanted = st.lists(
    st.tuples(st.integers(1, 3), st.sampled_from([50, 200, 300]), st.booleans()),
    min_size=1,
    max_size=3,
)


@given(running, wanted, st.integers(0, 1))
@settings(max_examples=120, deadline=None)
def test_evictions_keep_every_rule(running, wanted, kept):
    names = "abcd"
    free = {name: [f"{name}/cpu{i}" for i in range(4)] for name in names}
    models, held = [], []
    for index, (node, devices, priority, pair) in enumerate(running):
        make = disaggregated if pair else unified
        model = with_spec(make(f"r{index}", devices=devices), priority=priority)
        if not pair:
            model = with_spec(model, topology={"min_available": kept})
        here = free[names[node]]
        count = 2 if pair else 1
        if len(here) >= devices * count:
            where = [[here.pop() for _ in range(devices)] for _ in range(count)]
            models.append(model)
            held.append(holding(model, where=where))
    new = [
        with_spec((disaggregated if pair else unified)(f"n{i}", devices=d), priority=p)
        for i, (d, p, pair) in enumerate(wanted)
    ]
    snapshot = a_fleet(dict.fromkeys(names, 4), [*models, *new], *held)

    proposal = place(snapshot, gangs_of(*new), runtime_of)

    priority = {model.name: model.spec.priority for model in [*models, *new]}
    gone = evicted(proposal)
    for one in proposal.evicted:
        assert priority[one.model] < one.plan.priority
    for model in models:
        mine = [worker for worker in snapshot.workers if worker.plan.model == model.name]
        going = [worker for worker in mine if worker.id in gone]
        if mine[0].plan.role is Role.UNIFIED:
            assert len(mine) - len(going) >= kept
        else:
            assert len(going) in {0, len(mine)}, "half a gang"
    waited = {name for refusal in proposal.refused for name in refusal.waits_for}
    assert gone <= waited
    assert not any(place(snapshot, [g], runtime_of).evicted for g in map(_gang, proposal.placed))


def _gang(planned):
    return tuple(worker.plan for worker in planned.workers)
