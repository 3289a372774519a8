"""While a model rolls out, each of two revisions has its workers and its part of the traffic."""

from collections import Counter
from random import Random

import msgspec
import pytest
from fleets import external, rolling_out
from gateway_world import AGGREGATED, DISAGGREGATED, a_declared, a_fleet, a_table
from hypothesis import given
from hypothesis import strategies as st

from gateway.routing.ask import Ask
from gateway.routing.pick import Mode, Route
from gateway.routing.router import Router
from gateway.routing.split import shares
from pipelines.topology import expand
from registry.state import Phase, RolloutState

URL = "http://10.0.0.1:9000"


def roles_of(model):
    return {str(plan.role): [URL] for gang in expand(model) for plan in gang}


def fleet_of(model, prefix, **change):
    """A ready worker of each role that *model* has."""
    workers = a_fleet(model, **roles_of(model))
    return [msgspec.structs.replace(w, id=f"{prefix}-{w.plan.role}", **change) for w in workers]


def changed(**args):
    return a_declared(topology={**AGGREGATED, "args": args})


def a_row(model, workers):
    return a_table(models=[model], workers=workers).models["m"]


def shape(row):
    """By revision: whose share is how large, and who serves it."""
    total = sum(variant.weight for variant in row.variants)
    return {
        (variant.revision, variant.name): (
            variant.weight / total,
            {e.worker_id for e in (*variant.unified, *variant.prefill, *variant.decode)},
        )
        for variant in row.variants
    }


def routed(row, times=400, **dead):
    """How many of so many requests went to each revision."""
    random = Random(7)
    router = Router(lambda: 0.0, random.random)
    ask = Ask(prompt=b"hi", prompt_tokens=1, fits_pair=lambda _row: True)
    routes = [
        router.route(row, ask, dead=dead.get("dead", set()), avoid=set()) for _ in range(times)
    ]
    assert all(isinstance(route, Route) for route in routes)
    return Counter(route.variant.revision for route in routes)


@pytest.mark.parametrize("percent", [1, 25, 50, 99])
def test_each_revision_has_its_workers_and_its_part(percent):
    base, newest = changed(), changed(seed=1)
    model = rolling_out(base, newest, percent)
    row = a_row(model, fleet_of(base, "old") + fleet_of(newest, "new"))
    assert shape(row) == {
        (3, "default"): (pytest.approx(1 - percent / 100), {"old-unified"}),
        (4, "default"): (pytest.approx(percent / 100), {"new-unified"}),
    }
    new = routed(row)[4] / 400
    assert abs(new - percent / 100) < 0.06


@pytest.mark.parametrize(
    ("percent", "served"), [(0, "old"), (100, "new")], ids=["before the first step", "at 100 %"]
)
def test_at_either_end_one_revision_has_it_all_and_the_other_stands_in(percent, served):
    """Who has no part is asked only where the others cannot answer, not where they are full."""
    base, newest = changed(), changed(seed=1)
    model = rolling_out(base, newest, percent)
    row = a_row(model, fleet_of(base, "old") + fleet_of(newest, "new"))
    has, has_not = (3, 4) if served == "old" else (4, 3)
    assert routed(row, 50) == {has: 50}
    assert routed(row, 50, dead={f"{served}-unified"}) == {has_not: 50}

    limits = msgspec.structs.replace(row.limits, in_flight_per_worker=1)
    row = msgspec.structs.replace(row, limits=limits)
    router = Router(lambda: 0.0, Random(1).random)
    ask = Ask(prompt=b"hi", prompt_tokens=1, fits_pair=lambda _row: True)
    router.enter(router.route(row, ask, dead=set(), avoid=set()).answerer, ask)
    assert not isinstance(router.route(row, ask, dead=set(), avoid=set()), Route)


@pytest.mark.parametrize("percent", [0, 5, 100])
@pytest.mark.parametrize("left", ["old", "new"])
def test_where_one_revision_cannot_serve_the_other_has_it_all(percent, left):
    base, newest = changed(), changed(seed=1)
    model = rolling_out(base, newest, percent)
    fleets = {
        "old": fleet_of(base, "old", phase=Phase.READY if left == "old" else Phase.DRAINING),
        "new": fleet_of(newest, "new", phase=Phase.READY if left == "new" else Phase.STARTING),
    }
    row = a_row(model, fleets["old"] + fleets["new"])
    assert shape(row) == {(3 if left == "old" else 4, "default"): (1.0, {f"{left}-unified"})}


