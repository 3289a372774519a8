"""Workers that hang lose their requests to others; workers that are only busy keep them."""

import asyncio

import pytest
from gateway_world import (
    DISAGGREGATED,
    DONE,
    FakeWorker,
    Gateway,
    a_declared,
    a_fleet,
    a_table,
    good,
    token,
)
from teller import CHAT, STORY, Teller, a_tellers_gateway, listen

QUICK = {"silent_s": 0.1, "ping_s": 0.1}
TOKENS = token("a") + token("b") + token("c")


class Freezer:
    """A worker whose process can be stopped: then nothing of it answers, and no call ends.

    *busy*: only its engine stops. *begins*: bytes of stream that still come.
    """

    def __init__(self, *, busy=False, begins=0, then=good):
        self.frozen = True
        self.busy = busy
        self.begins = begins
        self.then = then
        self.thawed = asyncio.Event()
        self.held = []
        self.pings = 0

    def thaw(self):
        self.frozen = False
        self.thawed.set()

    async def __call__(self, call):
        if call.method == "GET":
            self.pings += 1
            if self.busy or not self.frozen:
                await call.answer(body={"data": []})
                return
        if not self.frozen:
            await self.then(call)
            return
        if call.method == "POST":
            self.held.append(call)
            if self.begins and call.path != "/tokenize":
                await call.begin_stream()
                await call.chunk(self.then.payload(call.json)[: self.begins])
        await self.thawed.wait()
        if call.method == "POST":
            await self.then(call)


async def until(true, timeout_s=3.0):
    async with asyncio.timeout(timeout_s):
        while not true():  # noqa: ASYNC110 - it has no event for that
            await asyncio.sleep(0.01)


def all_to(gateway, number):
    """Requests go to this worker for the moment: all others have just failed."""
    for worker in gateway.plane.table.worker_ids():
        if not worker.endswith(f"-{number}"):
            gateway.plane.router.health.failed(worker, gateway.plane._clock())


def none_aside(gateway):
    for worker in gateway.plane.table.worker_ids():
        gateway.plane.router.health.succeeded(worker)


@pytest.mark.parametrize("stream", [False, True])
async def test_what_a_frozen_worker_has_not_begun_is_answered_by_another(stream):
    frozen = Freezer()
    async with a_tellers_gateway(frozen, good, **QUICK) as gateway:
        all_to(gateway, 0)
        posts = [asyncio.create_task(gateway.post(stream=stream)) for _ in range(3)]
        await until(lambda: len(frozen.held) == 3)
        none_aside(gateway)
        for answer in await asyncio.gather(*posts):
            assert answer.status_code == 200
            assert not stream or answer.content == TOKENS + DONE
        labels = {"model": "m", "reason": "hung"}
        assert gateway.sample("modelyard_upstream_failures_total", **labels) == 3
        await gateway.assert_quiet()
        frozen.thaw()


async def test_streams_of_a_frozen_worker_go_on_elsewhere():
    frozen = Freezer(begins=700, then=Teller())
    async with a_tellers_gateway(frozen, Teller(), **QUICK) as gateway:
        all_to(gateway, 0)
        posts = [asyncio.create_task(listen(gateway, CHAT)) for _ in range(3)]
        await until(lambda: len(frozen.held) == 3)
        none_aside(gateway)
        for heard in await asyncio.gather(*posts):
            assert (heard.text, heard.finish, heard.done) == (STORY, ["stop"], 1)
        await gateway.assert_quiet()
        frozen.thaw()


async def test_new_requests_are_no_sign_of_life():
    """They keep coming to a frozen worker until it is found out."""
    frozen = Freezer()
    async with a_tellers_gateway(frozen, good, **QUICK) as gateway:
        model = a_declared(routing={"policy": "round_robin"})
        fleet = a_fleet(model, unified=[worker.url for worker in gateway.workers])
        gateway.plane.table = a_table(models=[model], workers=fleet)
        posts = []
        async with asyncio.timeout(2):
            while not gateway.plane._vigil._hung:
                posts.append(asyncio.create_task(gateway.post()))
                await asyncio.sleep(0.02)
        assert len(frozen.held) > 3
        await asyncio.gather(*posts)  # they end; how many may be tried again at once is limited
        frozen.thaw()


