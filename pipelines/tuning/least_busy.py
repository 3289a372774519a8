"""Which worker is measured: the least busy one, and none that alone serves others."""

import asyncio

import httpx
import msgspec

from pipelines.probe import ProbeError, scrape
from pipelines.tuning.subject import Subject, TuneError
from registry.state import Worker


class Noted(msgspec.Struct, frozen=True, kw_only=True, tag="noted", tag_field="kind"):
    message: str


async def least_busy(
    client: httpx.AsyncClient, subject: Subject, *, force: bool
) -> tuple[Worker, list[str]]:
    """The one that is measured, and what is to be said of that. Raises TuneError."""
    loads = await asyncio.gather(*(load(client, worker) for worker in subject.workers))
    busy = min(loads)
    worker = subject.workers[loads.index(busy)]
    only = len(subject.workers) == 1
    if busy and only and not force:
        raise TuneError(
            f"{worker.id} has {busy} requests and is the only {subject.role} worker that is ready: "
            "to measure it now would slow them down, and they would blur what is measured. Ask "
            "again when it is idle, or with force"
        )
    note = ""
    if busy:
        note = f"{worker.id} has {busy} requests of others: they blur what is measured"
    elif only:
        note = (
            f"{worker.id} is the only {subject.role} worker that is ready: requests that come "
            "meanwhile wait for what is measured"
        )
    return worker, [note] if note else []


async def load(client: httpx.AsyncClient, worker: Worker) -> int:
    """How many requests it has. Raises TuneError."""
    try:
        counts = await scrape(client, worker)
    except ProbeError as error:
        raise TuneError(f"its metrics cannot be read: {error}") from None
    return counts.requests_running + counts.requests_waiting
