"""Models that share devices by taking turns: never oversold, nobody starves, few switches, and
fewer devices than any other way needs.
"""

import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulation.azure import Arrival
from simulation.pooling.__main__ import compare, main
from simulation.pooling.catalog import SIZES, Served, catalog
from simulation.pooling.engine import STEP_S, Engine, Request
from simulation.pooling.fleets import (
    DEVICE_GIB,
    LIGHTLY,
    STOPPED,
    Fixed,
    NoPlaceError,
    Pooled,
    first_fit,
    replay,
)
from simulation.pooling.load import requests
from simulation.pooling.search import Case, dedicated, packed, pooled, pooled_on

AWAKE_MIN_S = 5.0
# A turn of the controller, the drain, what is under way, the copy, and a start from nothing.
SWITCH_S_MAX = 75.0


def test_the_same_seed_gives_the_same_load():
    models = catalog(40, exponent=1.0, seed=3)

    assert models == catalog(40, exponent=1.0, seed=3)
    assert sum(model.share for model in models) == pytest.approx(1)
    first, again = (requests(models, until_s=60, seed=3) for _ in range(2))
    assert [(r.at, r.model, r.prompt) for r in first] == [(r.at, r.model, r.prompt) for r in again]
    asked = [request.model for request in requests(models, until_s=1800, seed=3)]
    assert asked.count("m00") > 1.5 * asked.count("m01") > 2 * asked.count("m05")


def test_an_engine_alone_takes_as_long_as_its_constants_say():
    size = SIZES[0]
    engine = Engine(Served("m", size, 1.0))
    request = Request(Arrival(0.0, 2000, 101), "m")
    engine.take(request)
    step = 0
    while request.ended_at is None:
        engine.advance(step * STEP_S, 1.0)
        step += 1

    assert request.ttft_s == pytest.approx(2000 / size.prefill_tokens_s)
    assert request.tpot_s == pytest.approx(size.step_s(1, 2050), rel=0.02)


def test_packing_never_puts_more_on_a_device_than_it_has():
    places = first_fit(catalog(40, exponent=1.0, seed=1))

    assert sum(map(len, places)) == 40
    assert all(sum(one.size.claim_gib for one in some) <= DEVICE_GIB for some in places)


def test_a_model_alone_is_never_put_to_sleep():
    (model,) = catalog(1, exponent=1.0, seed=1)
    fleet = Pooled([model], 1, sleeps=LIGHTLY, awake_min_s=AWAKE_MIN_S)
    line = requests((model,), until_s=60, seed=1)
    replay(line, fleet)
    other = requests((model,), until_s=60, seed=1)
    replay(other, Fixed([[model]]))

    assert fleet.switches == fleet.moves == 0
    assert [r.ended_at for r in line] == [r.ended_at for r in other]


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.sampled_from(SIZES), min_size=2, max_size=6),
    devices=st.integers(1, 3),
    asks=st.lists(
        st.tuples(st.floats(0, 120), st.integers(0, 5), st.integers(1, 4000), st.integers(1, 400)),
        min_size=1,
        max_size=40,
    ),
    sleeps=st.sampled_from((LIGHTLY, STOPPED)),
)
def test_nobody_starves_nothing_is_oversold_and_switches_are_few(sizes, devices, asks, sleeps):
    """That nothing is oversold is held by the fleet itself, each turn."""
    models = [Served(f"m{n}", size, 1.0) for n, size in enumerate(sizes)]
    line = [
        Request(Arrival(at, prompt, answer), f"m{number % len(models)}")
        for at, number, prompt, answer in sorted(asks)
    ]
    try:
        fleet = Pooled(models, devices, sleeps=sleeps, awake_min_s=AWAKE_MIN_S)
    except NoPlaceError:
        return
    replay(line, fleet)

    turn_s = AWAKE_MIN_S + SWITCH_S_MAX
    for request in line:
        assert request.ended_at is not None
        assert request.ttft_s <= len(models) * turn_s, "everyone's turn comes"
    for slept_at in fleet.slept_at.values():
        gaps = [after - before for before, after in pairwise(slept_at)]
        assert all(gap >= AWAKE_MIN_S for gap in gaps)
    assert fleet.moves <= len(models) * (1 + line[-1].at // 60 + 10)


@pytest.mark.timeout(300)
def test_a_pool_needs_fewer_devices_than_any_other_way():
    """With room to spare: `make bench-pooling` finds how few it could be."""
    case = Case(exponent=2.0, until_s=900.0, from_s=600.0)
    models = catalog(case.models, exponent=case.exponent, seed=case.seed)

    alone, together = dedicated(models, case).fewest, packed(models, case).fewest
    pool = pooled_on(models, case, 12)

    assert alone is not None
    assert together is not None
    assert pool is not None
    assert pool.devices < together.devices < alone.devices == 40
    assert pool.attained >= 0.99
    # Of the 40 workers none sleeps twice within the time that it must be awake.
    assert 0 < pool.switches_per_hour < 40 * 3600 / case.awake_min_s


def test_the_search_finds_the_fewest_that_keep_it_and_tells_all_it_tried():
    case = Case(exponent=2.0, models=6, until_s=60.0, from_s=0.0)
    models = catalog(case.models, exponent=case.exponent, seed=case.seed)

    found = pooled(models, case, most=4)

    assert found.fewest is not None
    assert found.fewest in found.tried
    assert all(not one.keeps for one in found.tried if one.devices < found.fewest.devices)


@pytest.mark.parametrize(
    ("sleeps", "back_s"), [(LIGHTLY, SIZES[2].wake_s), (STOPPED, SIZES[2].start_s)]
)
def test_who_was_put_to_sleep_is_back_as_soon_as_its_engine_can(sleeps, back_s):
    models = [Served(f"m{n}", SIZES[2], 1.0) for n in range(2)]
    line = [
        Request(Arrival(at, 100, 10), model) for at, model in ((0, "m0"), (100, "m1"), (200, "m0"))
    ]
    replay(line, Pooled(models, 1, sleeps=sleeps, awake_min_s=AWAKE_MIN_S))

    assert back_s < line[2].ttft_s < back_s + 10


def test_the_bench_tells_people_and_machines(tmp_path, capsys):
    out = tmp_path / "pooling.json"
    few = ["--models", "6", "--exponents", "2", "--until-s", "60", "--seeds", "1", "2"]

    main([*few, "--stop", "--ttft-s", "120", "--jobs", "1", "--out", str(out)])

    told = json.loads(out.read_bytes())
    assert [(one["case"]["seed"], one["case"]["stop"]) for one in told] == [(1, True), (2, True)]
    assert [one["way"] for one in told[0]["found"]] == ["dedicated", "first fit", "pool"]
    seen = capsys.readouterr()
    assert "within TTFT 120 s" in seen.out
    assert "2 of 2 cases" in seen.err


def test_where_one_device_is_too_few_for_the_most_popular_no_way_is_compared():
    case = Case(exponent=4.0, models=3, until_s=120.0, from_s=0.0, seed=2)

    told = compare(case)

    assert not told.is_possible
    assert [one.way for one in told.found] == ["dedicated"]