async def test_a_hung_worker_gets_nothing_until_it_answers_again():
    frozen = Freezer()
    async with a_tellers_gateway(frozen, good, **QUICK) as gateway:
        while not frozen.held:
            await gateway.post()
        await asyncio.sleep(1.2)  # longer than a worker that failed once is set aside
        held = len(frozen.held)
        for _ in range(10):
            assert (await gateway.post()).status_code == 200
        assert len(frozen.held) == held
        frozen.thaw()
        await until(lambda: not gateway.plane.router.health.aside(gateway.plane._clock()))
        calls = len(gateway.workers[0].calls)
        for _ in range(20):
            assert (await gateway.post()).status_code == 200
        posts = [call for call in gateway.workers[0].calls[calls:] if call.method == "POST"]
        assert posts
        pings = frozen.pings
        await asyncio.sleep(0.4)
        assert frozen.pings == pings  # who owes nothing is not asked


async def test_a_worker_that_is_only_busy_keeps_its_requests():
    busy = Freezer(busy=True)
    async with a_tellers_gateway(busy, good, **QUICK) as gateway:
        all_to(gateway, 0)
        post = asyncio.create_task(gateway.post(stream=True))
        await until(lambda: busy.pings > 3)
        assert len(busy.held) == 1
        busy.thaw()
        assert (await post).content == TOKENS + DONE
        assert gateway.workers[1].calls == []


async def test_the_last_worker_of_a_model_is_left_alone():
    frozen = Freezer()
    async with a_tellers_gateway(frozen, **QUICK) as gateway:
        post = asyncio.create_task(gateway.post(stream=True))
        await until(lambda: frozen.pings > 3)
        assert not post.done()
        frozen.thaw()
        assert (await post).content == TOKENS + DONE


async def test_of_two_that_hang_one_is_left_alone():
    one, other = Freezer(), Freezer()
    async with a_tellers_gateway(one, other, **QUICK) as gateway:
        posts = [asyncio.create_task(gateway.post()) for _ in range(6)]
        await until(lambda: one.pings > 4 and other.pings > 4)
        assert len(gateway.plane._vigil._hung) <= 1
        one.thaw()
        other.thaw()
        assert {answer.status_code for answer in await asyncio.gather(*posts)} == {200}


async def test_a_worker_that_speaks_while_it_is_asked_does_not_hang():
    """Its model list is slow, its answers come."""

    async def slow_list(call):
        if call.method == "GET":
            await asyncio.sleep(1)
            return
        await call.begin_stream()
        for _ in range(4):
            await call.chunk(token("a"))
            await asyncio.sleep(0.3)
        await call.chunk(DONE)
        await call.end_stream()

    async with a_tellers_gateway(slow_list, slow_list, silent_s=0.05, ping_s=0.3) as gateway:
        answer = await gateway.post(stream=True)
        assert answer.content == token("a") * 4 + DONE
        assert not gateway.plane._vigil._hung


@pytest.mark.parametrize("role", ["prefill", "decode"])
async def test_a_frozen_half_of_a_pair_is_done_without(role):
    frozen = Freezer()
    both = {"prefill": good, "decode": good} | {role: frozen}
    async with (
        FakeWorker(both["prefill"]) as prefill,
        FakeWorker(both["decode"]) as decode,
        Gateway(**QUICK) as gateway,
    ):
        model = a_declared(topology=DISAGGREGATED)
        fleet = a_fleet(model, prefill=[prefill.url], decode=[decode.url])
        gateway.plane.table = a_table(models=[model], workers=fleet)
        answer = await asyncio.wait_for(gateway.post(stream=True), 3)
        assert answer.content == TOKENS + DONE
        assert answer.headers["x-modelyard-mode"] == "degraded"
        await gateway.assert_quiet()
        frozen.thaw()


async def test_a_worker_that_leaves_the_fleet_is_forgotten():
    frozen = Freezer()
    async with a_tellers_gateway(frozen, good, **QUICK) as gateway:
        while not frozen.held:
            await gateway.post()
        table = gateway.plane.table
        gateway.plane.table = a_table(models=[a_declared()], version=2)
        await until(lambda: not gateway.plane._vigil._hung)
        pings = frozen.pings
        await asyncio.sleep(0.3)
        assert frozen.pings <= pings + 1
        gateway.plane.table = table
        frozen.thaw()
