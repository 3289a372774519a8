"""The budget for second tries: bounded, first come first served, nothing leaks."""

import asyncio

from gateway.proxy.retries import RetryBudget


async def test_three_may_try_at_once_and_others_wait_in_order():
    budget, order = RetryBudget(lambda: 5), []

    async def take(number):
        turn = await budget.turn()
        order.append(number)
        return turn

    first = [await take(number) for number in range(3)]
    rest = [asyncio.create_task(take(number)) for number in range(3, 6)]
    await asyncio.sleep(0)
    assert order == [0, 1, 2]
    first[1].over()
    first[1].over()  # idempotent
    await asyncio.sleep(0)
    assert order == [0, 1, 2, 3]
    for turn in (first[0], first[2]):
        turn.over()
    await asyncio.gather(*rest)
    assert order == [0, 1, 2, 3, 4, 5]


async def test_of_many_requests_a_fifth_may_try():
    budget = RetryBudget(lambda: 50)
    async with asyncio.timeout(1):
        turns = [await budget.turn() for _ in range(10)]
    eleventh = asyncio.create_task(budget.turn())
    await asyncio.sleep(0)
    assert not eleventh.done()
    turns[0].over()
    await eleventh


async def test_who_is_cancelled_leaves_no_gap():
    budget = RetryBudget(lambda: 1)
    turns = [await budget.turn() for _ in range(3)]
    waiting, next_one = (asyncio.create_task(budget.turn()) for _ in range(2))
    await asyncio.sleep(0)
    turns[0].over()  # it is the first one's turn …
    waiting.cancel()  # … which is gone
    async with asyncio.timeout(1):
        (await next_one).over()
    turns[0] = await budget.turn()
    gone = asyncio.create_task(budget.turn())
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.gather(waiting, gone, return_exceptions=True)
    for turn in turns:
        turn.over()
    async with asyncio.timeout(1):
        for _ in range(3):
            await budget.turn()


async def test_who_does_not_wait_gets_a_turn_only_where_there_is_room():
    budget = RetryBudget(lambda: 1)
    turns = [budget.turn_now() for _ in range(4)]
    assert turns[3] is None
    turns[0].over()
    assert budget.turn_now() is not None
