"""Placing is deterministic, never oversells, and says why not."""

from fleets import (
    GIB,
    a_device,
    a_node,
    a_snapshot,
    disaggregated,
    runtime_of,
    unified,
    with_spec,
    workers_of,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.scheduler import place
from pipelines.scheduler.filters import Reason
from pipelines.topology import expand
from registry.state import Claim, Quota


def gangs_of(*models):
    return [gang for model in models for gang in expand(model)]


def placed_on(proposal):
    return [
        [(worker.plan.role.value, worker.node) for worker in gang.workers]
        for gang in proposal.placed
    ]


def test_a_worker_goes_to_a_node_with_room():
    snapshot = a_snapshot(nodes=[a_node("a")], devices=[a_device("a", 0)])

    proposal = place(snapshot, gangs_of(unified("m")), runtime_of)

    assert placed_on(proposal) == [[("unified", "a")]]
    assert proposal.placed[0].workers[0].claims[0].memory_bytes == 4 * GIB


def test_a_pair_is_placed_whole_or_not_at_all():
    snapshot = a_snapshot(nodes=[a_node("a")], devices=[a_device("a", 0, memory_bytes=4 * GIB)])

    proposal = place(snapshot, gangs_of(disaggregated("pd"), unified("m")), runtime_of)

    assert placed_on(proposal) == [[("unified", "a")]], "the refused pair took nothing"
    assert proposal.refused[0].why[0].reason is Reason.NOT_ENOUGH_FREE


def test_prefill_and_decode_stay_together_where_they_can():
    nodes = [a_node("a"), a_node("b")]
    devices = [a_device(node, index) for node in "ab" for index in range(2)]

    proposal = place(
        a_snapshot(nodes=nodes, devices=devices), gangs_of(disaggregated("pd")), runtime_of
    )

    assert len({node for _, node in placed_on(proposal)[0]}) == 1


def test_replicas_of_a_role_go_to_different_nodes():
    nodes = [a_node("a"), a_node("b")]
    devices = [a_device(node, index) for node in "ab" for index in range(2)]

    proposal = place(
        a_snapshot(nodes=nodes, devices=devices), gangs_of(unified("m", workers=2)), runtime_of
    )

    assert {"a", "b"} == {node for gang in placed_on(proposal) for _, node in gang}


def test_the_tightest_device_that_fits_is_taken():
    devices = [a_device("a", 0, memory_bytes=80 * GIB), a_device("a", 1, memory_bytes=5 * GIB)]

    proposal = place(
        a_snapshot(nodes=[a_node("a")], devices=devices), gangs_of(unified("m")), runtime_of
    )

    assert proposal.placed[0].workers[0].claims[0].device_id == "a/cpu1"


def test_labels_and_device_model_are_wishes_that_filter():
    snapshot = a_snapshot(
        nodes=[a_node("a", labels={"zone": "x"}), a_node("b", labels={"zone": "y"})],
        devices=[a_device("a", 0, model="NVIDIA L40S"), a_device("b", 0, model="NVIDIA H100")],
    )
    by_label = unified("m", placement={"labels": {"zone": "y"}})
    by_model = unified("n", placement={"device_model": "l40s"})

    proposal = place(snapshot, gangs_of(by_label, by_model), runtime_of)

    assert placed_on(proposal) == [[("unified", "b")], [("unified", "a")]]


fleets = st.lists(st.lists(st.integers(1, 16), min_size=0, max_size=4), min_size=0, max_size=4)
demands = st.lists(st.tuples(st.integers(0, 12), st.integers(1, 3), st.booleans()), max_size=6)


def fleet_of(sizes, order=1):
    nodes = [a_node(f"n{index}") for index in range(len(sizes))]
    devices = [
        a_device(f"n{index}", slot, memory_bytes=gib * GIB)
        for index, slots in enumerate(sizes)
        for slot, gib in enumerate(slots)
    ]
    return a_snapshot(nodes=nodes[::order], devices=devices[::order])


def models_of(wanted):
    return [
        (disaggregated if apart else unified)(
            f"m{index}", memory=f"{gib}GiB" if gib else "", devices=devices
        )
        for index, (gib, devices, apart) in enumerate(wanted)
    ]


@given(fleets, demands)
@settings(max_examples=150, deadline=None)
def test_no_device_is_oversold_and_gangs_are_whole(sizes, wanted):
    snapshot = fleet_of(sizes)
    gangs = gangs_of(*models_of(wanted))

    proposal = place(snapshot, gangs, runtime_of)

    used: dict[str, int] = {}
    for gang in proposal.placed:
        for worker in gang.workers:
            assert len({claim.device_id for claim in worker.claims}) == worker.plan.devices
            for claim in worker.claims:
                used[claim.device_id] = used.get(claim.device_id, 0) + claim.memory_bytes
    capacity = {device.id: device.memory_bytes for device in snapshot.devices}
    assert all(used[device] <= capacity[device] for device in used)
    whole = {frozenset(plan.slot for plan in gang) for gang in gangs}
    assert all(frozenset(w.plan.slot for w in gang.workers) in whole for gang in proposal.placed)
    assert len(proposal.placed) + len(proposal.refused) == len(gangs)


@given(fleets, demands)
@settings(max_examples=80, deadline=None)
def test_the_order_in_which_nodes_are_listed_changes_nothing(sizes, wanted):
    gangs = gangs_of(*models_of(wanted))

    assert place(fleet_of(sizes), gangs, runtime_of) == place(
        fleet_of(sizes, -1), gangs, runtime_of
    )


@given(fleets, demands)
@settings(max_examples=80, deadline=None)
def test_one_more_empty_node_never_makes_a_first_gang_unplaceable(sizes, wanted):
    gangs = gangs_of(*models_of(wanted))[:1]

    before = place(fleet_of(sizes), gangs, runtime_of)
    after = place(fleet_of([*sizes, [16, 16, 16, 16]]), gangs, runtime_of)

    assert len(after.placed) >= len(before.placed)


def test_claims_of_others_count():
    snapshot = a_snapshot(
        nodes=[a_node("a")],
        devices=[a_device("a", 0, memory_bytes=6 * GIB)],
        claims=[Claim(worker_id="other", device_id="a/cpu0", memory_bytes=3 * GIB)],
    )

    refusal = place(snapshot, gangs_of(unified("m")), runtime_of).refused[0]

    assert refusal.why[0].reason is Reason.NOT_ENOUGH_FREE


def test_of_an_owner_at_its_quota_the_gang_that_asks_for_more_is_placed():
    devices = [a_device("n", i) for i in range(8)]
    snapshot = a_snapshot(
        nodes=[a_node("n")], devices=devices, quotas=[Quota(owner="default", devices=4)]
    )
    one, pair = unified("one", devices=3), disaggregated("pair", devices=2)
    proposal = place(snapshot, gangs_of(one, pair), runtime_of)
    assert [{w.plan.model for w in gang.workers} for gang in proposal.placed] == [{"pair"}]
    assert [gang.plan.model for gang in proposal.refused] == ["one"]


def test_a_gang_whose_time_has_not_come_keeps_its_place_and_takes_nobody_elses():
    one_slot = a_snapshot(nodes=[a_node("a")], devices=[a_device("a", 0)])
    (held,), (other,) = gangs_of(unified("held")), gangs_of(unified("other"))
    (urgent,) = gangs_of(with_spec(unified("urgent"), priority=200))

    proposal = place(one_slot, [other], runtime_of, held=[held])

    assert (proposal.placed, proposal.evicted) == ((), ())
    assert [refusal.gang for refusal in proposal.refused] == [other], "the held one is not told of"
    assert place(one_slot, [urgent], runtime_of, held=[held]).placed, "of a higher priority"
    assert place(one_slot, [other], runtime_of, held=[]).placed


def test_nobody_is_evicted_for_a_gang_whose_time_has_not_come():
    low = with_spec(unified("low"), priority=10)
    (worker,) = workers_of(low)
    full = a_snapshot(
        models=[low],
        nodes=[a_node("a")],
        devices=[a_device("a", 0)],
        workers=[worker],
        claims=[Claim(worker_id=worker.id, device_id="a/cpu0", memory_bytes=4 * GIB)],
    )
    gangs = gangs_of(with_spec(unified("high"), priority=200))

    assert place(full, gangs, runtime_of).evicted
    assert place(full, [], runtime_of, held=gangs) == place(full, [], runtime_of)
