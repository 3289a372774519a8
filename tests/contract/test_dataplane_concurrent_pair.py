"""Prefill and decode asked at once, as SGLang wants it: they meet in a room or fail together."""

import asyncio
import contextlib
import itertools
from collections import defaultdict

import pytest
from fleets import a_worker
from gateway_world import (
    DONE,
    FakeWorker,
    Gateway,
    a_declared,
    a_table,
    completion,
    event,
    good,
    once,
    token,
)
from teller import CHAT, Heard, Teller, after, listen

from pipelines.topology import expand

TOKENS = token("a") + token("b") + token("c")


class Rooms:
    """Where the halves of a pair meet: decode answers once prefill has been there too."""

    def __init__(self):
        self.filled = defaultdict(asyncio.Event)
        self.entered = defaultdict(asyncio.Event)
        self.aborted = []  # roles whose leg the gateway ended

    async def prefill(self, call):
        room = call.json["bootstrap_room"]
        async with self._unless_left(call, "prefill"):
            await self.entered[room].wait()
        self.filled[room].set()
        await good(call)

    async def decode(self, call, answer=good):
        room = call.json["bootstrap_room"]
        self.entered[room].set()
        async with self._unless_left(call, "decode"):
            await self.filled[room].wait()
        await answer(call)

    @contextlib.asynccontextmanager
    async def _unless_left(self, call, role):
        """Ends the call when the gateway leaves it."""
        task = asyncio.current_task()

        async def watch():
            await call.until_closed(60)
            self.aborted.append(role)
            task.cancel()

        watcher = asyncio.create_task(watch())
        try:
            yield
        finally:
            watcher.cancel()
            await asyncio.wait((watcher,))


@contextlib.asynccontextmanager
async def a_room(*, prefill=(), decode=(), rooms=None, limits=None, **options):
    """A gateway before an external pair of these workers, by default ones that do well."""
    rooms = rooms or Rooms()
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        prefills = [await enter(FakeWorker(each)) for each in prefill or (rooms.prefill,)]
        decodes = [await enter(FakeWorker(each)) for each in decode or (rooms.decode,)]
        gateway = await enter(Gateway(**options))
        topology = {
            "type": "external",
            "prefill": [{"url": fake.url, "bootstrap_port": 8998} for fake in prefills],
            "decode": [{"url": fake.url} for fake in decodes],
        }
        model = a_declared(
            variants=[{"engine": "sglang", "topology": topology}],
            routing={"policy": "round_robin"},
            limits=limits or {},
        )
        fleet = [
            a_worker(plan, id=f"m-{plan.role}-{plan.ordinal}", url=plan.external.url)
            for (plan,) in expand(model)
        ]
        gateway.plane.table = a_table(models=[model], workers=fleet)
        gateway.prefills, gateway.decodes, gateway.rooms = prefills, decodes, rooms
        yield gateway


def rooms_of(workers):
    return [call.json["bootstrap_room"] for worker in workers for call in worker.calls]


def status(http_status, **error):
    async def answer(call):
        await call.answer(http_status, {"error": {"message": "as said", "type": "x", **error}})

    return answer


async def drop(call):
    raise ConnectionResetError


async def hang(call):
    await call.until_closed(60)


async def error_event(call):
    await call.begin_stream()
    await call.chunk(event({"error": {"message": "KV transfer failed", "code": 500}}))
    await call.end_stream()


@pytest.mark.parametrize("stream", [False, True])
async def test_both_get_the_same_at_once_and_decode_answers(stream):
    async with a_room() as gateway:
        answer = await gateway.post(stream=stream)
        assert answer.headers["x-modelyard-mode"] == "disaggregated"
        assert answer.content == TOKENS + DONE if stream else answer.json() == completion()
        (prefill,), (decode,) = gateway.prefills[0].calls, gateway.decodes[0].calls
        assert prefill.json == decode.json
        assert prefill.json["bootstrap_host"] == "127.0.0.1"
        assert prefill.json["bootstrap_port"] == 8998
        assert 0 <= prefill.json["bootstrap_room"] < 2**63


@pytest.mark.parametrize(
    ("broken", "stream"),
    [
        *itertools.product([drop, status(500), status(503), status(401)], [False, True]),
        (error_event, True),
    ],
)
async def test_a_prefill_that_fails_ends_decodes_wait_and_a_new_room_is_taken(broken, stream):
    rooms = Rooms()
    both = {"prefill": [once(broken, rooms.prefill), rooms.prefill], "decode": [rooms.decode] * 2}
    async with a_room(rooms=rooms, **both) as gateway:
        for _ in range(2):  # whoever comes first
            answer = await asyncio.wait_for(gateway.post(stream=stream), 2)
            assert answer.status_code == 200
        await gateway.assert_quiet()
        assert rooms.aborted == ["decode"]
        seen = rooms_of(gateway.decodes)
        assert len(set(seen)) == len(seen) == 3


@pytest.mark.parametrize("broken", [drop, status(500), error_event])
async def test_a_decode_that_fails_ends_prefills_wait_and_a_new_room_is_taken(broken):
    rooms = Rooms()
    both = {"prefill": [rooms.prefill] * 2, "decode": [once(broken, rooms.decode), rooms.decode]}
    async with a_room(rooms=rooms, **both) as gateway:
        for _ in range(2):
            assert (await asyncio.wait_for(gateway.post(stream=True), 2)).content == TOKENS + DONE
        await gateway.assert_quiet()
        assert rooms.aborted == ["prefill"]
        seen = rooms_of(gateway.prefills)
        assert len(set(seen)) == len(seen) == 3


