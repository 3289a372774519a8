"""Places asleep for models of a pool: within its overcommit, never where they could not wake."""

from collections import Counter

import msgspec
from fleets import GIB, a_device, a_node, a_snapshot, disaggregated, runtime_of, unified, with_spec
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.awake.places import place_awake_or_asleep
from pipelines.plan import plan
from pipelines.topology import expand
from registry.state import Claim, Phase, Pool, Worker
from registry.traffic import Demand

NOW = 100.0
replace = msgspec.structs.replace


def pooled(name, *, memory="4GiB", pool="tail", **more):
    return with_spec(unified(name, memory=memory, **more), pool=pool)


def a_fleet(models, *, devices=1, memory_gib=8, overcommit=2.0, **more):
    return a_snapshot(
        models=models,
        nodes=[a_node("a")],
        devices=[a_device("a", i, memory_bytes=memory_gib * GIB) for i in range(devices)],
        pools=[Pool(name="tail", overcommit=overcommit)],
        **more,
    )


def placed(snapshot):
    """(by model whether it was placed asleep, whom there was no place for)"""
    gangs = [gang for model in snapshot.models for gang in expand(model)]
    proposal = place_awake_or_asleep(snapshot, gangs, runtime_of, NOW)
    return (
        {gang.workers[0].plan.model: gang.asleep for gang in proposal.placed},
        [refusal.plan.model for refusal in proposal.refused],
    )


def a_sleeper(model, device="a/cpu0", *, held_gib=0, phase=Phase.ASLEEP):
    ((gang),) = expand(model)
    worker = Worker(
        id=model.name,
        plan=gang[0],
        node="a",
        runtime="builtin",
        phase=phase,
        reason="",
        url="",
        token="",
        created_at=0.0,
        ready_at=None,
        ended_at=None,
    )
    return worker, Claim(worker_id=worker.id, device_id=device, memory_bytes=held_gib * GIB)


def test_who_finds_no_room_awake_is_placed_asleep_up_to_the_overcommit():
    models = [pooled(f"m{n}") for n in range(5)]

    seats, refused = placed(a_fleet(models))

    assert list(seats.values()) == [False, False, True, True], "2 x 8 GiB hold 4 of 4 GiB"
    assert len(refused) == 1
    assert list(placed(a_fleet(models, overcommit=2.5))[0].values()).count(True) == 3


def test_nobody_is_placed_asleep_where_who_is_never_taken_away_leaves_no_room():
    kept = with_spec(pooled("a", memory="8GiB"), topology={"min_available": 1})
    worker, _ = a_sleeper(kept, phase=Phase.READY)
    claim = Claim(worker_id=worker.id, device_id="a/cpu0", memory_bytes=8 * GIB)
    new = pooled("b")

    fleet = a_fleet([kept, new], workers=[worker], claims=[claim])
    proposal = place_awake_or_asleep(fleet, expand(new), runtime_of, NOW)
    assert (proposal.placed, len(proposal.refused)) == ((), 1)

    both = a_fleet([kept, new])
    proposal = place_awake_or_asleep(both, [*expand(kept), *expand(new)], runtime_of, NOW)
    assert len(proposal.placed) == len(proposal.refused) == 1, "nor beside one placed just now"


def test_a_sleeper_claims_nothing():
    gangs = [gang for model in (pooled("a"), pooled("b")) for gang in expand(model)]

    proposal = place_awake_or_asleep(
        a_fleet([pooled("a"), pooled("b")], memory_gib=4), gangs, runtime_of, NOW
    )

    claims = [gang.workers[0].claims[0].memory_bytes for gang in proposal.placed]
    assert claims == [4 * GIB, 0]


def test_who_is_of_no_pool_is_refused_as_ever():
    assert placed(a_fleet([unified("a"), unified("b")], memory_gib=4)) == ({"a": False}, ["b"])


def test_nobody_is_placed_where_it_could_not_wake():
    big = pooled("big", memory="6GiB")
    other = unified("other", memory="3GiB")
    held, claim = a_sleeper(other, held_gib=3, phase=Phase.READY)
    snapshot = a_fleet([big, other], workers=[held], claims=[claim], overcommit=10.0)

    gangs = list(expand(big))
    assert place_awake_or_asleep(snapshot, gangs, runtime_of, NOW).placed == ()

    sleeper, kept = a_sleeper(pooled("s", memory="2GiB"), held_gib=1)
    snapshot = a_fleet(
        [big, pooled("s", memory="2GiB")], workers=[sleeper], claims=[kept], memory_gib=6
    )
    assert place_awake_or_asleep(snapshot, gangs, runtime_of, NOW).placed == (), "s keeps a part"


def test_sleepers_block_nobody_of_no_pool():
    sleepers = [a_sleeper(pooled(f"s{n}")) for n in range(4)]
    new = unified("new", memory="8GiB")
    snapshot = a_fleet(
        [pooled(f"s{n}") for n in range(4)] + [new],
        workers=[worker for worker, _ in sleepers],
        claims=[claim for _, claim in sleepers],
    )

    (gang,) = place_awake_or_asleep(snapshot, expand(new), runtime_of, NOW).placed
    assert not gang.asleep


def devices_of(proposal):
    return [gang.workers[0].claims[0].device_id for gang in proposal.placed]


