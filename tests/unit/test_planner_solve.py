"""The joint choice against brute force, and the properties that any choice must have."""

from itertools import product
from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planner_world import Linear, demand, fleet, subject

from pipelines.planner.fleet import Fleet, NodeKind
from pipelines.planner.options import Option, Part, options
from pipelines.planner.plan import plan
from pipelines.planner.rates import Aggregated
from pipelines.planner.solve import PARTS, solve
from pipelines.planner.times import Worker
from registry.spec.topology import Role


@pytest.fixture(autouse=True)
def short_rehearsals(monkeypatch: pytest.MonkeyPatch):
    """What is tested here is the choice; `test_planner_rates` tests what rehearsals say."""
    monkeypatch.setattr("pipelines.planner.plan.REQUESTS", 500)


TIMES = Linear(kv_tokens=1, base_s=1.0, token_s=1.0)
SIZES = (1, 2, 4)


def option(model: str, device: str, size: int, workers: int, rate: float) -> Option:
    part = Part(Role.UNIFIED, workers, Worker("vllm", device, size, 2048))
    return Option(model, (part,), Aggregated(workers, TIMES, 2048), rate, "ttft")


def served(chosen, demands) -> float:
    total = 0
    for asked in demands:
        rate = sum(
            ceil(PARTS * asked.weight * one.rate / asked.rate - 1e-6)
            for one in chosen
            if one.model == asked.model
        )
        total += min(rate, round(PARTS * asked.weight))
    return total / PARTS


def fits(chosen, machines: Fleet) -> bool:
    """Sizes are powers of two and islands their multiples: largest first always finds a place."""
    for device in machines.device_models:
        rooms = [size for size, _ in machines.bins(device)]
        workers = sorted(
            (
                part.worker.devices
                for one in chosen
                if one.device == device
                for part in one.parts
                for _ in range(part.workers)
            ),
            reverse=True,
        )
        for size in workers:
            place = max(range(len(rooms)), key=lambda i: (rooms[i] >= size, -rooms[i]))
            if rooms[place] < size:
                return False
            rooms[place] -= size
    return True


def best(every, demands, machines) -> tuple[float, float, int]:
    """(served, cost, devices) by trying all choices of one option a model and kind of device."""
    groups: dict[tuple[str, str], list[Option | None]] = {}
    for one in every:
        groups.setdefault((one.model, one.device), [None]).append(one)
    found = (0.0, 0.0, 0)
    for picked in product(*groups.values()):
        chosen = [one for one in picked if one]
        if fits(chosen, machines):
            devices = sum(one.devices for one in chosen)
            cost = sum(one.devices * machines.cost(one.device) for one in chosen)
            found = max(found, (served(chosen, demands), -cost, -devices))
    return found[0], -found[1], -found[2]


small = st.lists(
    st.builds(
        option,
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from(["H100", "L40S"]),
        st.sampled_from(SIZES),
        st.integers(1, 3),
        st.floats(0.1, 5.0).map(lambda x: round(x, 1)),
    ),
    min_size=1,
    max_size=7,
)


@settings(max_examples=60, deadline=None)
@given(
    small,
    st.sampled_from([1, 2, 4, 6, 8]),
    st.sampled_from([0, 2]),
    st.sampled_from([1.0, 0.25, 0.5, 3.0]),
)
def test_the_choice_is_as_good_as_the_best_of_all_choices(every, devices, island, cost):
    """Most is served, then at the least cost, then on the fewest devices."""
    machines = Fleet(
        nodes=(
            NodeKind(device_model="H100", devices=devices, island=island if devices > 1 else 0),
            NodeKind(device_model="L40S", devices=4, cost=cost),
        )
    )
    demands = [
        demand(name, rate=r, weight=w) for name, r, w in (("a", 2, 1), ("b", 3, 2), ("c", 1, 1))
    ]
    found = solve(demands, every, machines)
    chosen = [one for several in found.chosen.values() for one in several]
    wanted, cheapest, fewest = best(every, demands, machines)
    assert found.served == pytest.approx(wanted, abs=1e-9)
    assert found.bound == pytest.approx(wanted, abs=1e-9)
    assert (found.cost(machines), found.devices) == (cheapest, fewest)
    assert fits(chosen, machines)


