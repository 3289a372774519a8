"""The router's memory: what goes in comes out again, limits hold, policies find their worker."""

from collections import Counter
from random import Random

import msgspec
import pytest
from gateway_world import AGGREGATED, DISAGGREGATED, a_declared, a_fleet, a_table
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.routing.ask import Ask
from gateway.routing.kv_index import BlockStored
from gateway.routing.pick import FULL, Mode, Route
from gateway.routing.router import Router
from registry.spec import RoutingPolicy

URL = "http://10.0.0.1:9000"
NOBODY: set[str] = set()


def a_row(policy="least_loaded", *, in_flight=256, **counts):
    topology = AGGREGATED if "unified" in counts else DISAGGREGATED
    model = a_declared(
        topology=topology,
        routing={"policy": policy},
        limits={"in_flight_per_worker": in_flight},
    )
    fleet = a_fleet(model, **{role: [URL] * count for role, count in counts.items()})
    return a_table(models=[model], workers=fleet).models["m"]


def a_router(seed=1):
    return Router(lambda: 0.0, Random(seed).random)


def an_ask(prompt=b'"hello"', *, tokens=None, session="", pair=True):
    return Ask(
        prompt=prompt,
        prompt_tokens=len(prompt) // 4 if tokens is None else tokens,
        fits_pair=lambda variant: pair,
        session=session,
    )


def a_prompt(text, count=20):
    return b'"' + (text.encode() * 1024)[:1024] * count + b'"'


def routed(router, row, ask, *, dead=NOBODY, avoid=NOBODY):
    return router.route(row, ask, dead=set(dead), avoid=set(avoid))


steps = st.lists(st.sampled_from(["enter", "answered", "leave"]), max_size=25)


@given(policy=st.sampled_from(RoutingPolicy), steps=steps, seed=st.integers(0, 9))
@settings(deadline=None)
def test_when_all_have_left_no_load_is_left(policy, steps, seed):
    router, row, open_tickets = a_router(seed), a_row(policy, unified=3), []
    loads = router._loads
    chance = Random(seed)
    for number, step in enumerate(steps):
        if step == "enter":
            ask = an_ask(a_prompt(str(number % 3), number % 5), session=str(number % 4))
            open_tickets.append(router.enter(routed(router, row, ask).answerer, ask))
        elif open_tickets and step == "answered":
            chance.choice(open_tickets).answered()
        elif open_tickets:
            open_tickets.pop(chance.randrange(len(open_tickets))).leave()
        assert sum(router.in_flight.values()) == len(open_tickets)
        assert all(load.prefill_tokens >= 0 <= load.context_tokens for load in loads.values())
    for ticket in open_tickets:
        ticket.leave()
    assert router.in_flight == {}
    assert not any(load.prefill_tokens or load.context_tokens for load in loads.values())


def test_an_answer_turns_prefill_into_context_once():
    router, row = a_router(), a_row(unified=1)
    ask = an_ask(tokens=700)
    ticket = router.enter(routed(router, row, ask).answerer, ask)
    load = router._loads["m-unified-0"]
    assert (load.prefill_tokens, load.context_tokens) == (700, 0)
    for _ in range(2):
        ticket.answered()
        assert (load.prefill_tokens, load.context_tokens) == (0, 700)


def test_a_ticket_leaves_once():
    router, row = a_router(), a_row(unified=1)
    ticket = router.enter(row.variants[0].unified[0], an_ask())
    ticket.leave()
    with pytest.raises(AssertionError, match="m-unified-0"):
        ticket.leave()


def test_admission_is_told_of_each_leg_that_left():
    router, row, left = a_router(), a_row(unified=1), []
    router.on_leave = left.append
    (endpoint,) = row.variants[0].unified
    router.enter(endpoint, an_ask()).leave()
    assert left == [endpoint]


