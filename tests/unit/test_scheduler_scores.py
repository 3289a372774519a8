"""Where a worker goes among the places that would do."""

import msgspec
import pytest
from fleets import GIB, a_device, a_node, a_snapshot, a_worker, disaggregated, runtime_of, unified
from fleets import with_spec as spec

from pipelines.scheduler import Reason, place
from pipelines.topology import expand
from registry.state import Claim, DeviceKind, Phase


def gangs_of(*models):
    return [gang for model in models for gang in expand(model)]


def a_fleet(sizes, *, labels=None, sources=None, models=(), **devices):
    return a_snapshot(
        models=models,
        nodes=[
            a_node(name, labels=(labels or {}).get(name), sources=(sources or {}).get(name, ()))
            for name in sizes
        ],
        devices=[a_device(name, i, **devices) for name, n in sizes.items() for i in range(n)],
    )


def claimed(snapshot, *device_ids, size=4 * GIB):
    claims = [Claim(worker_id="w", device_id=one, memory_bytes=size) for one in device_ids]
    return msgspec.structs.replace(snapshot, claims=(*snapshot.claims, *claims))


def nodes_of(proposal):
    assert not proposal.refused, [refusal.sentence for refusal in proposal.refused]
    return [worker.node for gang in proposal.placed for worker in gang.workers]


def devices_of(proposal):
    return [c.device_id for g in proposal.placed for w in g.workers for c in w.claims]


def test_a_broken_node_goes_before_a_whole_one():
    snapshot = claimed(a_fleet({"a": 4, "b": 4}), "b/cpu0")

    assert nodes_of(place(snapshot, gangs_of(unified("m", memory="")), runtime_of)) == ["b"]


def test_a_share_goes_onto_a_device_that_is_already_shared():
    snapshot = claimed(a_fleet({"a": 2, "b": 2}, memory_bytes=16 * GIB), "b/cpu1")

    assert devices_of(place(snapshot, gangs_of(unified("m")), runtime_of)) == ["b/cpu1"]


