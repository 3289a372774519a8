"""Requests for a model that sleeps are held until it is awake, and their clients know it."""

import asyncio

import msgspec
import pytest
from gateway_world import (
    FakeWorker,
    Gateway,
    a_declared,
    a_fleet,
    a_key,
    a_table,
    good,
    token,
)

from gateway.proxy import hold
from registry.state import Phase, Priority, SleepMode

ASLEEP = {"phase": Phase.ASLEEP, "sleep_mode": SleepMode.WEIGHTS_ON_HOST}


def the_table(worker, *, version=1, idle=None, limits=None, **state):
    """One worker, ready but for its *state*."""
    spec = {"idle": {"after_s": 60, **(idle or {})}, "limits": limits or {}}
    model = a_declared(**spec)
    fleet = [msgspec.structs.replace(one, **state) for one in a_fleet(model, unified=[worker.url])]
    keys = (a_key(), a_key("mk-low", priority=Priority.LOW))
    return a_table(models=[model], workers=fleet, keys=keys, version=version)


async def waiting(gateway, count):
    async with asyncio.timeout(3):
        while gateway.plane.admission.waiting.get("m", 0) != count:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


class Stream:
    """A client that reads its stream bit by bit."""

    def __init__(self, gateway, path="/v1/completions", **fields):
        body = {"model": "m", "prompt": "hi", "stream": True, **fields}
        self._context = gateway.client.stream("POST", path, json=body)

    async def __aenter__(self):
        self.response = await self._context.__aenter__()
        self._chunks = self.response.aiter_raw()
        return self

    async def __aexit__(self, *error):
        await self._context.__aexit__(*error)

    async def next(self):
        async with asyncio.timeout(3):
            return await anext(self._chunks)

    async def rest(self):
        async with asyncio.timeout(3):
            return b"".join([chunk async for chunk in self._chunks])


async def test_all_who_ask_a_sleeping_model_are_answered_when_it_is_awake():
    hurried = []
    async with FakeWorker(good) as worker, Gateway() as gateway:
        gateway.plane.signals.on_hurry = lambda: hurried.append(1)
        gateway.plane.table = the_table(worker, **ASLEEP)
        whole = [asyncio.create_task(gateway.post()) for _ in range(10)]
        streamed = [asyncio.create_task(gateway.post(stream=True)) for _ in range(10)]
        await waiting(gateway, 20)
        demand = gateway.plane.signals.demand("g", 0.0)["m"]
        assert (demand.queued, demand.in_flight) == (20, 0)
        assert hurried, "the controller is told at once"
        gateway.plane.table = the_table(worker, version=2, phase=Phase.WAKING)
        gateway.plane.table = the_table(worker, version=3, phase=Phase.STARTING)
        await asyncio.sleep(0.05)
        assert worker.calls == []
        gateway.plane.table = the_table(worker, version=4)
        answers = await asyncio.gather(*whole, *streamed)
    assert [answer.status_code for answer in answers] == [200] * 20
    assert {answer.json()["choices"][0]["text"] for answer in answers[:10]} == {"hello"}
    assert all(answer.text.endswith("data: [DONE]\n\n") for answer in answers[10:])
    assert len(worker.calls) == 20


async def test_a_stream_is_greeted_at_once_and_hears_that_it_is_not_forgotten(monkeypatch):
    monkeypatch.setattr(hold, "HEARTBEAT_S", 0.1)
    async with FakeWorker(good) as worker, Gateway() as gateway:
        gateway.plane.table = the_table(worker, **ASLEEP)
        async with Stream(gateway) as stream:
            assert stream.response.status_code == 200
            assert stream.response.headers["content-type"].startswith("text/event-stream")
            assert [await stream.next() for _ in range(3)] == [b": waking m\n\n"] * 3
            gateway.plane.table = the_table(worker, version=2)
            rest = await stream.rest()
    assert rest.replace(b": waking m\n\n", b"").startswith(token("a"))
    assert rest.endswith(b"data: [DONE]\n\n")
    assert gateway.sample("modelyard_requests_total", model="m", status="200") == 1


