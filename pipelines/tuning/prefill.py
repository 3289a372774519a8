"""Measures what batches of prompt tokens give, on a worker that may be serving meanwhile.

For each number of tokens, prompts that together have so many are sent at once and asked for one
token each. The batch's time is that of the last answer, its TTFT the mean over its prompts: both
as seen from here, so with the way there (a millisecond or two).
"""

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from statistics import mean, median

import httpx
import msgspec

from pipelines.probe import ProbeError, answered, model_tokens_max
from pipelines.tuning.batches import MODEL_TOKENS_ASSUMED, lengths, prompts
from pipelines.tuning.knee import Point
from pipelines.tuning.least_busy import Noted, least_busy, load
from pipelines.tuning.subject import Subject, TuneError
from registry.state import Worker

TOKENS_DEFAULT = (256, 512, 1024, 2048, 4096, 8192)
TOKENS_MIN, TOKENS_MAX, TOKENS_STEP = 64, 131_072, 16
SIZES_MAX = 16
SECONDS_DEFAULT, SECONDS_MIN, SECONDS_MAX = 60.0, 5.0, 600.0
ROUNDS_MAX = 15
_BATCH_TIMEOUT_S = 120.0
POINTS_MIN = 2
ROUNDS_MIN = 2  # behind the one that warms up, for a proposal


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """*tokens* rise. *force*: also where it slows the only worker down that serves."""

    tokens: tuple[int, ...] = TOKENS_DEFAULT
    seconds: float = SECONDS_DEFAULT
    force: bool = False


class Began(msgspec.Struct, frozen=True, kw_only=True, tag="began", tag_field="kind"):
    worker: str
    tokens: tuple[int, ...]
    seconds: float


class Measured(msgspec.Struct, frozen=True, kw_only=True, tag="measured", tag_field="kind"):
    """Of one batch. The first round, 0, warms up: it counts only where it is the only one."""

    round: int
    tokens: int
    prompts: int
    throughput: float
    ttft_s: float


class Swept(msgspec.Struct, frozen=True, kw_only=True, tag="swept", tag_field="kind"):
    """The end: a point for each number of tokens that was measured, by rising numbers."""

    worker: str
    points: tuple[Point, ...]


Step = Began | Noted | Measured | Swept


async def sweep(
    client: httpx.AsyncClient, subject: Subject, wish: Wish, rng: random.Random
) -> AsyncIterator[Step]:
    """Takes about *wish.seconds*. Raises TuneError."""
    worker, notes = await least_busy(client, subject, force=wish.force)
    batches = await _batches(client, worker, subject, wish.tokens, notes)
    yield Began(worker=worker.id, tokens=tuple(batches), seconds=wish.seconds)
    for note in notes:
        yield Noted(message=note)
    found: dict[int, list[Measured]] = defaultdict(list)
    others, until = 0, time.monotonic() + wish.seconds
    for number in range(ROUNDS_MAX + 1):
        order = list(batches)
        if number:  # what drifts meanwhile is to hit all alike
            rng.shuffle(order)
        for tokens in order:
            if time.monotonic() >= until:
                break
            measured = await _measure(client, worker, batches[tokens], number, rng)
            others += await load(client, worker) > 0
            found[tokens].append(measured)
            yield measured
    if others:
        yield Noted(
            message=f"{worker.id} served others after {others} batches: they are part of what was "
            "measured, and it may be less than it can"
        )
    late = [str(tokens) for tokens in batches if tokens not in found]
    if late:
        yield Noted(message=f"there was no time for batches of {', '.join(late)} tokens")
    if len(found) < POINTS_MIN:
        raise TuneError(
            f"{wish.seconds:.0f} s were enough for {len(found)} of {len(batches)} batches: give it "
            "more seconds, or fewer tokens"
        )
    yield Swept(worker=worker.id, points=tuple(_point(found[size]) for size in sorted(found)))


async def _batches(
    client: httpx.AsyncClient,
    worker: Worker,
    subject: Subject,
    wanted: tuple[int, ...],
    notes: list[str],
) -> dict[int, tuple[int, ...]]:
    """By tokens, the lengths of the prompts. Raises TuneError."""
    try:
        model_max = await model_tokens_max(client, worker) or MODEL_TOKENS_ASSUMED
    except ProbeError as error:
        raise TuneError(str(error)) from None
    bound = subject.bound
    tokens = tuple(size for size in wanted if size <= bound) if bound else wanted
    batches = {
        size: of
        for size in tokens
        if (of := lengths(size, shortest=wanted[0], model_tokens_max=model_max))
    }
    if len(tokens) < len(wanted):
        notes.append(
            f"its {subject.flag} is {bound}, what is above is split: to measure larger batches, "
            "apply a higher one first"
        )
    elif not bound:
        notes.append(
            f"it has no {subject.flag} of its own: batches above its engine's default are split, "
            "and their throughput is that of the parts"
        )
    if len(batches) < len(tokens):
        notes.append(f"prompts of {model_max} tokens at most do not make the larger batches")
    if len(batches) < POINTS_MIN:
        raise TuneError(f"less than {POINTS_MIN} batches can be measured: {'; '.join(notes)}")
    return batches


async def _measure(
    client: httpx.AsyncClient,
    worker: Worker,
    of: tuple[int, ...],
    number: int,
    rng: random.Random,
) -> Measured:
    made = prompts(of, rng)
    began = time.perf_counter()

    async def took_s(prompt: list[int]) -> float:
        await answered(client, worker, prompt, 1, _BATCH_TIMEOUT_S)
        return time.perf_counter() - began

    try:
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(took_s(prompt)) for prompt in made]
    except* ProbeError as failed:
        raise TuneError(str(failed.exceptions[0])) from None
    took = [task.result() for task in asked]
    return Measured(
        round=number,
        tokens=sum(of),
        prompts=len(of),
        throughput=sum(of) / max(took),
        ttft_s=mean(took),
    )


def _point(rounds: list[Measured]) -> Point:
    counted = rounds[1:] or rounds
    return Point(
        tokens=counted[0].tokens,
        throughput=median(one.throughput for one in counted),
        ttft_s=median(one.ttft_s for one in counted),
        rounds=len(rounds) - 1,
    )
