"""A conversation stays where it is, unless its worker goes or has far more than its share."""

from collections import Counter

from gateway_world import AGGREGATED, a_declared, a_fleet, a_table
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.routing.load import Load
from gateway.routing.session import of_session

SESSIONS = [f"conversation-{number}" for number in range(400)]


def workers(count):
    model = a_declared(topology=AGGREGATED)
    fleet = a_fleet(model, unified=["http://10.0.0.1:9000"] * count)
    return a_table(models=[model], workers=fleet).models["m"].variants[0].unified


def homes(endpoints):
    return {session: of_session(endpoints, session, {}).worker_id for session in SESSIONS}


EIGHT = workers(8)


@given(gone=st.integers(0, 7))
@settings(deadline=None)
def test_when_a_worker_goes_only_its_sessions_move_and_they_spread(gone):
    before = homes(EIGHT)
    after = homes([endpoint for n, endpoint in enumerate(EIGHT) if n != gone])
    moved = {session for session in SESSIONS if before[session] != after[session]}
    assert moved == {s for s in SESSIONS if before[s] == EIGHT[gone].worker_id}
    assert len({after[session] for session in moved}) == 7


def test_when_a_worker_comes_sessions_move_only_to_it():
    before, after = homes(EIGHT[:7]), homes(EIGHT)
    moved = {after[session] for session in SESSIONS if before[session] != after[session]}
    assert moved == {EIGHT[7].worker_id}


def test_sessions_spread_evenly_and_the_same_in_every_process():
    counts = Counter(homes(EIGHT).values())
    assert len(counts) == 8
    assert max(counts.values()) < 2 * 400 / 8
    found = [of_session(EIGHT, session, {}).worker_id for session in SESSIONS[:6]]
    assert found == KNOWN


@given(legs=st.lists(st.integers(0, 30), min_size=8, max_size=8), session=st.text(max_size=20))
@settings(deadline=None)
def test_no_worker_gets_a_quarter_more_than_its_share(legs, session):
    loads = {}
    for endpoint, count in zip(EIGHT, legs, strict=True):
        loads[endpoint.worker_id] = load = Load()
        load.legs = count
    chosen = of_session(EIGHT, session, loads)
    assert loads[chosen.worker_id].legs + 1 <= -(-(sum(legs) + 1) * 5 // (4 * 8))


def test_order_does_not_matter():
    assert homes(EIGHT) == homes(EIGHT[::-1])


# What is computed here today; a change moves every conversation at the next release.
KNOWN = ["m-unified-2", "m-unified-1", "m-unified-4", "m-unified-3", "m-unified-7", "m-unified-4"]