async def test_a_kept_connection_that_closes_under_a_leg_takes_no_room_twice():
    used, rooms = set(), Rooms()

    async def closes(call):
        if call.writer in used:
            used.clear()
            raise ConnectionResetError
        used.add(call.writer)
        await rooms.decode(call)

    async with a_room(rooms=rooms, decode=[closes]) as gateway:
        for _ in range(3):
            assert (await asyncio.wait_for(gateway.post(stream=True), 2)).status_code == 200
        seen = rooms_of(gateway.decodes)
        assert len(set(seen)) == len(seen) == 3 + 2  # the second and the third had to try twice


@pytest.mark.parametrize("refuses", ["prefill", "decode", "both"])
async def test_a_refusal_of_either_is_the_clients(refuses):
    rooms = Rooms()
    no = status(400, code=400, param="prompt")
    both = {
        "prefill": [no if refuses != "decode" else rooms.prefill],
        "decode": [no if refuses != "prefill" else rooms.decode],
    }
    async with a_room(rooms=rooms, **both) as gateway:
        answer = await asyncio.wait_for(gateway.post(stream=True), 2)
        assert answer.status_code == 400
        assert answer.json()["error"]["message"] == "as said"
        assert len(gateway.decodes[0].calls) == 1
        await gateway.assert_quiet()


async def test_decode_is_never_asked_alone():
    async with a_room(prefill=[status(500)]) as gateway:
        answer = await asyncio.wait_for(gateway.post(n=2), 3)
        assert answer.status_code == 502
        assert all("bootstrap_room" in call.json for call in gateway.decodes[0].calls)
        assert len(set(rooms_of(gateway.decodes))) == len(gateway.decodes[0].calls) == 3


@pytest.mark.parametrize("role_comes", [False, True])
async def test_kv_that_never_comes_is_cut_by_the_transfers_limit(role_comes):
    """It counts from prefill's answer to decode's first token: the role alone is none."""
    rooms = Rooms()
    teller = Teller()

    async def never(call):
        rooms.entered[call.json["bootstrap_room"]].set()
        if role_comes:
            await asyncio.sleep(0.05)
            data = teller.payload(call.json)
            await call.begin_stream()
            await call.chunk(data[: after(data, b'"role"')])
        await hang(call)

    async def tell(call):
        await rooms.decode(call, teller)

    limits = {"transfer_s": 0.2, "first_token_s": 30}
    both = {"decode": [once(never, tell), once(never, tell)]}
    async with a_room(rooms=rooms, limits=limits, **both) as gateway:
        heard = await asyncio.wait_for(listen(gateway, CHAT), 3)
        assert (heard.text, heard.roles, heard.done) == ("".join(teller.story), 1, 1)
        labels = {"model": "m", "reason": "deadline_transfer"}
        assert gateway.sample("modelyard_upstream_failures_total", **labels) >= 1


async def test_a_prefill_that_takes_longer_than_a_transfer_is_waited_for():
    rooms = Rooms()

    async def slow(call):
        await asyncio.sleep(0.3)
        await rooms.prefill(call)

    limits = {"transfer_s": 0.1, "first_token_s": 30}
    async with a_room(rooms=rooms, prefill=[slow], limits=limits) as gateway:
        assert (await gateway.post(stream=True)).content == TOKENS + DONE
        assert len(gateway.decodes[0].calls) == 1


@pytest.mark.parametrize("stuck", ["prefill", "decode"])
async def test_a_client_that_leaves_ends_both_legs(stuck):
    reached = asyncio.Event()
    left = []

    async def waits(call):
        reached.set()
        await hang(call)
        left.append(call)

    rooms = Rooms()
    async with a_room(rooms=rooms, prefill=[waits], decode=[waits]) as gateway:
        post = asyncio.create_task(gateway.post(stream=True))
        await reached.wait()
        await asyncio.sleep(0.05)
        post.cancel()
        await asyncio.gather(post, return_exceptions=True)
        await gateway.assert_quiet()
        assert len(left) == 2
        (record,) = await gateway.usage()
        assert record.status == "cancelled"


async def test_failures_of_prefill_long_ago_do_not_set_it_aside():
    """Only several in a row do: an answer in between counts for it too."""
    rooms = Rooms()
    turn = 0

    async def every_other(call):
        nonlocal turn
        turn += 1
        await (error_event if turn % 2 else rooms.prefill)(call)

    async with a_room(rooms=rooms, prefill=[every_other]) as gateway:
        for _ in range(6):
            assert (await gateway.post(stream=True)).status_code == 200
        assert gateway.plane.router.health.aside(0) == set()


async def test_a_pairs_stream_is_taken_over_by_a_new_pair():
    rooms, teller = Rooms(), Teller(cuts=[700])

    async def tell(call):
        await rooms.decode(call, teller)

    async with a_room(rooms=rooms, decode=[tell, tell]) as gateway:
        heard: Heard = await listen(gateway, CHAT)
        assert (heard.text, heard.finish, heard.done) == ("".join(teller.story), ["stop"], 1)
        first, second = gateway.prefills[0].calls
        assert second.json["continue_final_message"] is True
        assert first.json["bootstrap_room"] != second.json["bootstrap_room"]
