"""Limits across gateway processes that share a home: exact, through kill -9 and SIGSTOP."""

import asyncio
import contextlib
import json
from collections import Counter

import pytest
from fault_client import chat, plain
from fault_history import expected
from fault_processes import GatewayProcess
from fault_world import until

from registry.spec import Price
from registry.state import NANO

# A stream of this many tokens ends long after what is done beside it.
LONG = 2000
MINUTE = {"first_token_s": 60, "total_s": 90, "between_tokens_s": 30}


@pytest.fixture(scope="module")
def other(ground):
    """A gateway beside the suite's own one."""
    gateway = GatewayProcess(ground.home, ground.admin_secret)
    try:
        asyncio.run(until(lambda: gateway.ready, 30, "the gateway has read the registry"))
        yield gateway
    finally:
        gateway.end()


@contextlib.asynccontextmanager
async def another(ground, *, workers=1):
    """One more, for this test."""
    gateway = GatewayProcess(ground.home, ground.admin_secret, workers=workers)
    try:
        await until(lambda: gateway.ready, 30, "the gateway has read the registry")
        yield gateway
    finally:
        gateway.end()


async def burst(w, gateways, count, key=""):
    """How many of *count* requests at once ended how: 200, or a refusal's code."""
    calls = [
        w.call(plain(max_tokens=3), key=key, by=gateways[number % len(gateways)])
        for number in range(count)
    ]
    answers = await asyncio.gather(*calls)
    return Counter(200 if answer.status == 200 else answer.error["code"] for answer in answers)


async def test_of_a_burst_on_two_gateways_exactly_the_limit_is_let_in(world, ground, other):
    async with world() as w:
        _, key = await w.new_key(other, requests_per_minute=60)
        before = sum(each.ended for each in w.workers)
        assert await burst(w, (w.gateway, other), 300, key) == {
            200: 60,
            "requests_per_minute": 240,
        }
        assert sum(each.ended for each in w.workers) - before == 60, "the others reach no worker"


async def test_of_a_burst_on_several_processes_exactly_the_limit_is_let_in(world, ground):
    async with another(ground, workers=2) as several, world() as w:
        await until(lambda: len(several.children) == 2, 10)
        _, key = await w.new_key(several, requests_per_minute=60)
        assert await burst(w, (several,), 300, key) == {200: 60, "requests_per_minute": 240}
        limited = several.samples("modelyard_limited_requests_total")
        assert sum(limited.values()) == 240


async def test_a_models_limit_holds_over_keys_and_gateways(world, ground, other):
    async with world(limits={"requests_per_minute": 20}) as w:
        keys = [(await w.new_key(other))[1] for _ in range(2)]
        seen = [await burst(w, (w.gateway, other), 40, key) for key in keys]
        assert sum(seen, Counter()) == {200: 20, "requests_per_minute": 60}


async def test_at_once_there_are_as_many_as_allowed_and_never_more(world, ground, other):
    async with world(workers=1) as w:
        _, key = await w.new_key(other, in_flight=4)
        done, most = 0, 0

        async def client(number):
            nonlocal done
            by = (w.gateway, other)[number % 2]
            while done < 60:
                answer = await w.call(chat(max_tokens=20), key=key, by=by)
                if answer.status == 200:
                    done += 1
                else:
                    assert answer.error["code"] == "in_flight"
                    await asyncio.sleep(0.02)

        clients = asyncio.gather(*(client(number) for number in range(16)))
        while not clients.done():
            most = max(most, await asyncio.to_thread(lambda: w.unified[0].busy))
            await asyncio.sleep(0.005)
        await clients
        assert most == 4


async def test_a_killed_gateways_requests_are_no_longer_under_way(world, ground):
    async with another(ground) as other, world(limits=MINUTE) as w:
        _, key = await w.new_key(other, in_flight=3)
        theirs = [w.call(plain(max_tokens=LONG, stream=True), key=key, by=other) for _ in range(3)]
        await asyncio.gather(*(call.got(2) for call in theirs))
        assert await burst(w, (w.gateway,), 5, key) == {"in_flight": 5}
        other.kill()
        await asyncio.sleep(0.1)
        ours = [w.call(plain(max_tokens=LONG, stream=True), key=key) for _ in range(3)]
        await asyncio.gather(*(call.got(2) for call in ours))
        assert await burst(w, (w.gateway,), 5, key) == {"in_flight": 5}
        for call in (*theirs, *ours):
            await call.leave()
        w.calls.clear()


