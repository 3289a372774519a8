"""A client stays with its variant and revision, and each of them has its share of all clients."""

from collections import Counter
from itertools import pairwise
from random import Random

import msgspec
import pytest
from gateway_world import a_declared, a_fleet, a_table

from gateway.routing.ask import Ask
from gateway.routing.pick import FULL
from gateway.routing.router import Router
from gateway.routing.sticky import stick
from gateway.routing.table import VariantRow
from registry.spec import Sticky

CLIENTS = [f"key_{number:08x}" for number in range(20_000)]


def a_row(name="default", weight=100, revision=1) -> VariantRow:
    return VariantRow(
        name=name,
        weight=weight,
        engine="emulator",
        disaggregated=False,
        bypass_tokens=0,
        unified=(),
        prefill=(),
        decode=(),
        partners={},
        revision=revision,
    )


def a_canary(percent, names=("a", "b")):
    """Two variants of 30 and 70 in either revision."""
    weights = dict(zip(names, (30, 70), strict=True))
    return [
        a_row(name, weight * part, revision)
        for revision, part in ((1, 100 - percent), (2, percent))
        if part
        for name, weight in weights.items()
    ]


def homes(rows, clients=CLIENTS):
    found = {}
    for client in clients:
        row = stick(rows, client)
        found[client] = (row.name, row.revision)
    return found


@pytest.mark.parametrize("weights", [(1, 1), (5, 95), (1, 2, 7), (10_000, 1)])
def test_each_variant_has_its_weights_share_of_clients(weights):
    rows = [a_row(f"v{index}", weight) for index, weight in enumerate(weights)]
    counts = Counter(name for name, _ in homes(rows).values())
    for row in rows:
        share = row.weight / sum(weights)
        error = (share * (1 - share) / len(CLIENTS)) ** 0.5
        assert counts[row.name] / len(CLIENTS) == pytest.approx(share, abs=4 * error)


def test_in_a_rollout_variants_and_revisions_have_their_shares_together():
    counts = Counter(homes(a_canary(25)).values())
    shares = {("a", 1): 0.225, ("b", 1): 0.525, ("a", 2): 0.075, ("b", 2): 0.175}
    for row, share in shares.items():
        assert counts[row] / len(CLIENTS) == pytest.approx(share, abs=0.015)


def test_who_is_at_the_new_revision_stays_there_while_its_percent_grows():
    steps = [homes(a_canary(percent)) for percent in (0, 5, 25, 60, 100)]
    for before, after in pairwise(steps):
        for client in CLIENTS:
            name, revision = before[client]
            assert after[client] in ((name, revision), (name, 2))


def test_going_back_takes_the_same_way():
    assert homes(a_canary(5)) == homes(a_canary(5)[::-1])


def test_a_variant_that_comes_takes_clients_and_moves_no_other():
    two, three = [a_row("a"), a_row("b")], [a_row("a"), a_row("b"), a_row("c")]
    before, after = homes(two), homes(three)
    moved = {after[client] for client in CLIENTS if before[client] != after[client]}
    assert moved == {("c", 1)}


def test_a_row_without_weight_is_taken_only_when_there_is_no_other():
    rows = [a_row("a", 0), a_row("b", 1)]
    assert {name for name, _ in homes(rows, CLIENTS[:500]).values()} == {"b"}
    assert stick(rows[:1], "x").name == "a"


def test_clients_of_one_canary_are_not_those_of_the_next():
    def canary(old, new):
        rows = [a_row("a", 95, old), a_row("a", 5, new)]
        return {client for client in CLIENTS if stick(rows, client).revision == new}

    first, second = canary(1, 2), canary(2, 3)
    assert len(first & second) < 0.2 * len(first)


# --- through the router


def a_model(sticky, workers=1):
    variants = [
        {"name": name, "weight": 50, "engine": "emulator", "topology": {"type": "aggregated"}}
        for name in ("a", "b")
    ]
    model = a_declared(variants=variants, routing={"sticky": sticky})
    fleet = []
    for variant in variants:
        lone = a_declared(variants=[variant])
        fleet += [
            msgspec.structs.replace(worker, id=f"{variant['name']}-{worker.id}")
            for worker in a_fleet(lone, unified=["http://10.0.0.1:9000"] * workers)
        ]
    return a_table(models=[model], workers=fleet).models["m"]


def an_ask(key_id="key_1", session=""):
    return Ask(
        prompt=b"hi", prompt_tokens=1, fits_pair=lambda _: False, key_id=key_id, session=session
    )


def variants_of(model, asks, *, dead=(), avoid=()):
    router = Router(lambda: 0.0, Random(1).random)
    found = [router.route(model, ask, dead=set(dead), avoid=set(avoid)) for ask in asks]
    return [route.variant.name for route in found]


def test_by_key_all_requests_of_a_key_go_one_way_whatever_their_session():
    model = a_model(Sticky.KEY)
    for key_id in CLIENTS[:20]:
        asks = [an_ask(key_id, session) for session in ("", "s1", "s2", "s3")]
        assert len(set(variants_of(model, asks))) == 1
    assert len(set(variants_of(model, map(an_ask, CLIENTS[:20])))) == 2


def test_by_session_each_conversation_goes_its_own_way_and_without_one_the_key_counts():
    model = a_model(Sticky.SESSION)
    sessions = [f"s{number}" for number in range(20)]
    ways = {session: variants_of(model, [an_ask("k", session)] * 3) for session in sessions}
    assert all(len(set(way)) == 1 for way in ways.values())
    assert {way[0] for way in ways.values()} == {"a", "b"}
    assert len(set(variants_of(model, [an_ask("k")] * 20))) == 1
    assert all(
        variants_of(model, [an_ask(key_id, "s1")]) == ways["s1"][:1] for key_id in CLIENTS[:9]
    )


def test_without_it_requests_are_drawn():
    assert len(set(variants_of(a_model(Sticky.NONE), [an_ask()] * 30))) == 2


def test_when_its_variant_cannot_answer_the_client_goes_to_the_next():
    model = a_model(Sticky.KEY)
    (home,) = variants_of(model, [an_ask()])
    (worker,) = next(row for row in model.variants if row.name == home).unified
    (other,) = {"a", "b"} - {home}
    assert variants_of(model, [an_ask()], dead=[worker.worker_id]) == [other]
    assert variants_of(model, [an_ask()], avoid=[worker.worker_id]) == [other]


def test_where_every_variant_has_failed_the_client_is_at_home_again():
    model = a_model(Sticky.KEY)
    (home,) = variants_of(model, [an_ask()])
    everybody = [row.unified[0].worker_id for row in model.variants]
    assert variants_of(model, [an_ask()], avoid=everybody) == [home]
    router = Router(lambda: 0.0)
    limits = msgspec.structs.replace(model.limits, in_flight_per_worker=1)
    full = msgspec.structs.replace(model, limits=limits)
    for _ in range(2):
        route = router.route(full, an_ask(), dead=set(), avoid=set())
        router.enter(route.answerer, an_ask())
    assert router.route(full, an_ask(), dead=set(), avoid=set()) is FULL
