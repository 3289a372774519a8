"""A plan before the project's own router, autoscaler and scheduler: under bursts, and laid."""

from collections.abc import Iterator

import pytest
from planner_world import demand, fleet, node_reports, subject, times_of
from simulation.autoscaling.brain import Brain
from simulation.planning.bursts import GROWS_MAX, at_rate, autoscaled, bursts
from simulation.planning.headlines import pair_of
from simulation.planning.placing import NoPlaceError, laid
from simulation.planning.pool_rules import pool_by_rules
from simulation.planning.router import chooser

from pipelines.planner.elastic import rehearse_scaled
from pipelines.planner.engine import Arrival
from pipelines.planner.plan import Choice, plan
from pipelines.planner.pools import member_of
from pipelines.planner.rehearsal import poisson
from pipelines.planner.solve import Pool
from registry.spec import Role

MEAN = 6.0
QUIET_S, LOUD_S = 240.0, 120.0


@pytest.fixture(scope="module")
def choice() -> Choice:
    (found,) = plan([subject(demand(rate=MEAN), 130.0)], fleet(H100=4)).choices
    assert found.options
    assert found.served == 1.0
    return found


def waves(choice: Choice, count: int) -> Iterator[Arrival]:
    """Four minutes of half the rate, two of twice as much, and so on."""
    asked = choice.demand
    for number in range(count):
        begin_s = number * (QUIET_S + LOUD_S)
        for seed, since_s, span_s, rate in (
            (number, begin_s, QUIET_S, MEAN / 2),
            (100 + number, begin_s + QUIET_S, LOUD_S, 2 * MEAN),
        ):
            for one in poisson(asked, rate, seed=seed, requests=round(rate * span_s)):
                if one.at_s < span_s:
                    yield Arrival(since_s + one.at_s, one.length)


def test_bursts_of_minutes_are_what_the_autoscaler_helps_with_and_what_it_costs_is_told(choice):
    arrivals = list(waves(choice, 4))
    seen = bursts(choice, arrivals, seed=1)
    assert seen == bursts(choice, arrivals, seed=1), "deterministic"
    assert seen.share < choice.demand.share
    assert seen.share_scaled > seen.share + 0.05
    assert seen.device_hours < seen.device_hours_scaled < GROWS_MAX * seen.device_hours
    devices = sum(option.devices for option in choice.options)
    assert seen.device_hours == pytest.approx(devices * seen.minutes / 60)


def test_a_burst_of_seconds_is_over_before_a_worker_has_started(choice):
    """So that nobody takes what is shown for more than it is."""
    (option,) = choice.options
    calm = poisson(choice.demand, MEAN / 2, seed=1, requests=150)
    loud = [
        Arrival(50.0 + one.at_s, one.length)
        for one in poisson(choice.demand, 10 * MEAN, seed=2, requests=150)
    ]
    arrivals = sorted([*calm, *loud], key=lambda one: one.at_s)
    seen = bursts(choice, at_rate(arrivals, len(arrivals) / arrivals[-1].at_s), seed=1)
    assert arrivals[-1].at_s < 60 + 55
    assert seen.share_scaled == seen.share
    assert option.group


def test_the_autoscaler_stays_between_the_planned_workers_and_twice_as_many(choice):
    (option,) = choice.options
    brain = Brain(autoscaled(choice, option))
    arrivals = poisson(choice.demand, 4 * MEAN, seed=1, requests=2000)
    seen = rehearse_scaled(
        option.group, choice.demand, arrivals, brain, choose=chooser(1), start_s=30.0
    )
    planned: dict[Role, int] = {part.role: part.workers for part in option.parts}
    assert brain.reasons
    for role, workers in planned.items():
        assert workers <= seen.most[role] <= GROWS_MAX * workers
    assert any(seen.most[role] == GROWS_MAX * workers for role, workers in planned.items())


@pytest.mark.parametrize("island", [0, 4, 8])
def test_a_published_pair_is_laid_on_one_node_of_eight_as_it_was_declared(island):
    """gpt-oss-120b as 1 prefill TP4 and 1 decode TP4."""
    asked = demand("openai/gpt-oss-120b", prompt=2000, answer=500, tpot_s=0.02, cv=0)
    option, machines = pair_of(asked, island)
    assert (option.label, option.devices) == ("1P:1D TP4/TP4", 8)

    prefill, decode = laid(option, asked, machines, "hf://openai/gpt-oss-120b")

    assert (prefill.role, decode.role) == ("prefill", "decode")
    assert prefill.node == decode.node == "h100-0"
    assert len(prefill.devices) == len(decode.devices) == 4
    assert not set(prefill.devices) & set(decode.devices)
    (told,) = node_reports(machines)
    islands = {device.id: device.island for device in told.devices}
    assert len(set(islands.values())) == (2 if island == 4 else 1)
    for worker in (prefill, decode):
        assert len({islands[device] for device in worker.devices}) == 1


def test_a_shape_without_room_is_not_said_to_have_a_place():
    asked = demand("openai/gpt-oss-120b", prompt=2000, answer=500, tpot_s=0.02, cv=0)
    option, _ = pair_of(asked)
    with pytest.raises(NoPlaceError, match="no place for default/"):
        laid(option, asked, fleet(H100=4), "hf://openai/gpt-oss-120b")


def test_a_pool_answers_by_the_controllers_rules_as_many_in_time_as_its_rehearsal_says():
    asked = [demand(f"m{i}", rate=0.02, ttft_s=6.0) for i in range(6)]
    found = [member_of(one, times_of(8), "H100", "vllm", 8) for one in asked]
    inside = tuple(one for one in found if one is not None)
    seen = pool_by_rules(
        Pool("H100", 1, 2, inside),
        {one.model: one for one in asked},
        {one.model: times_of(8) for one in asked},
        device_gib=80,
        seed=3,
    )
    assert (seen.members, seen.moves_per_hour) == (6, 0)
    assert seen.switches_per_hour > 100
    assert 0.8 < seen.rehearsed < 0.95
    assert seen.by_rules == pytest.approx(seen.rehearsed, abs=0.05)