def test_a_half_new_pair_takes_no_part_where_it_cannot_serve():
    """SGLang's halves do not serve alone; the ones of vLLM and the emulator do."""
    base = external("m", urls=["http://a:1"], engine="sglang")
    newest = external(
        "m",
        prefill=[{"url": "http://p:1", "bootstrap_port": 5}],
        decode=["http://d:1"],
        engine="sglang",
    )
    model = rolling_out(base, newest, 50)
    ready = fleet_of(base, "old", url=URL) + fleet_of(newest, "new", url=URL)
    assert set(shape(a_row(model, ready))) == {(1, "default"), (2, "default")}
    half = [worker for worker in ready if worker.id != "new-decode"]
    assert set(shape(a_row(model, half))) == {(1, "default")}


def test_a_change_of_topology_gives_two_rows_of_two_shapes():
    base, newest = a_declared(), a_declared(topology=DISAGGREGATED)
    model = rolling_out(base, newest, 50)
    row = a_row(model, fleet_of(base, "old") + fleet_of(newest, "new"))
    assert [(v.revision, v.disaggregated) for v in row.variants] == [(3, False), (4, True)]
    router = Router(lambda: 0.0, Random(3).random)
    ask = Ask(prompt=b"hi", prompt_tokens=1, fits_pair=lambda _row: True)
    modes = {router.route(row, ask, dead=set(), avoid=set()).mode for _ in range(50)}
    assert modes == {Mode.AGGREGATED, Mode.DISAGGREGATED}


def test_what_both_ask_for_belongs_to_both_and_pairs_stay_within_their_revision():
    """Only prefill changes: decode is the same worker, and has partners of its row's revision."""
    base = a_declared(topology=DISAGGREGATED)
    newest = a_declared(topology={**DISAGGREGATED, "prefill": {"args": {"seed": 1}}})
    model = rolling_out(base, newest, 50)
    workers = fleet_of(base, "old") + [
        worker for worker in fleet_of(newest, "new") if worker.id == "new-prefill"
    ]
    table = a_table(models=[model], workers=workers)
    partners = {
        (row.revision, decode): [prefill.worker_id for prefill in prefills]
        for row in table.models["m"].variants
        for decode, prefills in row.partners.items()
    }
    assert partners == {(3, "old-decode"): ["old-prefill"], (4, "old-decode"): ["new-prefill"]}
    ids = sorted(endpoint.worker_id for endpoint in table.endpoints())
    assert ids == ["new-prefill", "old-decode", "old-prefill"], "each worker once"


def test_an_answer_names_the_revision_whose_part_it_is():
    base, newest = changed(), a_declared(limits={"queued": 5})
    model = rolling_out(base, newest, 50)
    row = a_row(model, fleet_of(base, "same"))
    said = {v.revision: v.unified[0].identity for v in row.variants}
    assert b"revision: 3\r\n" in said[3]
    assert b"revision: 4\r\n" in said[4]
    assert {v.unified[0].revision for v in row.variants} == {3}, "what started it stays known"


def variants(*weights):
    """One for each name and weight."""
    return a_declared(
        variants=[
            {"name": name, "weight": weight, "engine": "emulator", "topology": AGGREGATED}
            for name, weight in weights
        ]
    )


def test_variants_that_come_and_go_have_the_parts_of_their_revisions():
    """Whatever the sums of weights are: 10 + 30 before, 2 + 2 now."""
    base, newest = variants(("a", 10), ("b", 30)), variants(("a", 2), ("c", 2))
    model = rolling_out(base, newest, 20)
    workers = [
        msgspec.structs.replace(
            a_fleet(one, unified=[URL])[0],
            id=plan.variant,
            plan=plan,
        )
        for one in (base, newest)
        for gang in expand(one)
        for plan in gang
    ]
    assert shape(a_row(model, workers)) == {
        (3, "a"): (pytest.approx(0.2), {"a"}),
        (3, "b"): (pytest.approx(0.6), {"b"}),
        (4, "a"): (pytest.approx(0.1), {"a"}),
        (4, "c"): (pytest.approx(0.1), {"c"}),
    }


