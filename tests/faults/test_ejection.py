"""A worker that fails in a row is set aside for longer and longer, and comes back."""

import asyncio

from fault_history import End
from fault_world import mixed, until


async def test_a_failing_worker_gets_few_requests_and_returns_when_it_is_well(world):
    async with world(workers=3) as w:
        bad = w.workers[0]
        bad.fault("status", status=500)
        per_half = []
        for _ in range(2):
            before = w.counted("ended_error", [bad])
            async with w.load(clients=12):
                await asyncio.sleep(1.2)
            per_half.append(w.counted("ended_error", [bad]) - before)
        ends = await w.ends()
        # Only where many fail at once, the budget for second tries leaves some without one.
        assert len(w.calls) - ends[End.OK] <= 6 + 0.05 * len(w.calls)
        assert ends[End.BROKEN] == 0
        assert 1 <= sum(per_half) <= 10 + 0.1 * len(w.calls)
        assert per_half[1] <= per_half[0]
        bad.heal()
        async with w.load(clients=4):
            await until(lambda: w.counted("ended_length", [bad]) > 0, 12, "it is back")


async def test_the_last_one_is_asked_all_the_same(world):
    async with world(workers=1) as w:
        (only,) = w.workers
        only.fault("status", status=500)
        for turn in range(15):
            await w.call(mixed(turn))
        assert await w.ends() == {End.REFUSED: 15}
        only.heal()
        await w.all_ok([w.call(mixed(turn)) for turn in range(4)])