def test_sleepers_go_where_the_fewest_would_be_awake():
    awake = [a_sleeper(pooled(f"w{n}", memory="8GiB"), f"a/cpu{n}", held_gib=8) for n in range(2)]
    models = [pooled("w0", memory="8GiB"), pooled("w1", memory="8GiB")]
    new = [pooled("x"), pooled("y")]
    snapshot = a_fleet(
        models + new,
        devices=2,
        overcommit=4.0,
        workers=[replace(worker, phase=Phase.READY) for worker, _ in awake],
        claims=[claim for _, claim in awake],
    )

    gangs = [gang for model in new for gang in expand(model)]

    proposal = place_awake_or_asleep(snapshot, gangs, runtime_of, NOW)

    assert sorted(devices_of(proposal)) == ["a/cpu0", "a/cpu1"]


def test_sleepers_go_where_nobody_is_asked_for():
    awake = [a_sleeper(pooled(f"w{n}", memory="8GiB"), f"a/cpu{n}", held_gib=8) for n in range(2)]
    new = pooled("x")
    demand = [Demand(at=NOW, gateway="g", model="w0", in_flight=1, asked_at=99.0)]
    snapshot = a_fleet(
        [pooled("w0", memory="8GiB"), pooled("w1", memory="8GiB"), new],
        devices=2,
        overcommit=4.0,
        workers=[replace(worker, phase=Phase.READY) for worker, _ in awake],
        claims=[claim for _, claim in awake],
        demand=demand,
    )

    assert devices_of(place_awake_or_asleep(snapshot, expand(new), runtime_of, NOW)) == ["a/cpu1"]
    other = replace(snapshot, demand=(replace(demand[0], model="w1"),))
    assert devices_of(place_awake_or_asleep(other, expand(new), runtime_of, NOW)) == ["a/cpu0"]


def test_a_successor_is_not_placed_asleep_beside_who_serves():
    model = pooled("m", memory="8GiB")
    worker, claim = a_sleeper(pooled("m", memory="7GiB"), held_gib=7, phase=Phase.READY)
    snapshot = a_fleet([model], workers=[worker], claims=[claim])

    assert place_awake_or_asleep(snapshot, expand(model), runtime_of, NOW).placed == ()


def test_a_pair_is_placed_asleep_where_both_can_be_awake():
    pair = with_spec(disaggregated("pd", memory="4GiB"), pool="tail")
    a, b = pooled("a"), pooled("b")

    assert placed(a_fleet([a, b, pair]))[0] in (
        {"pd": False, "a": True, "b": True},
        {"a": False, "b": False, "pd": True},
    )
    small = a_fleet([pair], memory_gib=6, overcommit=8.0)
    assert placed(small) == ({}, ["pd"]), "twice 4 GiB never fit into 6"


def test_a_plan_tells_who_would_be_placed_asleep():
    models = [pooled(f"m{n}") for n in range(4)]

    told = plan(a_fleet(models), (), NOW, runtime_of)

    assert sorted(start.asleep for start in told.starts) == [False, False, True, True]
    assert told.is_complete


@settings(max_examples=150, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=14),
    devices=st.integers(1, 3),
    overcommit=st.sampled_from((1.0, 1.5, 3.0)),
    others=st.integers(0, 6),
)
def test_awake_never_oversells_and_asleep_keeps_the_overcommit(sizes, devices, overcommit, others):
    models = [
        pooled(f"m{n}", memory=f"{size}GiB", pool="tail" if n % 4 else "")
        for n, size in enumerate(sizes)
    ]
    stranger, claim = a_sleeper(unified("x", memory="6GiB"), held_gib=others, phase=Phase.READY)
    snapshot = a_fleet(
        models, devices=devices, overcommit=overcommit, workers=[stranger], claims=[claim]
    )
    gangs = [gang for model in models for gang in expand(model)]

    proposal = place_awake_or_asleep(snapshot, gangs, runtime_of, NOW)

    claimed, pool_awake, not_pool = Counter(), Counter(), Counter({"a/cpu0": others * GIB})
    for gang in proposal.placed:
        for worker in gang.workers:
            (taken,) = worker.claims
            claimed[taken.device_id] += taken.memory_bytes
            is_pooled = int(worker.plan.model[1:]) % 4 != 0
            (pool_awake if is_pooled else not_pool)[taken.device_id] += worker.plan.memory_bytes
            assert is_pooled or not gang.asleep
    for device in snapshot.devices:
        rest = device.memory_bytes - not_pool[device.id]
        stranger_bytes = others * GIB if device.id == "a/cpu0" else 0
        assert claimed[device.id] + stranger_bytes <= device.memory_bytes
        assert pool_awake[device.id] <= overcommit * rest + 1
    for gang in proposal.placed:
        (taken,) = gang.workers[0].claims
        if gang.asleep:
            size = gang.workers[0].plan.memory_bytes
            assert size <= 8 * GIB - not_pool[taken.device_id]
    seated = {gang.workers[0].plan.slot for gang in proposal.placed}
    assert not seated & {refusal.plan.slot for refusal in proposal.refused}


def test_a_plan_counts_on_the_room_of_who_falls_asleep():
    falls, claim = a_sleeper(pooled("s", memory="8GiB"), held_gib=8, phase=Phase.FALLING_ASLEEP)
    new = unified("new", memory="8GiB")
    snapshot = a_fleet([pooled("s", memory="8GiB"), new], workers=[falls], claims=[claim])

    told = plan(snapshot, (), NOW, runtime_of)

    assert [(start.worker.plan.model, start.turn) for start in told.starts] == [("new", 2)]
    assert told.is_complete
