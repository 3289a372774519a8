"""The queue before a model: never too many in flight, no place left free, everybody in turn."""

import asyncio
from types import SimpleNamespace

import pytest
from admission_world import HIGH, LOW, NORMAL, Fleet, settle
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import QueueFullError
from gateway.routing.admission import LOOKS_MAX
from gateway.routing.pick import FULL
from registry.state import Priority

KINDS = (
    ("come",) * 6 + ("leave",) * 4 + ("cancel", "grow", "return") + ("tick",) * 2 + ("settle",) * 3
)
POOLS = ((0,), (1,), (0, 1))
STEPS = st.lists(
    st.tuples(st.sampled_from(KINDS), st.integers(0, 11), st.integers(0, 2)),
    min_size=20,
    max_size=60,
)


async def run_steps(fleet, steps):
    for kind, number, choice in steps:
        pool = choice % len(fleet.places)
        if kind == "come":
            pools = tuple(p for p in POOLS[choice] if p in fleet.places) or (0,)
            fleet.come(tuple(Priority)[number % 3], pools)
        elif kind in ("leave", "cancel"):
            state = "served" if kind == "leave" else "waiting"
            some = [r for r in fleet.requests if r.state == state]
            for request in some[number % len(some) :][:2] if some else ():
                if kind == "cancel":
                    request.task.cancel()
                elif not request.release.done():
                    request.release.set_result(None)
        elif kind == "grow":
            fleet.places[pool] = max(fleet.used[pool], 1, fleet.places[pool] + number % 5 - 1)
            fleet.admission.look_again()
        elif kind == "return":
            # A worker is taken back after a while: nobody is told, but whoever comes notices.
            await fleet.settle()
            fleet.places[pool] += 1 + number % 2
            fleet.come(tuple(Priority)[number % 3], (pool,))
        elif kind == "tick":
            await asyncio.sleep(0)
        else:
            await fleet.settle()
    await fleet.settle()
    await fleet.end()


def without_returns(steps):
    return [step for step in steps if step[0] != "return"]


@settings(deadline=None, max_examples=60)
@given(steps=STEPS, places=st.integers(1, 3), queued=st.integers(0, LOOKS_MAX))
def test_in_one_pool_nobody_is_overtaken_and_no_place_is_lost(steps, places, queued):
    async def run():
        await run_steps(Fleet(places, queued=queued), without_returns(steps))

    asyncio.run(run())


@settings(deadline=None, max_examples=60)
@given(steps=STEPS)
def test_requests_that_need_different_workers_do_not_hold_each_other_up(steps):
    async def run():
        fleet = Fleet(1, 2)
        await run_steps(fleet, without_returns(steps))

    asyncio.run(run())


@settings(deadline=None, max_examples=60)
@given(steps=STEPS)
def test_never_more_than_allowed_even_when_places_come_back_unannounced(steps):
    async def run():
        fleet = Fleet(1)
        fleet.strict = False
        await run_steps(fleet, steps)

    asyncio.run(run())


async def test_a_place_that_came_back_unannounced_is_seen_even_by_who_is_refused():
    fleet = Fleet(1)
    fleet.strict = False
    await run_steps(fleet, [("come", 0, 0)] * (LOOKS_MAX + 2) + [("return", 0, 0)])


async def test_without_a_queue_a_request_passes_at_once():
    fleet = Fleet(2)
    fleet.come()
    fleet.come()
    await asyncio.sleep(0)
    assert len(fleet.admitted) == 2
    await fleet.end()


async def test_first_come_first_served_and_the_higher_priority_before():
    fleet = Fleet(1)
    fleet.come()
    waiting = [fleet.come(priority) for priority in (LOW, NORMAL, HIGH, NORMAL, HIGH, LOW)]
    await fleet.settle()
    await fleet.end()
    numbers = [waiting.index(request) for request in fleet.admitted[1:]]
    assert numbers == [2, 4, 1, 3, 0, 5]


async def test_a_newcomer_does_not_take_the_place_of_one_that_was_woken():
    fleet = Fleet(1)
    first, second = fleet.come(), fleet.come()
    await fleet.settle()
    first.release.set_result(None)
    await asyncio.sleep(0)  # it leaves, and the second is woken
    fleet.come(HIGH)
    await fleet.settle()
    assert fleet.admitted == [first, second]
    await fleet.end()


@pytest.mark.parametrize(
    ("queued", "newcomer", "refused"),
    [
        ((), HIGH, "newcomer"),
        ((NORMAL,), NORMAL, "newcomer"),
        ((NORMAL,), LOW, "newcomer"),
        ((HIGH, HIGH), HIGH, "newcomer"),
        ((LOW,), NORMAL, 0),
        ((LOW, LOW, NORMAL), NORMAL, 1),
        ((NORMAL, NORMAL, HIGH), HIGH, 1),
        ((LOW, NORMAL, LOW), HIGH, 2),
    ],
)
async def test_a_full_queue_gives_up_its_newest_of_a_lower_priority(queued, newcomer, refused):
    fleet = Fleet(1, queued=len(queued))
    fleet.come()
    waiting = [fleet.come(priority) for priority in queued]
    await fleet.settle()
    latest = fleet.come(newcomer)
    await fleet.settle()
    states = [request.state for request in waiting]
    if refused == "newcomer":
        assert latest.state == "refused"
        assert "refused" not in states
    else:
        assert latest.state == "waiting"
        assert [i for i, state in enumerate(states) if state == "refused"] == [refused]
    await fleet.end()


