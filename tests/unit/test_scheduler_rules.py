"""What holds for every proposal, whatever the fleet and whatever is wanted."""

from fleets import GIB, a_device, a_node, a_snapshot, disaggregated, runtime_of, unified, with_spec
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.scheduler import Fleet, place
from pipelines.topology import expand
from registry.state import Claim, Quota

nodes = st.lists(
    st.tuples(
        st.integers(0, 4),  # devices
        st.sampled_from([4, 8]),  # GiB each
        st.sampled_from(["", "x", "xy"]),  # islands
        st.sampled_from(["", "f", "g"]),  # fabric
        st.booleans(),  # whether the first device is in quarantine
    ),
    min_size=1,
    max_size=4,
)
wishes = st.lists(
    st.tuples(
        st.integers(1, 3),
        st.sampled_from(["", "3GiB", "4GiB"]),
        st.sampled_from(["unified", "prefer", "fabric", "node"]),
        st.sampled_from(["prefer", "require"]),
        st.sampled_from([1, 100]),
    ),
    min_size=1,
    max_size=5,
)


def a_fleet(shapes, quota):
    fleet, devices = [], []
    for n, (count, gib, islands, fabric, bad) in enumerate(shapes):
        fleet.append(a_node(f"n{n}", labels={"fabric": fabric} if fabric else {}))
        devices += [
            a_device(
                f"n{n}",
                i,
                memory_bytes=gib * GIB,
                island=islands[i % len(islands)] if islands else "",
                quarantine="pid 7" if bad and i == 0 else "",
            )
            for i in range(count)
        ]
    quotas = [Quota(owner="default", devices=quota)] if quota is not None else []
    return a_snapshot(nodes=fleet, devices=devices, quotas=quotas)


def models_of(wanted):
    models = []
    for n, (devices, memory, locality, island, priority) in enumerate(wanted):
        more = {"devices": devices, "memory": memory, "placement": {"island": island}}
        if locality == "unified":
            model = unified(f"m{n}", **more)
        else:
            model = with_spec(disaggregated(f"m{n}", **more), topology={"locality": locality})
        models.append(with_spec(model, priority=priority))
    return models


@given(nodes, wishes, st.sampled_from([None, 3, 6]))
@settings(max_examples=40, deadline=None)
def test_a_proposal_keeps_islands_quarantine_quota_and_locality(shapes, wanted, quota):
    snapshot = a_fleet(shapes, quota)
    gangs = [gang for model in models_of(wanted) for gang in expand(model)]

    proposal = place(snapshot, gangs, runtime_of)

    devices = {device.id: device for device in snapshot.devices}
    fabrics = {node.name: node.labels.get("fabric", "") for node in snapshot.nodes}
    used, count = {}, 0
    for gang in proposal.placed:
        where = {worker.node for worker in gang.workers}
        locality = gang.workers[0].plan.locality
        if locality == "node":
            assert len(where) == 1
        if locality == "fabric":
            assert len({fabrics[node] for node in where} | {""}) == 2
        for worker in gang.workers:
            mine = [devices[claim.device_id] for claim in worker.claims]
            count += len(mine)
            assert {device.node for device in mine} == {worker.node}
            assert not any(device.quarantine for device in mine)
            if worker.plan.placement.island == "require" and len(mine) > 1:
                assert len({device.island for device in mine} | {""}) == 2
            for claim in worker.claims:
                used[claim.device_id] = used.get(claim.device_id, 0) + claim.memory_bytes
    assert all(size <= devices[name].memory_bytes for name, size in used.items())
    assert quota is None or count <= quota
    assert len(proposal.placed) + len(proposal.refused) == len(gangs)
    assert all(refusal.why for refusal in proposal.refused)


@given(nodes, wishes)
@settings(max_examples=40, deadline=None)
def test_a_kept_fleet_is_left_as_it_was(shapes, wanted):
    snapshot = a_fleet(shapes, None)
    gangs = [gang for model in models_of(wanted) for gang in expand(model)]
    fleet = Fleet(snapshot)
    before = [host.free for host in fleet.hosts]

    first = place(snapshot, gangs, runtime_of, fleet)
    again = place(snapshot, gangs, runtime_of, fleet)

    assert first == again == place(snapshot, gangs, runtime_of)
    assert [host.free for host in fleet.hosts] == before


@given(nodes, wishes)
@settings(max_examples=40, deadline=None)
def test_what_is_refused_on_grounds_of_room_has_none_alone_either(shapes, wanted):
    """A gang of the highest priority is never refused for the sake of lower ones."""
    snapshot = a_fleet(shapes, None)
    models = models_of(wanted)
    first = with_spec(models[0], priority=1000)
    gangs = [gang for model in [*models[1:], first] for gang in expand(model)]
    alone = place(snapshot, expand(first), runtime_of)

    together = place(snapshot, gangs, runtime_of)

    placed = {gang.workers[0].plan.model for gang in together.placed}
    assert bool(alone.placed) == (first.name in placed)


def test_claims_that_no_worker_explains_are_not_free():
    snapshot = a_snapshot(
        nodes=[a_node("a")],
        devices=[a_device("a", 0, memory_bytes=6 * GIB)],
        claims=[Claim(worker_id="unknown", device_id="a/cpu0", memory_bytes=3 * GIB)],
    )

    assert place(snapshot, expand(unified("m")), runtime_of).refused
