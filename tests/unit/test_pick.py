"""The choice of workers: always allowed ones, fair, and of one variant."""

from collections import Counter
from itertools import zip_longest

import msgspec
import pytest
from gateway_world import AGGREGATED, DISAGGREGATED, a_declared, a_fleet, a_table
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.routing.load import Load
from gateway.routing.pick import (
    FULL,
    NOBODY_BARRED,
    Barred,
    Mode,
    cheapest,
    choose_variant,
    least_loaded,
    plan_route,
)
from pipelines.engines.base import Pairing

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


def loads_of(endpoints, tokens, *, context=()):
    """Each has its number of tokens to prefill, and in decode."""
    loads = {}
    for endpoint, prefill, held in zip_longest(endpoints, tokens, context, fillvalue=0):
        load = loads[endpoint.worker_id] = Load()
        load.prefill_tokens, load.context_tokens = prefill, held
    return loads


def in_turn(*points):
    return iter(points).__next__


@given(
    tokens=st.lists(st.integers(0, 5), min_size=2, max_size=6),
    first=chance,
    second=chance,
)
@settings(deadline=None)
def test_least_loaded_takes_the_better_of_two_different_ones(tokens, first, second):
    endpoints = variant_with(AGGREGATED, unified=len(tokens)).unified
    drawn = set()

    class Loads(dict):
        def get(self, worker_id, default):
            drawn.add(worker_id)
            return self[worker_id]

    loads = Loads(loads_of(endpoints, tokens))
    chosen = least_loaded(endpoints, loads, in_turn(first, second))
    assert len(drawn) == 2
    assert chosen.worker_id in drawn
    least = min(loads[worker_id].prefill_tokens for worker_id in drawn)
    assert loads[chosen.worker_id].prefill_tokens == least


def test_every_pair_is_drawn_equally_often():
    endpoints = variant_with(AGGREGATED, unified=4).unified
    pairs = Counter()
    for first in range(12):
        for second in range(12):
            drawn = []

            class Loads(dict):
                def get(self, worker_id, default, drawn=drawn):
                    drawn.append(worker_id)
                    return default

            least_loaded(endpoints, Loads(), in_turn(first / 12, second / 12))
            pairs[frozenset(drawn)] += 1
    assert len(pairs) == 6
    assert len(set(pairs.values())) == 1


def test_a_token_to_prefill_weighs_more_than_one_of_context():
    endpoints = variant_with(AGGREGATED, unified=2).unified
    loads = loads_of(endpoints, [100, 0], context=[0, 500])
    assert least_loaded(endpoints, loads, in_turn(0.0, 0.0)) is endpoints[1]


counted = st.lists(
    st.tuples(st.integers(0, 50_000), st.integers(0, 50_000), st.floats(0, 1)),
    min_size=1,
    max_size=8,
)


@given(workers=counted, tokens=st.integers(1, 50_000), point=chance)
@settings(deadline=None)
def test_the_cheapest_is_no_worse_than_any_other_in_all_it_counts(workers, tokens, point):
    endpoints = variant_with(AGGREGATED, unified=len(workers)).unified
    loads = loads_of(endpoints, [w[0] for w in workers], context=[w[1] for w in workers])
    cached = {e.worker_id: int(w[2] * tokens) for e, w in zip(endpoints, workers, strict=True)}
    chosen = cheapest(endpoints, tokens, cached, loads, lambda: point)
    mine = loads[chosen.worker_id]
    for other in endpoints:
        load = loads[other.worker_id]
        assert not (
            load.prefill_tokens < mine.prefill_tokens
            and load.context_tokens <= mine.context_tokens
            and cached[other.worker_id] >= cached[chosen.worker_id]
        )


@pytest.mark.parametrize(
    ("waiting", "warm"),
    [(0, True), (15_999, True), (16_001, False)],
)
def test_a_warm_worker_is_worth_a_wait_but_not_any(waiting, warm):
    endpoints = variant_with(AGGREGATED, unified=2).unified
    loads = loads_of(endpoints, [waiting, 0])
    cached = {endpoints[0].worker_id: 4000}
    chosen = cheapest(endpoints, 5000, cached, loads, lambda: 0.0)
    assert (chosen is endpoints[0]) == warm


def test_ties_are_all_taken_in_turn_of_chance():
    endpoints = variant_with(AGGREGATED, unified=4).unified
    chosen = [
        cheapest(endpoints, 10, {}, {}, lambda point=point: point / 4).worker_id
        for point in range(4)
    ]
    assert chosen == ids(endpoints)


@given(weights=st.lists(st.integers(0, 50), min_size=1, max_size=5).filter(any))
@settings(deadline=None)
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
@settings(deadline=None)
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


@pytest.mark.parametrize("wants_prefill", [True, False])
@pytest.mark.parametrize(("prefill", "decode"), [(1, 1), (1, 0), (0, 1)])
def test_halves_that_only_work_together_are_used_together_or_not_at_all(
    *, wants_prefill, prefill, decode
):
    variant = mixed(DISAGGREGATED, unified=0, prefill=prefill, decode=decode)
    variant = msgspec.structs.replace(variant, pairing=Pairing.CONCURRENT)
    route = plan_route(
        variant, wants_prefill=wants_prefill, barred=NOBODY_BARRED, choose=lambda found: found[0]
    )
    if prefill and decode:
        assert route.mode is Mode.DISAGGREGATED
    else:
        assert route is None


@pytest.mark.parametrize("full_role", ["prefill", "decode"])
def test_a_full_half_is_waited_for_rather_than_done_without(full_role):
    variant = mixed(DISAGGREGATED, unified=1, prefill=1, decode=1)
    route = plan_route(
        variant,
        wants_prefill=True,
        barred=NOBODY_BARRED,
        choose=lambda found: None if found[0].role == full_role else found[0],
    )
    assert route is FULL
