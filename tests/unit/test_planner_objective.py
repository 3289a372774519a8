"""What a plan is to be best in: all of the traffic or no plan, its cost; and headroom."""

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planner_world import Linear, demand, fleet, subject

from pipelines.planner.demand import Objective
from pipelines.planner.fleet import Fleet, NodeKind
from pipelines.planner.options import Option, Part
from pipelines.planner.plan import OVER, Rehearsals, choose, confirm, plan
from pipelines.planner.rates import Aggregated
from pipelines.planner.times import NoDataError, Worker
from registry.errors import SpecError
from registry.spec.topology import Role

TIMES = Linear(kv_tokens=1, base_s=1.0, token_s=1.0)
DEMANDS = [demand("a", rate=2), demand("b", rate=3, weight=2)]


@pytest.fixture(autouse=True)
def short_rehearsals(monkeypatch: pytest.MonkeyPatch):
    """What is tested here is the choice; `test_planner_rates` tests what rehearsals say."""
    monkeypatch.setattr("pipelines.planner.plan.REQUESTS", 500)


class Borne:
    """In place of rehearsals: every option holds what its formula says."""

    def __init__(self) -> None:
        self.barred: set[str] = set()
        self.crowds: dict[tuple[str, int], float] = {}

    def known(self, option: Option) -> Option:
        return Option(
            option.model, option.parts, option.group, option.rate, option.binding, is_rehearsed=True
        )


def option(model: str, device: str, workers: int, rate: float) -> Option:
    part = Part(Role.UNIFIED, workers, Worker("vllm", device, 1, 2048))
    return Option(model, (part,), Aggregated(workers, TIMES, 2048), rate, "ttft")


def cheapest(every: list[Option], machines: Fleet) -> tuple[float, int] | None:
    """(cost, devices) of the best of all choices that serve all; None where none does."""
    groups: dict[tuple[str, str], list[Option | None]] = {}
    for one in every:
        groups.setdefault((one.model, one.device), [None]).append(one)
    found = []
    for picked in product(*groups.values()):
        chosen = [one for one in picked if one]
        holds = all(
            sum(one.rate for one in chosen if one.model == asked.model) >= asked.rate
            for asked in DEMANDS
        )
        held = dict.fromkeys(machines.device_models, 0)
        for one in chosen:
            held[one.device] += one.devices
        if holds and all(held[name] <= machines.devices_of(name) for name in held):
            cost = sum(count * machines.cost(name) for name, count in held.items())
            found.append((cost, sum(held.values())))
    return min(found, default=None)


small = st.lists(
    st.builds(
        option,
        st.sampled_from(["a", "b"]),
        st.sampled_from(["H100", "L40S"]),
        st.integers(1, 4),
        st.sampled_from([0.5, 1.0, 1.5, 2.0, 3.0, 4.5]),
    ),
    min_size=2,
    max_size=9,
)


@settings(max_examples=80, deadline=None)
@given(small, st.sampled_from([2, 4, 8]), st.sampled_from([0.25, 0.5, 1.0, 2.0]))
def test_all_is_served_at_the_least_cost_of_all_choices_or_there_is_no_plan(every, devices, cost):
    machines = Fleet(
        nodes=(
            NodeKind(device_model="H100", devices=devices),
            NodeKind(device_model="L40S", devices=4, cost=cost),
        )
    )
    wanted = cheapest(every, machines)

    def chosen(objective: Objective):
        return choose(
            DEMANDS, every, machines, Borne(), objective=objective, with_alternatives=False
        )

    if wanted is None:
        with pytest.raises(SpecError, match="is too small") as error:
            chosen(Objective.DEVICES)
        assert error.value.field == "fleet"
        assert any(one.served < 1 for one in chosen(Objective.GOODPUT).choices)
    else:
        made = chosen(Objective.DEVICES)
        assert all(one.served == 1 for one in made.choices)
        assert (made.cost, made.devices) == wanted


