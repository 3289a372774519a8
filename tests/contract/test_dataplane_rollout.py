"""Over a socket: while a model rolls out, its canary has its part, and nobody misses an answer."""

import contextlib
from collections import Counter
from random import Random

import msgspec
import pytest
from fleets import rolling_out
from gateway_world import AGGREGATED, FakeWorker, Gateway, a_declared, a_fleet, a_table, good

ASKED = 200


@contextlib.asynccontextmanager
async def a_canary(percent, *, old=good, new=good):
    """One worker of each of two revisions; None: it is not there."""
    async with contextlib.AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(Gateway())
        gateway.plane.router._random = Random(11).random
        base = a_declared()
        newest = a_declared(topology={**AGGREGATED, "args": {"seed": 1}})
        workers = []
        for model, behaviour, name in ((base, old, "old"), (newest, new, "new")):
            if behaviour is not None:
                fake = await stack.enter_async_context(FakeWorker(behaviour))
                (worker,) = a_fleet(model, unified=[fake.url])
                workers.append(msgspec.structs.replace(worker, id=name))
        model = rolling_out(base, newest, percent)
        gateway.plane.table = a_table(models=[model], workers=workers)
        yield gateway


async def revisions(gateway, times):
    answers = [await gateway.post() for _ in range(times)]
    assert {answer.status_code for answer in answers} == {200}
    return Counter(answer.headers["x-modelyard-revision"] for answer in answers)


async def test_at_25_percent_a_quarter_of_the_requests_go_to_the_new_revision():
    async with a_canary(25) as gateway:
        seen = await revisions(gateway, ASKED)
        assert set(seen) == {"3", "4"}
        assert 0.17 < seen["4"] / ASKED < 0.33
        used = Counter(str(record.revision) for record in await gateway.usage())
        assert used == seen, "what is metered says the same"


@pytest.mark.parametrize(("gone", "left"), [("new", "3"), ("old", "4")])
async def test_where_one_revision_has_no_worker_the_other_serves_all(gone, left):
    async with a_canary(25, **{gone: None}) as gateway:
        assert await revisions(gateway, 20) == {left: 20}


async def slams(call):
    call.writer.transport.abort()


@pytest.mark.parametrize("percent", [0, 25, 100])
@pytest.mark.parametrize(("dead", "left"), [("new", "3"), ("old", "4")])
async def test_while_nobody_knows_yet_that_one_is_dead_the_other_answers(percent, dead, left):
    """Whatever its part is: each request is tried again where somebody lives."""
    async with a_canary(percent, **{dead: slams}) as gateway:
        assert await revisions(gateway, 20) == {left: 20}
