"""When an external worker is probed, and what a probe makes of it."""

import asyncio

import httpx
import pytest
from fleets import a_worker, external

from pipelines.readiness import EXTERNAL_PROBE_EVERY_S, HEALTH_EVERY_S, UNHEALTHY_MAX_S, Readiness
from pipelines.topology import expand
from registry.errors import NotFoundError
from registry.state import Phase


class World:
    """Worker *answer*s as a status; time stands until it is moved."""

    def __init__(self):
        self.now, self.status, self.asked, self.told = 1000.0, 200, [], []
        self.refuses_to_record = False
        client = httpx.AsyncClient(transport=httpx.MockTransport(self._answer))
        self.readiness = Readiness(client, self, self._tell, lambda: self.now)
        self._tasks = []

    def create_task(self, probe):
        self._tasks.append(asyncio.ensure_future(probe))

    def _answer(self, request):
        self.asked.append(request.url.path)
        return httpx.Response(self.status, json={"choices": [{}]})

    async def _tell(self, worker_id, phase, reason):
        if self.refuses_to_record:
            raise NotFoundError("worker", worker_id)
        self.told.append((phase, reason))

    async def look(self, *workers, after_s=0.0):
        """The paths that were asked for in this look."""
        self.now += after_s
        self.asked.clear()
        self.readiness.look(workers)
        await asyncio.gather(*self._tasks)
        self._tasks.clear()
        return list(self.asked)


@pytest.fixture
def world():
    return World()


def a_reached(phase=Phase.STARTING, **change):
    (plan,) = expand(external("x", urls=["http://w"], engine="vllm"))[0]
    return a_worker(plan, phase, url=plan.external.url, **change)


async def test_it_is_ready_by_its_health_its_models_and_one_generation(world):
    assert await world.look(a_reached()) == ["/health", "/v1/models", "/v1/completions"]
    assert world.told == [(Phase.READY, "")]


async def test_one_that_is_not_ready_is_asked_again_in_its_own_time(world):
    world.status, worker = 503, a_reached()
    assert await world.look(worker)
    assert world.told[0][0] is Phase.STARTING
    assert "503" in world.told[0][1]
    assert not await world.look(worker, after_s=EXTERNAL_PROBE_EVERY_S - 0.1)
    assert await world.look(worker, after_s=0.1)
    assert await world.look(a_reached(id="another"))


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.READY])
@pytest.mark.parametrize("status", [401, 403])
async def test_one_that_refuses_our_key_ends_so_that_the_key_is_read_anew(world, phase, status):
    world.status = status
    await world.look(a_reached(phase))
    ((told, reason),) = world.told
    assert told is Phase.FAILED
    assert str(status) in reason


async def test_a_ready_one_is_unhealthy_after_a_silence_and_the_last_word_is_kept(world):
    worker = a_reached(Phase.READY)
    await world.look(worker)
    world.status = 500
    await world.look(worker, after_s=HEALTH_EVERY_S)
    assert "/health: 500" in world.readiness.complaint(worker)
    assert world.readiness.unhealthy([worker]) == []
    await world.look(worker, after_s=UNHEALTHY_MAX_S)
    assert world.readiness.unhealthy([worker]) == [worker]

    world.status = 200
    await world.look(worker, after_s=HEALTH_EVERY_S)
    assert world.readiness.unhealthy([worker]) == []
    assert world.readiness.complaint(worker) == ""


async def test_what_is_gone_is_forgotten(world):
    workers = a_reached(Phase.READY, id="a"), a_reached(id="b")
    await world.look(*workers)
    await world.look()
    assert not world.readiness._health
    assert not world.readiness._asked_at


async def test_a_record_that_fails_ends_nothing_else(world):
    world.refuses_to_record = True
    await world.look(a_reached())
    world.refuses_to_record = False
    await world.look(a_reached(), after_s=EXTERNAL_PROBE_EVERY_S)
    assert world.told == [(Phase.READY, "")]