def two(rate: float):
    return [
        subject(demand("chat", rate=rate), 16),
        subject(demand("code", rate=rate / 2, prompt=3000, answer=100), 30),
    ]


def test_where_goodput_serves_all_no_more_is_needed():
    machines = fleet(H100=4, L40S=4)
    goodput = plan(two(4.0), machines)
    devices = plan(two(4.0), machines, objective=Objective.DEVICES)
    assert all(choice.served == 1 for choice in goodput.choices)
    assert (devices.cost, devices.devices) <= (goodput.cost, goodput.devices)
    assert sum(devices.devices_by_model.values()) == devices.devices


def test_a_larger_fleet_than_is_needed_needs_no_more():
    small, large = (
        plan(two(4.0), fleet(H100=count), objective=Objective.DEVICES) for count in (8, 64)
    )
    assert small.devices == large.devices < 8


def test_who_is_left_short_is_named_with_what_it_would_have():
    machines = fleet(H100=1)
    asked = [*two(60.0), subject(demand("big"), 500.0)]
    with pytest.raises(SpecError) as error:
        plan(asked, machines, objective=Objective.DEVICES)
    goodput = {choice.demand.model: choice for choice in plan(asked, machines).choices}
    for name, choice in goodput.items():
        assert choice.served < 1
        assert f"{name} has {choice.rate:.3g} of {choice.demand.rate:.3g} requests/s" in str(
            error.value
        )
    assert "no shape of it is within the SLO" in error.value.message


@pytest.mark.parametrize(("cost", "on"), [(1.0, "H100"), (0.1, "L40S")])
def test_a_cheaper_kind_is_taken_where_it_costs_less(cost, on):
    """An H100 does what several L40S do."""
    machines = Fleet(
        nodes=(
            NodeKind(device_model="H100", cost=1.0),
            NodeKind(device_model="L40S", cost=cost),
        )
    )
    made = plan([subject(demand(rate=12.0), 16)], machines)
    (choice,) = made.choices
    assert {option.device for option in choice.options} == {on}
    assert made.cost == pytest.approx(made.devices * cost)


def test_headroom_is_planned_for_and_what_is_served_is_told_at_the_rate_asked():
    asked = demand(rate=8.0)
    more = demand(rate=8.0, headroom=0.5)
    machines = fleet(H100=8)
    plain, spare, larger = (
        plan([subject(one)], machines).choices[0] for one in (asked, more, demand(rate=12.0))
    )
    assert spare.demand.rate == 8.0
    assert spare.options == larger.options
    assert spare.rate >= 12.0 > plain.rate
    assert (spare.served, spare.goodput) == (1.0, 8.0)
    ((_, outcome),) = confirm(spare, seed=7)
    ((_, crowded),) = confirm(larger, seed=7)
    assert outcome.ttft_s[1] < crowded.ttft_s[1], "it is confirmed at the rate asked"


def test_a_fleet_that_leaves_less_headroom_than_asked_says_how_much():
    rehearsals = Rehearsals(0, over=OVER)
    asked = demand("a", rate=2, headroom=1.0)
    rehearsals._rates["a", option("a", "H100", 1, 2.5).parts] = 2.5
    made = choose([asked], [option("a", "H100", 1, 2.5)], fleet(H100=1), rehearsals)
    assert made.choices[0].why == "the devices of the fleet: headroom is 25% instead of 100%"
    assert made.choices[0].served == 1.0


def test_a_model_of_which_nothing_is_measured_there_says_what_helps():
    def times_of(worker: Worker):
        raise NoDataError(f"nothing of it on {worker.device}")

    one = subject(demand("new"))
    unknown = type(one)(demand=one.demand, times_of=times_of, engines=one.engines)
    (choice,) = plan([unknown], fleet(H100=2)).choices
    assert (choice.options, choice.served) == ((), 0.0)
    assert "nothing has been measured of it" in choice.why
    assert "measured_as" in choice.why
