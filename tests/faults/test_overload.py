"""More than the workers can take: the surplus is told so at once, the rest is served as before."""

import asyncio
import statistics
import time

from fault_client import chat
from fault_history import End

from registry.state import Priority

# Two workers, four requests each, of 0.1 s: eighty answers a second.
LIMITS = {"in_flight_per_worker": 4, "queued": 8, "queued_s": 1}
SLOTS = 8
SPAN_S = 1.5
REASONS = {429, 503}


def ask(w, **more):
    return w.call(chat(stream=True, max_tokens=12), **more)


async def closed_loop(w, clients):
    """Goodput with so many clients that each ask as soon as they have their answer."""
    until = time.monotonic() + SPAN_S
    calls = []

    async def client():
        while time.monotonic() < until:
            calls.append(call := ask(w))
            answer = await call
            if answer.status != 200:
                await asyncio.sleep(0.05)

    await asyncio.gather(*(client() for _ in range(clients)))
    return (await w.ends(calls))[End.OK] / SPAN_S


async def open_loop(w, per_s, **more):
    """Calls that come at a rate, whatever becomes of the earlier ones."""
    calls = []
    began = time.monotonic()
    while (now := time.monotonic()) < began + SPAN_S:
        while len(calls) < (now - began) * per_s:
            calls.append(ask(w, **more))
        await asyncio.sleep(0.005)
    return calls


async def test_goodput_does_not_collapse(world):
    async with world(workers=2, limits=LIMITS) as w:
        at_once = await closed_loop(w, SLOTS)
        assert await closed_loop(w, 3 * SLOTS) >= 0.85 * at_once
        calls = await open_loop(w, 3 * at_once)
        ends = await w.ends(calls)
        assert ends[End.OK] / SPAN_S >= 0.85 * at_once
        assert ends[End.BROKEN] == 0
        refused = [answer for call in calls if (answer := await call).status != 200]
        assert len(refused) > len(calls) / 3
        assert {answer.status for answer in refused} <= REASONS
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
        assert {answer.error["code"] for answer in refused}.isdisjoint({None, ""})


async def test_who_waits_too_long_is_told(world):
    async with world(workers=1, limits={"in_flight_per_worker": 1, "queued_s": 0.3}) as w:
        running = w.call(chat(stream=True, max_tokens=150))
        await running.got(1)
        answer = await w.call(chat(max_tokens=2))
        assert answer.status == 503
        assert answer.headers["retry-after"]
        assert 0.25 < answer.seconds < 1
        await running


async def test_a_full_queue_refuses_at_once(world):
    async with world(workers=1, limits={"in_flight_per_worker": 1, "queued": 2}) as w:
        running = w.call(chat(stream=True, max_tokens=60))
        await running.got(1)
        waiting = [w.call(chat(max_tokens=2)) for _ in range(2)]
        await asyncio.sleep(0.2)
        answer = await w.call(chat(max_tokens=2))
        assert (answer.status, answer.seconds < 0.3) == (429, True)
        assert answer.headers["retry-after"]
        await w.all_ok([running, *waiting])


async def test_the_important_are_served(world):
    """Those of high priority alone would fit, all of them together do not."""
    async with world(workers=2, limits=LIMITS) as w:
        by_key = [open_loop(w, 45, key=w.ground.keys[each]) for each in Priority]
        high, normal, low = await asyncio.gather(*by_key)
        shares = [(await w.ends(calls))[End.OK] / len(calls) for calls in (high, normal, low)]
        assert shares[0] > 0.95
        assert shares[0] > shares[2]
        assert shares[1] > shares[2]


async def test_the_important_wait_less(world):
    async with world(workers=1, limits={"in_flight_per_worker": 4}) as w:
        keys = w.ground.keys
        low = [ask(w, key=keys[Priority.LOW]) for _ in range(16)]
        high = [ask(w, key=keys[Priority.HIGH]) for _ in range(16)]
        await w.all_ok()
        waits = [
            statistics.median([(await call).seconds for call in calls]) for calls in (high, low)
        ]
        assert waits[0] < waits[1]


async def test_a_client_may_step_back(world):
    lowered = ["x-modelyard-priority: low"]
    async with world(workers=1, limits={"in_flight_per_worker": 1}) as w:
        running = w.call(chat(stream=True, max_tokens=40))
        await running.got(1)
        ended = []

        async def note(name, **more):
            await w.call(chat(max_tokens=5), **more)
            ended.append(name)

        stepping = asyncio.create_task(note("low", headers=lowered))
        await asyncio.sleep(0.1)  # it came first
        await asyncio.gather(note("normal"), stepping)
        assert ended == ["normal", "low"]
        await w.all_ok()
