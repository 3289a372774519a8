"""Who is asked whether it is idle, and how many at once."""

import asyncio

import httpx
from fleets import unified, workers_of

from pipelines.drains import idle_among

BUSY = "vllm:num_requests_running 1\n"
LIMIT = 64  # connections that the probes' client has


async def test_of_many_workers_a_busy_one_is_never_taken_for_idle():
    at_once, most = 0, 0

    async def answer(request):
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0)
        at_once -= 1
        return httpx.Response(200, text=BUSY if request.url.host == "busy" else "")

    workers = workers_of(unified("m", workers=100), url="http://idle:1")
    busy = workers_of(unified("n"), url="http://busy:1")

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        idle = await idle_among(client, [*workers, *busy])

    assert idle == {worker.id for worker in workers}
    assert most <= LIMIT / 2, "the others are those of health checks and scrapes"