async def test_who_is_greeted_goes_on_with_another_worker_when_the_first_one_fails():
    """The client has a head, and nothing of an answer: no takeover, a new try."""

    async def falls(call):
        call.writer.transport.abort()

    async with FakeWorker(falls) as bad, FakeWorker(good) as worker, Gateway() as gateway:
        gateway.plane.table = the_table(worker, **ASLEEP)
        async with Stream(gateway) as stream:
            await stream.next()
            model = a_declared()
            fleet = a_fleet(model, unified=[bad.url, worker.url])
            gateway.plane.router._random = lambda: 0.0  # the first one
            gateway.plane.table = a_table(models=[model], workers=fleet, version=2)
            rest = await stream.rest()
        assert bad.calls
        assert rest.startswith(token("a"))
        assert rest.endswith(b"data: [DONE]\n\n")
        assert not gateway.sample("modelyard_takeovers_total", model="m")


@pytest.mark.parametrize(
    ("path", "fields", "mark"),
    [
        ("/v1/completions", {}, b'data: {"error":{"message":'),
        (
            "/v1/messages",
            {"max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]},
            b'event: error\ndata: {"type":"error"',
        ),
    ],
)
async def test_an_error_after_the_greeting_is_an_event_in_the_clients_dialect(path, fields, mark):
    async with FakeWorker(good) as worker, Gateway() as gateway:
        gateway.plane.table = the_table(worker, idle={"wake_s": 1}, **ASLEEP)
        async with Stream(gateway, path, **fields) as stream:
            assert await stream.next() == b": waking m\n\n"
            rest = await stream.rest()
    assert rest.startswith(mark)
    assert b"did not wake up within 1 s" in rest
    assert gateway.sample("modelyard_requests_total", model="m", status="broken_stream") == 1


async def test_a_refusal_of_the_worker_is_an_event_too():
    async def refuse(call):
        await call.answer(400, {"error": {"message": "too long", "type": "BadRequest"}})

    async with FakeWorker(refuse) as worker, Gateway() as gateway:
        gateway.plane.table = the_table(worker, **ASLEEP)
        async with Stream(gateway) as stream:
            await stream.next()
            gateway.plane.table = the_table(worker, version=2)
            assert b'"message":"too long"' in await stream.rest()


async def test_who_waits_longer_than_the_model_may_take_to_wake_is_told_why():
    async with FakeWorker(good) as worker, Gateway() as gateway:
        gateway.plane.table = the_table(worker, idle={"wake_s": 1}, **ASLEEP)
        answer = await gateway.post()
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "wake_timeout"
    assert "retry-after" in answer.headers


async def test_the_total_time_is_kept_while_it_is_held():
    async with FakeWorker(good) as worker, Gateway() as gateway:
        gateway.plane.table = the_table(worker, limits={"total_s": 0.3}, **ASLEEP)
        answer = await gateway.post()
    assert answer.status_code == 504


async def test_the_time_to_the_first_token_begins_when_there_is_a_worker():
    async def slowly(call):
        await asyncio.sleep(0.3)
        await good(call)

    limits = {"first_token_s": 1.0}
    async with FakeWorker(slowly) as worker, Gateway() as gateway:
        gateway.plane.table = the_table(worker, limits=limits, **ASLEEP)
        asked = asyncio.create_task(gateway.post(stream=True))
        await asyncio.sleep(1.2)
        gateway.plane.table = the_table(worker, version=2, limits=limits)
        answer = await asked
    assert answer.text.endswith("data: [DONE]\n\n")


async def test_what_waits_is_bounded_and_the_refused_have_not_been_greeted():
    async with FakeWorker(good) as worker, Gateway() as gateway:
        gateway.plane.table = the_table(worker, limits={"queued": 1}, **ASLEEP)
        first = asyncio.create_task(gateway.post(stream=True))
        await waiting(gateway, 1)
        refused = await gateway.post(stream=True)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "queue_full")
        gateway.plane.table = the_table(worker, version=2, limits={"queued": 1})
        assert (await first).status_code == 200


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_is_held_no_more(stream):
    async with FakeWorker(good) as worker, Gateway() as gateway:
        gateway.plane.table = the_table(worker, **ASLEEP)
        asked = asyncio.create_task(gateway.post(stream=stream))
        await waiting(gateway, 1)
        asked.cancel()
        await waiting(gateway, 0)
        assert gateway.plane.signals.demand("g", 0.0)["m"].queued == 0
        gateway.plane.table = the_table(worker, version=2)
        assert (await gateway.post()).status_code == 200
    assert len(worker.calls) == 1