@settings(max_examples=25, deadline=None)
@given(small)
def test_the_order_of_models_and_options_changes_nothing(every):
    demands = [demand(name, rate=2) for name in "abc"]
    machines = fleet(H100=4, L40S=4)
    one = solve(demands, every, machines)
    two = solve(demands[::-1], every[::-1], machines)
    assert one == two


def test_a_worker_is_not_laid_over_two_islands():
    wide = [option("a", "H100", 4, 1, 5.0)]
    whole = Fleet(nodes=(NodeKind(device_model="H100", devices=4),))
    halves = Fleet(nodes=(NodeKind(device_model="H100", devices=4, island=2),))
    asked = [demand("a", rate=5.0)]
    assert solve(asked, wide, whole).served == 1.0
    assert solve(asked, wide, halves).served == 0.0


def test_what_is_left_of_several_islands_is_no_place_for_a_worker():
    sixes = Fleet(nodes=(NodeKind(device_model="H100", count=2, devices=6),))
    asked = [demand("a", rate=5.0)]
    assert solve(asked, [option("a", "H100", 4, 2, 5.0)], sixes).served == 1.0
    assert solve(asked, [option("a", "H100", 4, 3, 5.0)], sixes).served == 0.0


def test_a_fleet_of_a_thousand_nodes_is_solved_as_one_that_is_just_large_enough():
    every = [
        option(name, device, size, workers, rate * workers * size)
        for name in "abc"
        for device, rate in (("H100", 1.0), ("L40S", 0.4))
        for size in SIZES
        for workers in (1, 2, 3, 5)
    ]
    demands = [demand(name, rate=r) for name, r in (("a", 4.0), ("b", 7.0), ("c", 11.0))]
    small, large = (solve(demands, every, fleet(H100=n, L40S=n)) for n in (24, 8000))
    assert small.served == large.served == 3.0
    assert small.devices == large.devices


@pytest.mark.parametrize("count", [2, 4, 8])
def test_options_have_room_on_the_fleet_and_none_is_beaten_by_another(count):
    found = options(
        demand(rate=50), subject(demand()).times_of, fleet(H100=count), engines=["vllm"]
    )
    assert found
    assert all(one.devices <= count for one in found)
    for one in found:
        for other in found:
            if other is not one and other.is_disaggregated == one.is_disaggregated:
                beats = (
                    other.devices <= one.devices
                    and other.rate >= one.rate
                    and max(p.worker.devices for p in other.parts)
                    <= max(p.worker.devices for p in one.parts)
                )
                assert not beats, (one.label, other.label)


def two(rate: float, **change):
    return [
        subject(demand("chat", rate=rate, **change), 16),
        subject(demand("code", rate=rate / 2, prompt=3000, answer=100, **change), 30),
    ]


def test_more_devices_never_serve_less():
    goodputs = [plan(two(60.0), fleet(H100=n)).goodput for n in (1, 2, 4, 8)]
    assert goodputs == sorted(goodputs)
    assert goodputs[-1] > goodputs[0]


def test_a_looser_slo_is_never_worse():
    goodputs = [plan(two(60.0, tpot_s=t), fleet(H100=4)).goodput for t in (0.01, 0.02, 0.04)]
    assert goodputs == pytest.approx(sorted(goodputs), rel=0.03)
    assert goodputs[-1] > goodputs[0]


def test_the_order_of_models_is_irrelevant_to_the_plan():
    machines = fleet(H100=4, L40S=4)
    assert plan(two(20.0), machines) == plan(two(20.0)[::-1], machines)


def test_everything_chosen_has_been_rehearsed():
    found = plan(two(20.0), fleet(H100=4, L40S=4))
    assert found.choices
    assert all(one.is_rehearsed for choice in found.choices for one in choice.options)
    assert found.devices == sum(found.devices_by_model.values())


def test_a_model_that_fits_nowhere_says_why():
    (choice,) = plan([subject(demand("big"), 200.0)], fleet(L40S=2)).choices
    assert (choice.options, choice.served) == ((), 0.0)
    assert "no shape of it" in choice.why