async def test_the_refusal_names_the_model_the_limit_and_when_to_come_back():
    fleet = Fleet(0, queued=0)
    with pytest.raises(QueueFullError, match=r"'m' .* 0 wait") as caught:
        await fleet.admission.enter(fleet.row, NORMAL, lambda: FULL)
    assert caught.value.headers["retry-after"].isdigit()


async def test_new_workers_take_all_they_can_of_the_queue():
    fleet = Fleet(1)
    for _ in range(6):
        fleet.come()
    await fleet.settle()
    fleet.places[0] = 4
    fleet.admission.look_again()
    await fleet.settle()
    assert len(fleet.admitted) == 4
    await fleet.end()


async def test_one_place_wakes_one_request():
    fleet = Fleet(1)
    first, *others = (fleet.come() for _ in range(6))
    await fleet.settle()
    first.release.set_result(None)
    await asyncio.sleep(0)
    fleet.admission.look_again()
    assert len(fleet.admission._queues["m"].waiters) == len(others) - 1
    await fleet.settle()
    await fleet.end()


async def test_a_turn_that_comes_to_nothing_goes_back_and_holds_nobody_up():
    fleet = Fleet(1, 1)
    first, second = fleet.come(), fleet.come(pools=(1,))
    third, fourth, fifth = fleet.come(), fleet.come(), fleet.come(pools=(1,))
    await fleet.settle()
    first.release.set_result(None)
    second.release.set_result(None)
    await asyncio.sleep(0)  # the third has the turn
    fleet.used[0] += 1  # by somebody who needs no turn
    await fleet.settle()
    assert fifth.state == "served"
    fleet.used[0] -= 1
    fleet.admission.freed(SimpleNamespace(model="m"))
    await fleet.settle()
    assert (third.state, fourth.state) == ("served", "waiting")
    await fleet.end()


@pytest.mark.parametrize("ticks", [0, 1, 2])
async def test_who_is_cancelled_with_the_turn_passes_it_on(ticks):
    fleet = Fleet(1)
    first, second, third = (fleet.come() for _ in range(3))
    await fleet.settle()
    first.release.set_result(None)
    for _ in range(ticks):
        await asyncio.sleep(0)
    second.task.cancel()
    await fleet.settle()
    assert third.state == "served"
    await fleet.end()


async def test_a_crowd_that_gives_up_at_once_does_not_hide_who_stays():
    fleet = Fleet(1, queued=100)
    first = fleet.come()
    crowd = [fleet.come() for _ in range(50)]
    last = fleet.come()
    await fleet.settle()
    for request in crowd:
        request.task.cancel()
    first.release.set_result(None)
    await fleet.settle()
    assert last.state == "served"
    await fleet.end()


async def test_a_place_in_the_queue_that_is_being_left_may_be_taken():
    fleet = Fleet(1, queued=1)
    fleet.come()
    second = fleet.come()
    await fleet.settle()
    third = asyncio.create_task(fleet.admission.enter(fleet.row, NORMAL, lambda: FULL))
    second.task.cancel()
    await settle()
    assert not third.done()
    third.cancel()
    await settle()
    await fleet.end()


async def test_when_nobody_is_left_alive_all_that_wait_are_told():
    fleet = Fleet(1)
    fleet.come()
    alive = True
    results = [
        asyncio.create_task(
            fleet.admission.enter(fleet.row, NORMAL, lambda: FULL if alive else None)
        )
        for _ in range(4)
    ]
    await settle()
    alive = False
    fleet.admission.look_again()
    await settle()
    assert [task.result() for task in results] == [None] * 4
    await fleet.end()


async def test_a_choice_that_fails_does_so_for_its_own_request_only():
    fleet = Fleet(1)
    first = fleet.come()
    looks = 0

    def find():
        nonlocal looks
        looks += 1
        return FULL if looks == 1 else 1 / 0

    await settle()
    broken = asyncio.create_task(fleet.admission.enter(fleet.row, NORMAL, find))
    await settle()
    third = fleet.come()
    await settle()
    first.release.set_result(None)
    await fleet.settle()
    assert isinstance(broken.exception(), ZeroDivisionError)
    assert third.state == "served"
    await fleet.end()


async def test_a_place_of_no_use_to_those_in_front_costs_a_bounded_number_of_looks():
    fleet = Fleet(1, queued=1000)
    looks = 0

    def find():
        nonlocal looks
        looks += 1
        return FULL

    tasks = [
        asyncio.create_task(fleet.admission.enter(fleet.row, NORMAL, find)) for _ in range(500)
    ]
    await settle()
    looks = 0
    fleet.admission.freed(SimpleNamespace(model="m"))
    assert looks == LOOKS_MAX
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert fleet.admission.waiting == {}


async def test_models_do_not_wait_for_each_other():
    fleet = Fleet(1)
    fleet.come()
    fleet.come()
    await fleet.settle()
    other = SimpleNamespace(name="other", limits=fleet.row.limits)
    assert await fleet.admission.enter(other, LOW, lambda: "route") == "route"
    fleet.admission.freed(SimpleNamespace(model="other"))
    assert fleet.admission.waiting == {"m": 1}
    await fleet.end()
