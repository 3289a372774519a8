"""Each reason why not, in words that an operator understands."""

import msgspec
import pytest
from fleets import GIB, a_device, a_node, a_snapshot, a_worker, disaggregated, runtime_of, unified
from fleets import with_spec as spec

from pipelines.scheduler import Fleet, Reason, place, verdicts
from pipelines.topology import expand
from registry.state import Claim, DeviceKind, NodeState, Quota


def gang_of(model, **change):
    return tuple(msgspec.structs.replace(plan, **change) for plan in expand(model)[0])


def refusal_of(snapshot, gang):
    return place(snapshot, [gang], runtime_of).refused[0]


@pytest.mark.parametrize(
    ("node", "device", "change", "reason", "sentence"),
    [
        ({"state": NodeState.CORDONED}, {}, {}, Reason.NODE_NOT_READY, "a: is cordoned"),
        ({"state": NodeState.DRAINING}, {}, {}, Reason.NODE_NOT_READY, "a: is draining"),
        ({"state": NodeState.UNKNOWN}, {}, {}, Reason.NODE_NOT_READY, "a: is unknown"),
        ({}, {}, {"devices": 3}, Reason.TOO_FEW_DEVICES, "needs 3 devices, has 1"),
        ({}, {"memory_bytes": GIB}, {}, Reason.DEVICE_TOO_SMALL, "the largest has 1.0 GiB"),
        ({}, {"quarantine": "pid 7"}, {}, Reason.QUARANTINE, "0 are out of quarantine (pid 7)"),
        ({"runtimes": ()}, {}, {}, Reason.RUNTIME_MISSING, "modelyard runtimes install emulator"),
        (
            {},
            {"used_bytes": 3 * GIB},
            {},
            Reason.IN_FOREIGN_USE,
            "3.0 GiB of its devices are in use by what is not ours",
        ),
    ],
)
def test_one_node_says_why_not(node, device, change, reason, sentence):
    snapshot = a_snapshot(nodes=[a_node("a", **node)], devices=[a_device("a", 0, **device)])

    refusal = refusal_of(snapshot, gang_of(unified("m"), **change))

    assert [why.reason for why in refusal.why] == [reason]
    assert sentence in refusal.sentence


