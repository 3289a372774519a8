"""Who is scraped when, and what is kept of it; no socket, the workers are functions."""

import asyncio

import httpx
import pytest
from fleets import a_worker, external, unified, workers_of

from pipelines.measured import NO_METRICS_EVERY_S, SAMPLES_KEPT_S, SCRAPE_EVERY_S, Measured
from pipelines.topology import expand
from registry.state import Phase

TEXT = "vllm:kv_cache_usage_perc 0.5\n"


class World:
    """A clock, and workers that answer TEXT unless told otherwise."""

    def __init__(self, tasks):
        self.now = 1000.0
        self.asked = []
        self.status = 200
        self.text = TEXT
        self.hold = None  # an event that answers wait for
        client = httpx.AsyncClient(transport=httpx.MockTransport(self._answer))
        self.measured = Measured(client, tasks, lambda: self.now)

    async def _answer(self, request):
        self.asked.append(str(request.url))
        if self.hold is not None:
            await self.hold.wait()
        return httpx.Response(self.status, text=self.text)

    async def look(self, workers, later_s=0.0):
        self.now += later_s
        self.measured.look(workers)
        for _ in range(50):
            await asyncio.sleep(0)


@pytest.fixture
async def world():
    async with asyncio.TaskGroup() as tasks:
        yield World(tasks)


async def test_every_ready_worker_is_asked_every_few_seconds(world):
    one, two = workers_of(unified("m", workers=2))

    await world.look([one, two])
    await world.look([one, two], SCRAPE_EVERY_S - 0.1)
    assert len(world.asked) == 2
    await world.look([one, two], 0.1)

    assert len(world.asked) == 4
    assert [sample.at for sample in world.measured.samples(one.id)] == [1000.0, 1005.0]
    assert world.measured.samples(two.id)[0].metrics.kv_cache_usage == 0.5


async def test_a_clock_that_is_set_back_does_not_stop_it(world):
    workers = workers_of(unified("m"))

    await world.look(workers)
    await world.look(workers, -900)

    assert len(world.asked) == 2


async def test_when_a_worker_was_last_seen_at_work_is_known_for_as_long_as_it_is_ready(world):
    (worker,) = workers_of(unified("m"))

    async def scraped(running, tokens):
        world.text = f"vllm:num_requests_running {running}\nvllm:generation_tokens_total {tokens}\n"
        await world.look([worker], SCRAPE_EVERY_S)
        return dict(world.measured.worked_at)

    assert await scraped(0, 7) == {}, "that may have been its probe"
    assert await scraped(1, 7) == {worker.id: 1010.0}
    assert await scraped(0, 7) == {worker.id: 1010.0}
    assert await scraped(0, 9) == {worker.id: 1015.0}, "not before it was looked at last"
    await world.look([], SCRAPE_EVERY_S)
    assert not world.measured.worked_at


async def test_a_worker_that_is_not_ready_is_left_alone_and_forgotten(world):
    (plan,) = (plan for gang in expand(unified("m")) for plan in gang)
    ready = a_worker(plan, id="w")
    draining = a_worker(plan, Phase.DRAINING, id="w")

    await world.look([ready])
    assert world.measured.every()
    await world.look([draining], SCRAPE_EVERY_S)

    assert len(world.asked) == 1
    assert world.measured.samples("w") == ()
    assert not world.measured.every()


async def test_a_slow_worker_is_asked_once_at_a_time(world):
    workers = workers_of(unified("m"))
    world.hold = asyncio.Event()

    await world.look(workers)
    await world.look(workers, SCRAPE_EVERY_S)
    assert len(world.asked) == 1

    world.hold.set()
    await world.look(workers)  # the late answer comes
    await world.look(workers)
    assert len(world.asked) == 2


async def test_what_comes_from_a_worker_that_went_meanwhile_is_not_kept(world):
    workers = workers_of(unified("m"))
    world.hold = asyncio.Event()

    await world.look(workers)
    await world.look([])
    world.hold.set()
    await world.look([])

    assert not world.measured.every()


async def test_only_so_much_is_kept(world):
    workers = workers_of(unified("m"))
    for _ in range(100):
        await world.look(workers, SCRAPE_EVERY_S)

    kept = world.measured.samples(workers[0].id)

    assert len(kept) == SAMPLES_KEPT_S / SCRAPE_EVERY_S + 1
    world.now += SAMPLES_KEPT_S
    assert len(world.measured.samples(workers[0].id)) == 1


async def test_who_shows_no_metrics_is_asked_less_often(world):
    workers = workers_of(external("m", urls=["http://elsewhere"]))
    world.status = 404

    await world.look(workers)
    await world.look(workers, NO_METRICS_EVERY_S - 0.1)
    assert len(world.asked) == 1
    await world.look(workers, 0.1)

    assert len(world.asked) == 2
    assert not world.measured.samples(workers[0].id)


async def test_a_failed_scrape_is_no_sample_and_is_repeated(world):
    workers = workers_of(unified("m"))
    world.status = 500

    await world.look(workers)
    await world.look(workers, SCRAPE_EVERY_S)

    assert len(world.asked) == 2
    assert not world.measured.every()
