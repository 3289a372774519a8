"""The picture of the fleet: who holds how much of which device."""

from fleets import GIB, a_device, a_node, a_snapshot, disaggregated, external, workers_of

from gateway.admin.fleet_map import ClaimView, fleet_view
from registry.state import Claim


def test_a_device_says_who_claims_how_much_of_it_and_a_worker_which_pair_it_is_of():
    prefill, decode = workers_of(disaggregated("pair"))
    claims = [
        Claim(worker_id=prefill.id, device_id="a/cpu0", memory_bytes=GIB),
        Claim(worker_id=decode.id, device_id="a/cpu0", memory_bytes=2 * GIB),
        Claim(worker_id=decode.id, device_id="b/cpu0", memory_bytes=3 * GIB),
    ]
    view = fleet_view(
        a_snapshot(
            nodes=[a_node("b"), a_node("a")],
            devices=[a_device("b", 0), a_device("a", 1), a_device("a", 0)],
            workers=[prefill, decode],
            claims=claims,
        )
    )

    assert [[d.id for d in node.devices] for node in view.nodes] == [
        ["a/cpu0", "a/cpu1"],
        ["b/cpu0"],
    ]
    held, free = view.nodes[0].devices
    assert held.claims == (
        ClaimView(worker=prefill.id, memory_bytes=GIB),
        ClaimView(worker=decode.id, memory_bytes=2 * GIB),
    )
    assert free.claims == ()
    assert [(w.role, w.variant, w.revision) for w in view.workers] == [
        ("prefill", "default", 1),
        ("decode", "default", 1),
    ]


def test_who_is_on_no_node_of_ours_is_not_in_the_picture():
    (worker,) = workers_of(external("far", urls=["http://10.0.0.1:8000"]), node="")

    assert fleet_view(a_snapshot(workers=[worker])).workers == ()