@given(
    policy=st.sampled_from(RoutingPolicy),
    busy=st.lists(st.integers(0, 2), min_size=4, max_size=4),
    dead=st.sets(st.integers(0, 3)),
    avoid=st.sets(st.integers(0, 3)),
    seed=st.integers(0, 99),
)
@settings(deadline=None)
def test_no_policy_uses_a_dead_or_a_full_worker(policy, busy, dead, avoid, seed):
    router, row = a_router(seed), a_row(policy, in_flight=2, unified=4)
    endpoints = row.variants[0].unified
    for endpoint, count in zip(endpoints, busy, strict=True):
        for _ in range(count):
            router.enter(endpoint, an_ask(a_prompt("x")))
    name = [endpoint.worker_id for endpoint in endpoints]
    ask = an_ask(a_prompt("x"), session="s")
    route = routed(router, row, ask, dead={name[n] for n in dead}, avoid={name[n] for n in avoid})
    alive = set(range(4)) - dead
    usable = alive - avoid or alive
    free = {n for n in usable if busy[n] < 2}
    if not alive:
        assert route is None
    elif not free:
        assert route is FULL
    else:
        assert name.index(route.answerer.worker_id) in free


def test_a_full_variant_gives_its_traffic_to_another():
    variants = [
        {"name": name, "engine": "emulator", "weight": weight, "topology": AGGREGATED}
        for name, weight in (("big", 1000), ("small", 1))
    ]
    limits = {"in_flight_per_worker": 1}
    fleet = [
        msgspec.structs.replace(worker, id=variant["name"])
        for variant in variants
        for worker in a_fleet(a_declared(variants=[variant], limits=limits), unified=[URL])
    ]
    model = a_declared(variants=variants, limits=limits)
    row = a_table(models=[model], workers=fleet).models["m"]
    router = Router(lambda: 0.0, lambda: 0.0)
    for expected in ("big", "small"):
        route = routed(router, row, an_ask())
        assert route.answerer.worker_id == expected
        router.enter(route.answerer, an_ask())
    assert routed(router, row, an_ask()) is FULL


def test_round_robin_takes_each_in_turn():
    router, row = a_router(), a_row("round_robin", unified=3)
    chosen = [routed(router, row, an_ask()).answerer.worker_id for _ in range(6)]
    assert chosen == ["m-unified-0", "m-unified-1", "m-unified-2"] * 2


def test_prefix_stays_with_the_worker_that_saw_the_prompt():
    router, row = a_router(), a_row("prefix", unified=8)
    homes = {}
    for turn in range(1, 6):
        for talk in "abcdef":
            ask = an_ask(a_prompt(talk, 8 * turn))
            route = routed(router, row, ask)
            assert route.answerer.worker_id == homes.setdefault(talk, route.answerer.worker_id)
            router.enter(route.answerer, ask).leave()
    assert len(set(homes.values())) > 1


def test_prefix_leaves_a_busy_worker_for_an_idle_one():
    router, row = a_router(), a_row("prefix", unified=2)
    ask = an_ask(a_prompt("a"))
    home = routed(router, row, ask).answerer
    router.enter(home, ask).leave()
    router.enter(home, an_ask(tokens=100_000))
    assert routed(router, row, ask).answerer is not home


def test_only_what_is_not_cached_counts_as_prefill():
    router, row = a_router(), a_row("prefix", unified=1)
    (home,) = row.variants[0].unified
    ask = an_ask(a_prompt("a", 20))
    for computed in (ask.tokens, ask.tokens - 20 * 256):
        routed(router, row, ask)
        ticket = router.enter(home, ask)
        assert router._loads[home.worker_id].prefill_tokens == pytest.approx(computed, abs=2)
        ticket.leave()


def test_a_second_try_looks_into_the_caches_anew():
    router, row = a_router(), a_row("prefix", unified=2)
    home, other = row.variants[0].unified
    ask = an_ask(a_prompt("a", 20))
    routed(router, row, ask)
    router.enter(home, an_ask()).leave()
    router._prefixes.learn(home.worker_id, ask.blocks)
    routed(router, row, ask, dead={other.worker_id})
    router.enter(home, ask)
    assert router._loads[home.worker_id].prefill_tokens < 10


def test_of_a_worker_heard_late_the_gateways_own_memory_counts_too():
    """It does not tell again of what it held before, even when that is used."""
    router, row = a_router(), a_row("kv_events", unified=2)
    tokens = tuple(range(640))
    ask = an_ask(a_prompt("a"), tokens=640)
    ask.token_ids = tokens
    ask.policy = RoutingPolicy.KV_EVENTS
    used, other = row.variants[0].unified
    router.enter(used, ask).leave()
    router.kv.apply(other.worker_id, [BlockStored([1, 2], None, list(tokens[:32]), 16)])
    assert routed(router, row, ask).answerer is used
    router.kv.begins(used.worker_id)
    assert routed(router, row, ask).answerer is other