async def test_a_worker_that_was_put_to_sleep_under_a_request_may_answer_it_when_it_is_awake():
    """An engine that sleeps answers 503: which bars a worker from a request, but not for ever."""

    async def asleep(call):
        gateway.plane.table = the_table(worker, version=2, **ASLEEP)
        worker.behaviour = good
        await call.answer(503)

    async with FakeWorker(asleep) as worker, Gateway() as gateway:
        gateway.plane.table = the_table(worker)
        asked = asyncio.create_task(gateway.post())
        await waiting(gateway, 1)
        gateway.plane.table = the_table(worker, version=3)
        assert (await asked).status_code == 200
    assert len(worker.calls) == 2


async def test_who_is_held_keeps_nobody_from_a_second_try():
    """Else most of those whose worker went away would not be held, but wait for their turn."""
    limits = {"queued_s": 0.2}

    async def asleep(call):
        if len(worker.calls) == 8:
            gateway.plane.table = the_table(worker, version=2, limits=limits, **ASLEEP)
            worker.behaviour = good
            all_came.set()
        await all_came.wait()
        await call.answer(503)

    all_came = asyncio.Event()
    async with FakeWorker(asleep) as worker, Gateway() as gateway:
        gateway.plane.table = the_table(worker, limits=limits)
        asked = [asyncio.create_task(gateway.post()) for _ in range(8)]
        await all_came.wait()
        await asyncio.sleep(0.5)
        gateway.plane.table = the_table(worker, version=3, limits=limits)
        answers = await asyncio.gather(*asked)
    assert [answer.status_code for answer in answers] == [200] * 8


async def test_who_has_failed_before_the_greeting_is_not_named_in_it():
    async def asleep(call):
        gateway.plane.table = the_table(worker, version=2, **ASLEEP)
        await call.answer(503)

    async with FakeWorker(asleep) as worker, Gateway() as gateway:
        gateway.plane.table = the_table(worker)
        async with Stream(gateway) as stream:
            assert await stream.next() == b": waking m\n\n"
            assert "x-modelyard-workers" not in stream.response.headers


async def test_who_is_held_stays_so_while_the_place_of_one_that_failed_to_wake_is_taken_anew():
    async with FakeWorker(good) as worker, Gateway() as gateway:
        gateway.plane.table = the_table(worker, **ASLEEP)
        asked = asyncio.create_task(gateway.post())
        await waiting(gateway, 1)
        gateway.plane.table = a_table(models=[a_declared()], workers=[], version=2)
        await asyncio.sleep(0.05)
        assert not asked.done()
        gateway.plane.table = the_table(worker, version=3)
        assert (await asked).status_code == 200


async def test_who_waits_for_a_model_that_is_deleted_is_told_so_at_once():
    async with FakeWorker(good) as worker, Gateway() as gateway:
        gateway.plane.table = the_table(worker, **ASLEEP)
        asked = asyncio.create_task(gateway.post())
        await waiting(gateway, 1)
        gateway.plane.table = a_table(models=[], version=2)
        assert (await asked).status_code == 503


async def test_a_model_that_is_only_coming_up_is_refused_unless_somebodys_asking_brings_it_up():
    async with FakeWorker(good) as worker, Gateway() as gateway:
        gateway.plane.table = the_table(worker, idle={"after_s": 0}, phase=Phase.STARTING)
        assert (await gateway.post()).status_code == 503
        woken = {"phase": Phase.STARTING, "turned_at": 5.0}
        for version, table in enumerate(
            (
                the_table(worker, version=2, phase=Phase.STARTING),
                the_table(worker, version=3, idle={"after_s": 0}, **woken),
            )
        ):
            gateway.plane.table = table
            asked = asyncio.create_task(gateway.post())
            await waiting(gateway, 1)
            gateway.plane.table = the_table(worker, version=10 + version)
            assert (await asked).status_code == 200


async def test_a_sleeping_model_counts_as_ready():
    async with FakeWorker(good) as worker, Gateway() as gateway:
        gateway.plane.table = the_table(worker, **ASLEEP)
        assert (await gateway.client.get("/readyz")).status_code == 200


async def test_while_one_sleeps_the_others_take_turns():
    async with FakeWorker(good) as one, FakeWorker(good) as two, Gateway() as gateway:
        model = a_declared(idle={"after_s": 60}, routing={"policy": "round_robin"})
        urls = [one.url, two.url, "http://127.0.0.1:1"]
        *awake, last = a_fleet(model, unified=urls)
        sleeper = msgspec.structs.replace(last, **ASLEEP)
        gateway.plane.table = a_table(models=[model], workers=[*awake, sleeper])
        for _ in range(6):
            assert (await gateway.post()).status_code == 200
    assert (len(one.calls), len(two.calls)) == (3, 3)