async def test_one_of_several_processes_that_is_killed_comes_back_with_nothing_held(world, ground):
    async with another(ground, workers=2) as several, world(limits=MINUTE) as w:
        await until(lambda: len(several.children) == 2, 10)
        _, key = await w.new_key(several, in_flight=4)
        calls = [w.call(plain(max_tokens=LONG, stream=True), key=key, by=several) for _ in range(4)]
        await asyncio.gather(*(call.got(2) for call in calls))
        for child in several.children:
            child.kill()
        await until(lambda: len(several.children) == 2 and several.ready, 20)
        await w.new_key(several)
        assert await burst(w, (several,), 4, key) == {200: 4}
        w.calls.clear()


async def test_a_stopped_gateway_keeps_its_places_and_stops_nobody(world, ground, other):
    async with world(limits=MINUTE) as w:
        _, key = await w.new_key(other, in_flight=3)
        theirs = [w.call(plain(max_tokens=60, stream=True), key=key, by=other) for _ in range(2)]
        await asyncio.gather(*(call.got(2) for call in theirs))
        other.stop()
        try:
            for _ in range(10):
                assert await burst(w, (w.gateway,), 1, key) == {200: 1}
            ours = w.call(plain(max_tokens=LONG, stream=True), key=key)
            await ours.got(2)
            assert await burst(w, (w.gateway,), 3, key) == {"in_flight": 3}
            assert await burst(w, (w.gateway,), 3) == {200: 3}, "without limits nothing is asked"
        finally:
            other.cont()
        await w.all_ok(theirs)
        assert await burst(w, (other,), 2, key) == {200: 2}
        await ours.leave()
        w.calls.clear()


async def test_a_budget_is_spent_to_the_last_request_and_not_beyond(world, ground, other):
    price = Price(input=1000, output=2000)
    budget = NANO // 2
    async with world(price={"input": 1000, "output": 2000}) as w:
        _, key = await w.new_key(other, budget_nano=budget)
        gateways, spent = (w.gateway, other), 0
        crowd = [
            w.call(plain(max_tokens=8), key=key, by=gateways[number % 2]) for number in range(60)
        ]
        answers = await asyncio.gather(*crowd)
        spent += sum(cost_of(*each, price) for each in zip(crowd, answers, strict=True))
        assert 0 < spent <= budget
        for number in range(100):
            call = w.call(plain(max_tokens=8), key=key, by=gateways[number % 2])
            answer = await call
            if answer.status != 200:
                break
            spent += cost_of(call, answer, price)
        assert answer.error["code"] == "insufficient_quota"
        wanted = price.cost_nano(len(json.dumps(call.body["prompt"])) // 4, 8)
        assert budget - wanted < spent <= budget


async def test_a_gateway_that_starts_again_remembers_the_minute(world, ground):
    async with world() as w:
        async with another(ground) as other:
            _, key = await w.new_key(other, requests_per_minute=10)
            assert await burst(w, (other,), 8, key) == {200: 8}
        async with another(ground) as other:
            await w.new_key(other)  # by then it listens
            assert (await burst(w, (other,), 8, key))[200] == 2


async def test_a_ledger_that_is_removed_is_begun_anew_by_all(world, ground, other):
    async with world(limits=MINUTE) as w:
        _, key = await w.new_key(other, in_flight=3)
        theirs = [w.call(plain(max_tokens=LONG, stream=True), key=key, by=other) for _ in range(2)]
        await asyncio.gather(*(call.got(2) for call in theirs))
        (ground.home / "run" / "limits-1.ledger").unlink()
        await asyncio.sleep(2.5)
        ours = w.call(plain(max_tokens=LONG, stream=True), key=key)
        await ours.got(2)
        assert await burst(w, (w.gateway, other), 6, key) == {"in_flight": 6}
        for call in (*theirs, ours):
            await call.leave()
        w.calls.clear()


async def test_where_no_ledger_can_be_the_gateway_does_not_start(ground, tmp_path):
    (tmp_path / "run").touch()
    gateway = GatewayProcess(tmp_path, ground.admin_secret)
    try:
        assert await asyncio.to_thread(gateway.wait, 20) == 1
        assert "see MODELYARD_HOME" in gateway.log.read_text()
    finally:
        gateway.end()


def cost_of(call, answer, price):
    """What the answer's own usage costs; a refusal costs nothing."""
    if answer.status != 200:
        assert answer.error["code"] == "insufficient_quota"
        return 0
    usage = expected(call.path, call.body).usage
    return price.cost_nano(usage["prompt_tokens"], usage["completion_tokens"])
