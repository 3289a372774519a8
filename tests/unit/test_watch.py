"""What stops a request: only its own deadlines and its own client, and exactly once."""

import asyncio
import time

import pytest

from gateway.proxy.deadline import Stop, Sweep, Watch

NOW = time.monotonic


def a_watch():
    return Watch(Sweep(NOW, every_s=0.005))


async def test_a_deadline_stops_the_task_and_says_which():
    watch = a_watch()
    watch.until(NOW() + 0.01, Stop.FIRST_TOKEN)
    with pytest.raises(asyncio.CancelledError):
        await asyncio.sleep(5)
    assert watch.claim() is Stop.FIRST_TOKEN
    assert asyncio.current_task().cancelling() == 0
    await asyncio.sleep(0.02)  # and not again
    watch.close()


async def test_a_deadline_that_is_moved_on_does_not_fire():
    watch = a_watch()
    for _ in range(10):
        watch.until(NOW() + 0.03, Stop.BETWEEN_TOKENS)
        await asyncio.sleep(0.01)
    watch.close()
    await asyncio.sleep(0.05)


async def test_an_earlier_deadline_replaces_a_later_one():
    watch = a_watch()
    watch.until(NOW() + 60, Stop.FIRST_TOKEN)
    watch.until(NOW() + 0.01, Stop.BETWEEN_TOKENS)
    with pytest.raises(asyncio.CancelledError):
        await asyncio.sleep(5)
    assert watch.claim() is Stop.BETWEEN_TOKENS
    watch.close()


async def test_no_deadline_is_later_than_the_total():
    watch = a_watch()
    watch.total_at = NOW() + 0.01
    watch.until(NOW() + 60, Stop.BETWEEN_TOKENS)
    with pytest.raises(asyncio.CancelledError):
        await asyncio.sleep(5)
    assert watch.claim() is Stop.TOTAL
    watch.close()


async def test_tokens_that_keep_coming_move_the_deadline_but_not_past_the_total():
    watch = a_watch()
    watch.between_s, watch.total_at = 0.03, NOW() + 0.2
    began = NOW()

    async def tokens():
        while True:
            watch.moved = True
            await asyncio.sleep(0.001)

    flow = asyncio.create_task(tokens())
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(5):
            await asyncio.Event().wait()
    assert watch.claim() is Stop.TOTAL
    assert NOW() - began >= 0.2
    flow.cancel()
    watch.close()


async def test_tokens_that_stop_coming_are_missed():
    watch = a_watch()
    watch.between_s, watch.moved = 0.02, True
    with pytest.raises(asyncio.CancelledError):
        await asyncio.sleep(5)
    assert watch.claim() is Stop.BETWEEN_TOKENS
    watch.close()


async def test_while_sending_the_client_is_to_blame():
    watch = a_watch()
    watch.until(NOW() + 0.01, Stop.BETWEEN_TOKENS)
    watch.sending = True
    with pytest.raises(asyncio.CancelledError):
        await asyncio.sleep(5)
    assert watch.claim() is Stop.CLIENT_STALLED
    watch.close()


@pytest.mark.parametrize("stop", [Stop.CLIENT_GONE, Stop.SHUTDOWN])
async def test_what_happens_outside_stops_the_task(stop):
    watch = a_watch()
    tell = watch.client_gone if stop is Stop.CLIENT_GONE else watch.shut_down
    asyncio.get_running_loop().call_soon(tell)
    with pytest.raises(asyncio.CancelledError):
        await asyncio.sleep(5)
    assert watch.claim() is stop
    watch.close()


@pytest.mark.parametrize("stop", [Stop.SLOW, Stop.TRANSFER, Stop.BETWEEN_TOKENS, Stop.TOTAL])
async def test_a_leg_claims_only_what_is_its_own(stop):
    watch = a_watch()
    watch.until(NOW(), stop)
    with pytest.raises(asyncio.CancelledError):
        await asyncio.sleep(5)
    claimed = watch.claim_leg()
    assert claimed == (None if stop is Stop.TOTAL else stop)
    assert watch.claim() == (Stop.TOTAL if stop is Stop.TOTAL else None)
    watch.close()


async def test_a_cancellation_from_outside_is_not_claimed():
    async def work():
        watch = a_watch()
        watch.until(NOW() + 60, Stop.TOTAL)
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            claimed.append(watch.claim())
            raise
        finally:
            watch.close()

    claimed = []
    task = asyncio.create_task(work())
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    assert claimed == [None]


async def test_a_cancellation_from_outside_wins_over_a_deadline_at_the_same_moment():
    async def work():
        watch = a_watch()
        watch.until(NOW(), Stop.TOTAL)
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            claimed.append(watch.claim())
            raise
        finally:
            watch.close()

    claimed = []
    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_later(0, task.cancel)
    await asyncio.wait({task})
    assert task.cancelled()
    assert claimed == [None]


@pytest.mark.parametrize("first", ["leg", "request"])
async def test_what_ends_the_request_is_not_hidden_by_what_ends_a_leg(first):
    watch = a_watch()
    stops = [watch.partner_failed, watch.client_gone]
    for stop in stops if first == "leg" else reversed(stops):
        stop()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.sleep(5)
    assert watch.claim_leg() is None
    assert watch.claim() is Stop.CLIENT_GONE
    assert asyncio.current_task().cancelling() == 0
    watch.close()


async def test_a_closed_watch_leaves_nothing_behind():
    watch = a_watch()
    watch.until(NOW() + 0.01, Stop.TOTAL)
    watch.close()
    await asyncio.sleep(0.03)
    assert asyncio.all_tasks() == {asyncio.current_task()}
