"""What tests of measuring stand on: emulators as the workers of a model, and one that is busy."""

import asyncio
from collections.abc import Iterable

import httpx
from msgspec.structs import replace

from pipelines.engines.emulator.server import Running
from registry.state import Worker


def answering(workers: Iterable[Worker], emulators: Iterable[Running]) -> list[Worker]:
    """*workers*, each of which one of *emulators* is."""
    return [
        replace(worker, url=emulator.url, token="", id=f"w{worker.plan.ordinal}")
        for worker, emulator in zip(workers, emulators, strict=False)
    ]


async def hold(emulator: Running) -> asyncio.Task:
    """A request of somebody else that does not end."""
    async with httpx.AsyncClient(base_url=emulator.url) as http:
        await http.post("/fault", json={"kind": "hang"})

    async def ask() -> None:
        async with httpx.AsyncClient(base_url=emulator.url, timeout=60) as http:
            await http.post("/v1/completions", json={"model": "m", "prompt": "x"})

    task = asyncio.create_task(ask())
    await asyncio.sleep(0.2)
    return task