def superseded(base, newest, percent=25):
    """A rollout to revision 4 from revision 2, in whose way revision 3 had come so far."""
    return rolling_out(base, newest, percent, from_revision=2)


def test_workers_in_between_serve_with_the_old_ones_each_worker_alike():
    """A rollout that superseded another one: what that one had brought so far."""
    base, newest, between = changed(), changed(seed=1), changed(seed=2)
    model = superseded(base, newest)
    left = a_fleet(between, unified=[URL] * 3)
    new = fleet_of(newest, "new")
    ids = {worker.id for worker in left}
    assert shape(a_row(model, left + new + fleet_of(base, "old"))) == {
        (2, "default"): (pytest.approx(0.75 / 4), {"old-unified"}),
        (3, "default"): (pytest.approx(0.75 * 3 / 4), ids),
        (4, "default"): (0.25, {"new-unified"}),
    }
    assert shape(a_row(model, left + new)) == {
        (3, "default"): (0.75, ids),
        (4, "default"): (0.25, {"new-unified"}),
    }
    assert shape(a_row(model, left)) == {(3, "default"): (1.0, ids)}


def test_workers_in_between_of_a_variant_or_shape_that_nobody_names_serve_too():
    pair = {"name": "between", "engine": "emulator", "topology": DISAGGREGATED}
    base, newest, between = changed(), changed(seed=1), a_declared(variants=[pair])
    model = superseded(base, newest, percent=0)
    row = a_row(model, fleet_of(base, "old") + fleet_of(between, "left"))
    assert shape(row) == {
        (2, "default"): (pytest.approx(0.5), {"old-unified"}),
        (3, "between"): (pytest.approx(0.5), {"left-prefill", "left-decode"}),
    }
    assert [(v.revision, v.disaggregated) for v in row.variants] == [(2, False), (3, True)]


def test_workers_in_between_of_a_variant_without_traffic_get_none():
    def with_weight(weight, **args):
        topology = {**AGGREGATED, "args": args}
        return a_declared(
            variants=[
                {"name": "a", "engine": "emulator", "topology": AGGREGATED},
                {"name": "b", "weight": weight, "engine": "emulator", "topology": topology},
            ]
        )

    base, newest, between = with_weight(0), with_weight(0, seed=1), with_weight(50, seed=2)
    workers = [
        msgspec.structs.replace(a_fleet(between, unified=[URL])[0], id=plan.variant, plan=plan)
        for gang in expand(between)
        for plan in gang
    ]
    assert shape(a_row(superseded(base, newest), workers)) == {
        (2, "a"): (0.75, {"a"}),
        (4, "a"): (0.25, {"a"}),
    }


@pytest.mark.parametrize("state", [None, RolloutState.DONE, RolloutState.ROLLED_BACK])
def test_without_one_under_way_every_ready_worker_is_of_the_one_revision(state):
    base, newest = changed(), changed(seed=1)
    model = rolling_out(base, newest, 25, **({"state": state} if state else {}))
    if state is None:
        model = msgspec.structs.replace(model, rollout=None)
    row = a_row(model, fleet_of(base, "old") + fleet_of(newest, "new"))
    assert shape(row) == {(4, "default"): (1.0, {"old-unified", "new-unified"})}


@given(
    old=st.lists(st.integers(1, 10_000), min_size=1, max_size=5),
    new=st.lists(st.integers(1, 10_000), min_size=1, max_size=5),
    percent=st.integers(0, 100),
)
def test_the_parts_are_exact(old, new, percent):
    one, other = shares(old, new, percent)
    assert sum(other) * 100 == percent * (sum(one) + sum(other))
    assert [weight * sum(old) for weight in one] == [weight * sum(one) for weight in old]
    assert [weight * sum(new) for weight in other] == [weight * sum(other) for weight in new]