def test_what_is_in_use_within_the_claims_is_not_foreign():
    device = a_device("a", 0, memory_bytes=8 * GIB, used_bytes=4 * GIB + GIB // 2)
    claim = Claim(worker_id="other", device_id=device.id, memory_bytes=4 * GIB)
    snapshot = a_snapshot(nodes=[a_node("a")], devices=[device], claims=[claim])

    assert place(snapshot, [gang_of(unified("m"))], runtime_of).placed


def test_a_device_in_quarantine_is_passed_over():
    devices = [a_device("a", 0, quarantine="pid 7"), a_device("a", 1)]
    snapshot = a_snapshot(nodes=[a_node("a")], devices=devices)

    placed = place(snapshot, [gang_of(unified("m"))], runtime_of).placed

    assert placed[0].workers[0].claims[0].device_id == "a/cpu1"


def test_the_model_is_wished_of_each_device_not_of_the_node():
    devices = [a_device("a", 0, model="H100"), a_device("a", 1, model="L40S")]
    snapshot = a_snapshot(nodes=[a_node("a")], devices=devices)
    wish = {"placement": {"device_model": "l40s"}}

    placed = place(snapshot, [gang_of(unified("m", **wish))], runtime_of).placed
    refusal = refusal_of(snapshot, gang_of(unified("m", devices=2, **wish)))

    assert placed[0].workers[0].claims[0].device_id == "a/cpu1"
    assert refusal.why[0].reason is Reason.DEVICE_MODEL_DIFFERS
    assert "wants 2 l40s, has 1 of that" in refusal.sentence


@pytest.mark.parametrize(
    ("islands", "count", "sentence"),
    [
        (("x", "x", "y", "y"), 3, "needs an island of 3, the largest has 2"),
        (("", "", "", ""), 2, "needs an island of 2, it has none"),
        (("x", "x", "y", "y"), 2, ""),
        (("", "", "", ""), 1, ""),
    ],
)
def test_an_island_that_must_be(islands, count, sentence):
    devices = [a_device("a", i, island=island) for i, island in enumerate(islands)]
    snapshot = a_snapshot(nodes=[a_node("a")], devices=devices)
    model = unified("m", devices=count, placement={"island": "require"})

    proposal = place(snapshot, [gang_of(model)], runtime_of)

    if sentence:
        assert proposal.refused[0].why[0].reason is Reason.NO_ISLAND
        assert sentence in proposal.refused[0].sentence
    else:
        claims = proposal.placed[0].workers[0].claims
        assert len({islands[int(claim.device_id[-1])] for claim in claims}) == 1


def test_an_island_with_too_few_free_says_so():
    devices = [a_device("a", i, island="x" if i < 2 else "y") for i in range(4)]
    claims = [Claim(worker_id="w", device_id=f"a/cpu{i}", memory_bytes=GIB) for i in (0, 2)]
    snapshot = a_snapshot(nodes=[a_node("a")], devices=devices, claims=claims)
    model = unified("m", devices=2, placement={"island": "require"})

    refusal = refusal_of(snapshot, gang_of(model))

    assert refusal.why[0].reason is Reason.NOT_ENOUGH_FREE
    assert "needs 2 devices of one island with 4.0 GiB free, 1 of 4 have that" in refusal.sentence


@pytest.mark.parametrize(
    ("quota", "sentence"),
    [
        ({"devices": 1}, "owner default may hold 1 devices and holds 1: 1 more are too many"),
        ({"memory_bytes": 6 * GIB}, "may hold 6.0 GiB and holds 4.0 GiB: 4.0 GiB more"),
        ({"devices": 2, "memory_bytes": 8 * GIB}, ""),
    ],
)
def test_a_quota_counts_what_the_owners_models_hold(quota, sentence):
    model = unified("m", workers=2)
    first, second = expand(model)
    worker = a_worker(first[0])
    snapshot = a_snapshot(
        models=[model],
        nodes=[a_node("a")],
        devices=[a_device("a", i) for i in range(3)],
        workers=[worker],
        claims=[Claim(worker_id=worker.id, device_id="a/cpu0", memory_bytes=4 * GIB)],
        quotas=[Quota(owner="default", **quota)],
    )

    proposal = place(snapshot, [second], runtime_of)

    if sentence:
        assert proposal.refused[0].why[0].reason is Reason.QUOTA
        assert sentence in proposal.refused[0].sentence
    else:
        assert proposal.placed


def test_whole_devices_count_with_all_their_memory():
    snapshot = a_snapshot(
        nodes=[a_node("a"), a_node("b")],
        devices=[a_device("a", 0, memory_bytes=80 * GIB), a_device("b", 0, memory_bytes=48 * GIB)],
        quotas=[Quota(owner="default", memory_bytes=100 * GIB)],
    )
    gangs = expand(unified("m", memory="", workers=2))

    proposal = place(snapshot, gangs, runtime_of)

    assert (len(proposal.placed), len(proposal.refused)) == (1, 1)
    assert proposal.refused[0].why[-1].reason in {Reason.QUOTA, Reason.NOT_ENOUGH_FREE}


def test_a_gang_of_whole_devices_and_shares_stays_within_the_bytes_of_its_owner():
    """Else the registry refuses it, turn after turn."""
    topology = {"prefill": {"memory": ""}, "decode": {"memory": "20GiB"}}
    model = spec(disaggregated("pd"), topology=topology)
    snapshot = a_snapshot(
        nodes=[a_node("a")],
        devices=[a_device("a", i, memory_bytes=80 * GIB) for i in range(2)],
        quotas=[Quota(owner="default", memory_bytes=90 * GIB)],
    )

    proposal = place(snapshot, expand(model), runtime_of)

    assert not proposal.placed
    assert proposal.refused[0].why[0].reason is Reason.QUOTA
    assert "more bytes than its owner may hold" in proposal.refused[0].sentence


def test_an_own_model_of_lower_priority_is_not_evicted_for_a_quota():
    low, high = spec(unified("low"), priority=1), unified("high")
    worker = a_worker(expand(low)[0][0])
    snapshot = a_snapshot(
        models=[low, high],
        nodes=[a_node("a")],
        devices=[a_device("a", 0)],
        workers=[worker],
        claims=[Claim(worker_id=worker.id, device_id="a/cpu0", memory_bytes=4 * GIB)],
        quotas=[Quota(owner="default", devices=1)],
    )

    assert not place(snapshot, expand(high), runtime_of).evicted


def test_a_thousand_nodes_are_told_in_one_sentence():
    nodes = [a_node(f"n{i:04}") for i in range(1000)] + [a_node("z", state=NodeState.CORDONED)]
    devices = [a_device(node.name, i) for node in nodes for i in range(2)]
    held = Claim(worker_id="w", device_id="n0003/cpu0", memory_bytes=GIB)
    snapshot = a_snapshot(nodes=nodes, devices=devices, claims=[held])

    refusal = refusal_of(snapshot, gang_of(unified("m", devices=4)))

    assert refusal.sentence == (
        "no place for default/unified/0: 1,000 nodes: needs 4 devices, has 2 "
        "(n0000, n0001, n0002, …); z: is cordoned"
    )


def test_the_node_that_comes_nearest_speaks_for_those_that_lack_the_same():
    nodes = [a_node(name) for name in "abc"]
    devices = [a_device(name, i) for name in "abc" for i in range(2)]
    held = [
        Claim(worker_id="w", device_id=f"{d}", memory_bytes=GIB)
        for d in ("a/cpu0", "a/cpu1", "b/cpu0", "c/cpu0", "c/cpu1")
    ]
    snapshot = a_snapshot(nodes=nodes, devices=devices, claims=held)

    refusal = refusal_of(snapshot, gang_of(unified("m", devices=2, memory="")))

    assert "3 nodes: needs 2 devices with all memory free, at best 1 of 2 have that (a, b, c)" in (
        refusal.sentence
    )


def test_a_pair_says_that_it_must_be_together():
    model = spec(disaggregated("pd"), topology={"locality": "node"})
    snapshot = a_snapshot(
        nodes=[a_node("a"), a_node("b")], devices=[a_device("a", 0), a_device("b", 0)]
    )

    refusal = refusal_of(snapshot, gang_of(model))

    assert refusal.why[0].reason is Reason.TOO_FAR
    assert "2 nodes: has room, but not for all 2 of its gang on one node (a, b)" in refusal.sentence


def test_each_node_has_its_verdict():
    nodes = [
        a_node("a"),
        a_node("b", state=NodeState.CORDONED),
        a_node("c", kind=DeviceKind.CUDA),
    ]
    devices = [a_device("a", 0), a_device("b", 0), a_device("c", 0, kind=DeviceKind.CUDA)]
    fleet = Fleet(a_snapshot(nodes=nodes, devices=devices))

    first, second, third = verdicts(fleet, gang_of(unified("m"))[0], runtime_of)

    assert (first.node, first.devices, first.reason) == ("a", ("a/cpu0",), None)
    assert (second.reason, second.sentence) == (Reason.NODE_NOT_READY, "is cordoned")
    assert third.devices == ("c/cuda0",)
    assert first.score > 0