def test_kv_events_follows_the_engines_word_over_its_own_memory():
    router, row = a_router(), a_row("kv_events", unified=3)
    tokens = tuple(range(640))
    ask = an_ask(a_prompt("a"), tokens=640)
    ask.token_ids = tokens
    ask.policy = RoutingPolicy.KV_EVENTS
    endpoints = row.variants[0].unified
    router.enter(endpoints[0], ask).leave()
    for endpoint in endpoints[:2]:
        router.kv.begins(endpoint.worker_id)
    router.kv.apply(endpoints[1].worker_id, [BlockStored([1, 2], None, list(tokens[:32]), 16)])
    assert routed(router, row, ask).answerer is endpoints[1]


def test_kv_events_without_tokens_or_events_goes_by_the_gateways_memory():
    router, row = a_router(), a_row("kv_events", unified=3)
    ask = an_ask(a_prompt("a"))
    home = row.variants[0].unified[2]
    router.enter(home, ask)
    ask.policy = RoutingPolicy.KV_EVENTS
    router.enter(home, ask).leave()
    assert routed(router, row, ask).answerer is home
    ask.token_ids = tuple(range(640))
    assert routed(router, row, ask).answerer is home


def test_without_a_session_id_the_load_decides():
    router, row = a_router(), a_row("session", unified=2)
    busy, idle = row.variants[0].unified
    router.enter(busy, an_ask(tokens=1000))
    assert routed(router, row, an_ask()).answerer is idle


@pytest.mark.parametrize("policy", ["prefix", "kv_events"])
def test_of_a_pair_the_prefill_worker_is_chosen_by_prompt_and_decode_by_load(policy):
    router, row = a_router(), a_row(policy, prefill=4, decode=2)
    ask = an_ask(a_prompt("a"))
    first = routed(router, row, ask)
    assert first.mode is Mode.DISAGGREGATED
    decode = router.enter(first.answerer, ask)
    router.enter(first.prefill, ask).leave()
    for _ in range(10):
        second = routed(router, row, ask)
        assert second.prefill is first.prefill
        assert second.answerer is not first.answerer
    decode.leave()


def test_another_prefill_worker_is_none_of_those_that_failed():
    router, row = a_router(), a_row("prefix", prefill=3, decode=1)
    ask = an_ask(a_prompt("a"))
    route = routed(router, row, ask)
    failed = {route.prefill.worker_id}
    other = router.other_prefill(row, ask, route, dead=failed, avoid=set())
    assert other.worker_id not in failed
    failed.add(other.worker_id)
    last = router.other_prefill(row, ask, route, dead=set(), avoid=failed)
    assert last.worker_id not in failed
    failed.add(last.worker_id)
    assert router.other_prefill(row, ask, route, dead=failed, avoid=set()) is None


def test_workers_that_are_gone_are_forgotten_once_their_legs_have_left():
    router, row = a_router(), a_row("prefix", unified=2)
    old, new = row.variants[0].unified
    ask = an_ask(a_prompt("a"))
    routed(router, row, ask)
    ticket = router.enter(old, ask)
    router.keep(frozenset({new.worker_id}), frozenset({"m"}))
    assert router.in_flight == {old.worker_id: 1}
    assert len(router._prefixes) == 0
    ticket.leave()
    router.keep(frozenset({new.worker_id}), frozenset())
    assert not router._loads
    assert not router._turns


@pytest.mark.parametrize("policy", list(RoutingPolicy))
def test_the_same_seed_makes_the_same_choices(policy):
    def choices():
        router, row = a_router(seed=7), a_row(policy, unified=5)
        for number in range(50):
            ask = an_ask(a_prompt(str(number % 7), number % 11), session=str(number % 3))
            route = routed(router, row, ask)
            assert isinstance(route, Route)
            router.enter(route.answerer, ask)
            yield route.answerer.worker_id

    first = list(choices())
    assert first == list(choices())
    assert len(Counter(first)) > 1
