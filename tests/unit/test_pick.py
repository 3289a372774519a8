"""The choice of workers: always allowed ones, fair, and of one variant."""

from collections import Counter

import pytest
from gateway_world import AGGREGATED, DISAGGREGATED, a_declared, a_fleet, a_table
from hypothesis import given
from hypothesis import strategies as st

from gateway.routing.pick import (
    NOBODY_BARRED,
    Barred,
    Mode,
    choose_endpoint,
    choose_variant,
    plan_route,
)
from registry.spec import RoutingPolicy

URL = "http://10.0.0.1:9000"
chance = st.floats(0, 1, exclude_max=True)


def variant_with(topology=DISAGGREGATED, **counts):
    model = a_declared(topology=topology, routing={})
    roles = {"type": "aggregated"} if "unified" in counts else DISAGGREGATED
    made = a_declared(topology=roles)
    fleet = a_fleet(made, **{role: [URL] * count for role, count in counts.items()})
    return a_table(models=[model], workers=fleet).models["m"].variants[0]


def mixed(declared, *, unified, prefill, decode):
    """A variant while it changes its topology: workers of both shapes."""
    fleet = a_fleet(a_declared(topology=AGGREGATED), unified=[URL] * unified)
    fleet += a_fleet(
        a_declared(topology=DISAGGREGATED), prefill=[URL] * prefill, decode=[URL] * decode
    )
    table = a_table(models=[a_declared(topology=declared)], workers=fleet)
    return table.models["m"].variants[0]


def ids(endpoints):
    return [endpoint.worker_id for endpoint in endpoints]


@given(
    loads=st.lists(st.integers(0, 5), min_size=1, max_size=6),
    policy=st.sampled_from(RoutingPolicy),
    turn=st.integers(0, 100),
    point=chance,
)
def test_least_loaded_takes_a_least_loaded_one_and_round_robin_the_next(loads, policy, turn, point):
    endpoints = variant_with(AGGREGATED, unified=len(loads)).unified
    in_flight = dict(zip(ids(endpoints), loads, strict=True))
    chosen = choose_endpoint(
        endpoints, policy, in_flight=in_flight, turn=turn, random=lambda: point
    )
    if policy is RoutingPolicy.LEAST_LOADED:
        assert in_flight[chosen.worker_id] == min(loads)
    else:
        assert chosen is endpoints[turn % len(endpoints)]


def test_ties_are_all_taken_in_turn_of_chance():
    endpoints = variant_with(AGGREGATED, unified=4).unified
    chosen = {
        choose_endpoint(
            endpoints,
            RoutingPolicy.LEAST_LOADED,
            in_flight={},
            turn=0,
            random=lambda point=point: point / 4,
        ).worker_id
        for point in range(4)
    }
    assert chosen == set(ids(endpoints))


@given(weights=st.lists(st.integers(0, 50), min_size=1, max_size=5).filter(any))
def test_variants_get_their_weight_of_the_traffic(weights):
    variants = [
        {"name": f"v{n}", "engine": "emulator", "weight": weight, "topology": AGGREGATED}
        for n, weight in enumerate(weights)
    ]
    model = a_declared(variants=variants)
    fleet = []
    for n in range(len(weights)):
        (worker,) = a_fleet(a_declared(variants=[variants[n] | {"weight": 1}]), unified=[URL])
        fleet.append(worker)
    row = a_table(models=[model], workers=fleet).models["m"]
    total = sum(weights)
    chosen = Counter(
        choose_variant(row.variants, lambda step=step: (step + 0.5) / total).name
        for step in range(total)
    )
    assert chosen == {f"v{n}": weight for n, weight in enumerate(weights) if weight}


counts = st.integers(0, 3)


@given(
    declared=st.sampled_from([AGGREGATED, DISAGGREGATED]),
    unified=counts,
    prefill=counts,
    decode=counts,
    wants_prefill=st.booleans(),
    point=chance,
    data=st.data(),
)
def test_a_route_never_uses_a_dead_worker_and_a_shunned_one_only_as_the_last(
    *, declared, unified, prefill, decode, wants_prefill, point, data
):
    if not (unified or prefill or decode):
        return
    variant = mixed(declared, unified=unified, prefill=prefill, decode=decode)
    everyone = ids((*variant.unified, *variant.prefill, *variant.decode))
    some = st.sets(st.sampled_from(everyone))
    barred = Barred(data.draw(some), data.draw(some))
    route = plan_route(
        variant,
        wants_prefill=wants_prefill,
        barred=barred,
        choose=lambda found: found[int(point * len(found))],
    )
    if route is None:
        assert barred.dead == set(everyone)
        return
    used = [route.answerer, *([route.prefill] if route.prefill else [])]
    for endpoint in used:
        assert endpoint.worker_id not in barred.dead
        peers = getattr(variant, endpoint.role)
        if endpoint.worker_id in barred.shunned and not route.prefill:
            assert all(peer in barred.shunned | barred.dead for peer in ids(peers))
    assert (route.prefill is not None) == (route.mode is Mode.DISAGGREGATED)
    if not wants_prefill:
        assert route.prefill is None or not variant.decode


@pytest.mark.parametrize(
    ("declared", "unified", "prefill", "decode", "wants_prefill", "mode", "role"),
    [
        (AGGREGATED, 1, 0, 0, False, "aggregated", "unified"),
        (AGGREGATED, 1, 1, 1, False, "aggregated", "unified"),
        (DISAGGREGATED, 0, 1, 1, True, "disaggregated", "decode"),
        (DISAGGREGATED, 0, 1, 1, False, "bypass", "decode"),
        (DISAGGREGATED, 0, 0, 1, True, "degraded", "decode"),
        (DISAGGREGATED, 0, 1, 0, True, "degraded", "prefill"),
        (DISAGGREGATED, 0, 1, 0, False, "degraded", "prefill"),
        (DISAGGREGATED, 1, 0, 1, True, "aggregated", "unified"),  # the old shape, still whole
        (DISAGGREGATED, 1, 1, 1, True, "disaggregated", "decode"),
        (AGGREGATED, 0, 1, 1, True, "disaggregated", "decode"),
    ],
)
def test_the_declared_shape_comes_first_and_a_whole_one_before_half_of_one(
    *, declared, unified, prefill, decode, wants_prefill, mode, role
):
    variant = mixed(declared, unified=unified, prefill=prefill, decode=decode)
    route = plan_route(
        variant, wants_prefill=wants_prefill, barred=NOBODY_BARRED, choose=lambda found: found[0]
    )
    assert (route.mode, route.answerer.role) == (mode, role)
