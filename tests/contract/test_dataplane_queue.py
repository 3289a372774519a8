"""The queue before a model, through the gateway: who waits, who is refused, whose turn it is."""

import asyncio

import pytest
from gateway_world import FakeWorker, Gateway, a_declared, a_fleet, a_key, a_table, completion

from registry.state import Priority

ONE_AT_A_TIME = {"in_flight_per_worker": 1, "queued": 2, "queued_s": 5.0, "retry_after_s": 7}


class Gate:
    """A worker's behaviour that answers when it is told to, in the order of its calls."""

    def __init__(self):
        self.calls = asyncio.Queue()

    async def __call__(self, call):
        go = asyncio.Event()
        await self.calls.put((call.json["prompt"], go))
        await go.wait()
        await call.answer(body=completion())

    async def next(self):
        async with asyncio.timeout(3):
            return await self.calls.get()


def the_table(*workers, version=1, **limits):
    model = a_declared(limits={**ONE_AT_A_TIME, **limits})
    fleet = a_fleet(model, unified=[worker.url for worker in workers])
    keys = (a_key(), a_key("mk-low", priority=Priority.LOW))
    return a_table(models=[model], workers=fleet, keys=keys, version=version)


async def waiting(gateway, count):
    async with asyncio.timeout(3):
        while gateway.plane.admission.waiting.get("m", 0) != count:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def ask(gateway, prompt, **headers):
    return asyncio.create_task(gateway.post(prompt=prompt, headers=headers))


async def test_what_waits_is_answered_in_turn_and_what_is_too_much_is_refused():
    gate = Gate()
    async with FakeWorker(gate) as worker, Gateway() as gateway:
        gateway.plane.table = the_table(worker)
        tasks = [ask(gateway, "first")]
        _, first = await gate.next()
        for number, prompt in enumerate(("second", "third"), 1):
            tasks.append(ask(gateway, prompt))
            await waiting(gateway, number)
        assert gateway.sample("modelyard_queued_requests", model="m") == 2
        refused = await gateway.post(prompt="fourth")
        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "7"
        assert refused.json()["error"]["code"] == "queue_full"
        first.set()
        for expected in ("second", "third"):
            prompt, go = await gate.next()
            assert prompt == expected
            go.set()
        assert [(await task).status_code for task in tasks] == [200] * 3


async def test_who_waits_too_long_is_told_so():
    gate = Gate()
    async with FakeWorker(gate) as worker, Gateway() as gateway:
        gateway.plane.table = the_table(worker, queued_s=0.1)
        served = ask(gateway, "first")
        _, go = await gate.next()
        late = await gateway.post(prompt="second")
        assert late.status_code == 503
        assert late.headers["retry-after"] == "7"
        assert late.json()["error"]["code"] == "queue_timeout"
        go.set()
        assert (await served).status_code == 200


@pytest.mark.parametrize(
    "headers", [{"authorization": "Bearer mk-low"}, {"x-modelyard-priority": "low"}]
)
async def test_a_low_priority_waits_for_those_who_came_later(headers):
    gate = Gate()
    async with FakeWorker(gate) as worker, Gateway() as gateway:
        gateway.plane.table = the_table(worker)
        tasks = [ask(gateway, "first")]
        _, go = await gate.next()
        tasks.append(ask(gateway, "low", **headers))
        await waiting(gateway, 1)
        tasks.append(ask(gateway, "normal"))
        await waiting(gateway, 2)
        order = []
        for _ in range(2):
            go.set()
            prompt, go = await gate.next()
            order.append(prompt)
        go.set()
        assert order == ["normal", "low"]
        assert [(await task).status_code for task in tasks] == [200] * 3


async def test_a_key_of_low_priority_cannot_raise_itself():
    gate = Gate()
    async with FakeWorker(gate) as worker, Gateway() as gateway:
        gateway.plane.table = the_table(worker)
        tasks = [ask(gateway, "first")]
        _, go = await gate.next()
        climber = {"authorization": "Bearer mk-low", "x-modelyard-priority": "high"}
        tasks.append(ask(gateway, "climber", **climber))
        await waiting(gateway, 1)
        tasks.append(ask(gateway, "normal"))
        await waiting(gateway, 2)
        go.set()
        prompt, go = await gate.next()
        assert prompt == "normal"
        go.set()
        _, go = await gate.next()
        go.set()
        await asyncio.gather(*tasks)


async def test_a_priority_that_is_none_is_refused_by_its_name():
    gate = Gate()
    async with FakeWorker(gate) as worker, Gateway() as gateway:
        gateway.plane.table = the_table(worker)
        answer = await gateway.post(headers={"x-modelyard-priority": "urgent"})
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == "x-modelyard-priority"


async def test_a_new_worker_takes_those_who_wait():
    busy, fresh = Gate(), Gate()
    async with FakeWorker(busy) as one, FakeWorker(fresh) as other, Gateway() as gateway:
        gateway.plane.table = the_table(one)
        tasks = [ask(gateway, "first"), ask(gateway, "second")]
        _, go = await busy.next()
        await waiting(gateway, 1)
        gateway.plane.table = the_table(one, other, version=2)
        _, second = await fresh.next()
        second.set()
        go.set()
        assert [(await task).status_code for task in tasks] == [200] * 2


async def test_a_client_that_leaves_the_queue_gives_up_its_turn():
    gate = Gate()
    async with FakeWorker(gate) as worker, Gateway() as gateway:
        gateway.plane.table = the_table(worker)
        first = ask(gateway, "first")
        _, go = await gate.next()
        gone, stays = ask(gateway, "gone"), None
        await waiting(gateway, 1)
        stays = ask(gateway, "stays")
        await waiting(gateway, 2)
        gone.cancel()
        await waiting(gateway, 1)
        go.set()
        prompt, go = await gate.next()
        assert prompt == "stays"
        go.set()
        assert (await first).status_code == (await stays).status_code == 200