def test_a_broken_island_goes_before_a_whole_one():
    devices = [a_device("a", i, island="xy"[i // 4]) for i in range(8)]
    snapshot = claimed(a_snapshot(nodes=[a_node("a")], devices=devices), "a/cpu5")

    placed = place(snapshot, gangs_of(unified("m", devices=2)), runtime_of)

    assert set(devices_of(placed)) <= {"a/cpu4", "a/cpu6", "a/cpu7"}


def test_several_devices_are_in_one_island_where_one_holds_them():
    devices = [a_device("a", i, island="xy"[i // 2]) for i in range(4)]
    snapshot = claimed(a_snapshot(nodes=[a_node("a")], devices=devices), "a/cpu0")

    placed = place(snapshot, gangs_of(unified("m", devices=2)), runtime_of)
    spilled = place(snapshot, gangs_of(unified("m", devices=3)), runtime_of)

    assert set(devices_of(placed)) == {"a/cpu2", "a/cpu3"}
    assert len(devices_of(spilled)) == 3


@pytest.mark.parametrize("label", ["zone", "rack"])
def test_replicas_go_to_other_failure_domains(label):
    labels = {"a": {label: "x"}, "b": {label: "x"}, "c": {label: "y"}}
    snapshot = a_fleet({"a": 2, "b": 2, "c": 2}, labels=labels)

    nodes = nodes_of(place(snapshot, gangs_of(unified("m", workers=2)), runtime_of))

    assert "c" in nodes
    assert len(set(nodes)) == 2


def test_replicas_that_run_count_and_those_that_depart_do_not():
    model = unified("m", workers=2)
    first, second = expand(model)
    runs = a_worker(first[0], node="a")
    snapshot = a_fleet({"a": 2, "b": 2}, models=[model])
    beside = msgspec.structs.replace(snapshot, workers=(runs,))
    away = msgspec.structs.replace(
        snapshot, workers=(msgspec.structs.replace(runs, departing=True),)
    )

    assert nodes_of(place(beside, [second], runtime_of)) == ["b"]
    assert nodes_of(place(away, [second], runtime_of)) == ["a"]


def test_weights_tip_the_scales():
    snapshot = a_fleet({"a": 1, "b": 1}, sources={"b": ["file:///nowhere"]})

    assert nodes_of(place(snapshot, gangs_of(unified("m")), runtime_of)) == ["b"]


def test_a_pair_looks_ahead_for_a_node_that_holds_both():
    snapshot = claimed(a_fleet({"a": 2, "b": 2}), "a/cpu0")

    assert nodes_of(place(snapshot, gangs_of(disaggregated("pd")), runtime_of)) == ["b", "b"]


def test_two_pairs_of_a_gang_go_to_two_nodes_each_beside_its_other_half():
    snapshot = a_fleet({"a": 2, "b": 2, "c": 2})

    proposal = place(snapshot, gangs_of(disaggregated("pd", prefill=2, decode=2)), runtime_of)

    by_node = {}
    for worker in proposal.placed[0].workers:
        by_node.setdefault(worker.node, set()).add(worker.plan.role)
    assert len(by_node) == 2
    assert all(len(roles) == 2 for roles in by_node.values())


def test_a_fabric_is_near_too():
    labels = {"a": {"fabric": "x"}, "b": {"fabric": "y"}, "c": {"fabric": "x"}}
    model = disaggregated("pd")
    (gang,) = expand(model)
    runs = a_worker(gang[0], node="c")
    snapshot = a_fleet({"b": 1, "a": 1, "c": 0}, labels=labels, models=[model])
    snapshot = msgspec.structs.replace(snapshot, workers=(runs,))

    assert nodes_of(place(snapshot, [gang[1:]], runtime_of)) == ["a"]


@pytest.mark.parametrize(("locality", "nodes"), [("node", ["c", "c"]), ("fabric", ["a", "c"])])
def test_a_pair_is_as_near_as_it_must_be(locality, nodes):
    labels = {"a": {"fabric": "x"}, "c": {"fabric": "x"}}
    model = spec(disaggregated("pd", memory=""), topology={"locality": locality})
    sizes = {"a": 1, "b": 8, "c": 2}
    snapshot = a_fleet(sizes, labels=labels)
    if locality == "fabric":
        snapshot = claimed(snapshot, "c/cpu0")
    else:
        snapshot = claimed(snapshot, *[f"b/cpu{i}" for i in range(7)])

    assert sorted(nodes_of(place(snapshot, gangs_of(model), runtime_of))) == nodes


def test_no_first_worker_paints_its_gang_into_a_corner():
    """The tightest node holds one of the pair: it must not be chosen."""
    model = spec(disaggregated("pd"), topology={"locality": "node"})
    snapshot = a_fleet({"a": 1, "b": 1, "c": 2})

    assert nodes_of(place(snapshot, gangs_of(model), runtime_of)) == ["c", "c"]


def test_a_missing_worker_joins_the_living():
    model = spec(disaggregated("pd"), topology={"locality": "node"})
    (gang,) = expand(model)
    runs = a_worker(gang[0], node="b")
    snapshot = a_fleet({"a": 1, "b": 1}, models=[model])
    snapshot = msgspec.structs.replace(snapshot, workers=(runs,))

    assert nodes_of(place(snapshot, [gang[1:]], runtime_of)) == ["b"]
    refusal = place(claimed(snapshot, "b/cpu0"), [gang[1:]], runtime_of).refused[0]
    assert "a: has room, but must be of one node with b" in refusal.sentence


def test_a_new_revision_need_not_join_the_old_one():
    model = spec(disaggregated("pd"), topology={"locality": "node"})
    (gang,) = expand(model)
    old = [
        a_worker(msgspec.structs.replace(plan, fingerprint="old"), node="a", phase=Phase.READY)
        for plan in gang
    ]
    snapshot = a_fleet({"a": 1, "b": 2}, models=[model])
    snapshot = msgspec.structs.replace(snapshot, workers=tuple(old))

    assert nodes_of(place(snapshot, [gang], runtime_of)) == ["b", "b"]


def test_a_pair_is_on_one_kind_of_device():
    nodes = [a_node("a"), a_node("b", kind=DeviceKind.CUDA)]
    devices = [a_device("a", 0), a_device("b", 0, kind=DeviceKind.CUDA, model="H100")]
    more = [a_node("c", kind=DeviceKind.CUDA)], [a_device("c", 0, kind=DeviceKind.CUDA, model="L4")]
    gangs = gangs_of(disaggregated("pd"))

    refused = place(a_snapshot(nodes=nodes, devices=devices), gangs, runtime_of).refused
    both = a_snapshot(nodes=[*nodes, *more[0]], devices=[*devices, *more[1]])

    assert refused[0].why[0].reason is Reason.DEVICE_KIND_DIFFERS
    assert sorted(nodes_of(place(both, gangs, runtime_of))) == ["b", "c"], "models may differ"


def test_what_this_proposal_placed_moves_where_that_makes_room():
    """Spread over both nodes first, the small ones go together for the sake of the large one."""
    small = spec(unified("small", workers=2, memory=""), priority=200)
    large = spec(unified("large", memory="", devices=2), priority=100)

    proposal = place(a_fleet({"a": 2, "b": 2}), gangs_of(small, large), runtime_of)

    assert len(proposal.placed) == 3
