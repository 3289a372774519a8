"""Measures how long an engine's steps take, by loads that it is given, on a worker that may be
serving meanwhile.

All times are as seen from here, so with the way there (a millisecond or two). Few of the requests
that are answered together are streamed, the last ones: engines begin with who came first, so once
these have a token, all others are being answered as well, and to read many streams would cost this
process more than the engine.
"""

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from statistics import median

import httpx
import msgspec

from pipelines.probe import ProbeError, answered, model_tokens_max, scrape, token_times
from pipelines.tuning.batches import MODEL_TOKENS_ASSUMED, prompts
from pipelines.tuning.least_busy import Noted, least_busy, load
from pipelines.tuning.loads import Load, loads
from pipelines.tuning.subject import Subject, TuneError
from registry.state import PROMPTS_ANSWER_TOKENS, LoadPoint, Worker

SECONDS_DEFAULT, SECONDS_MIN, SECONDS_MAX = 120.0, 10.0, 3600.0
ROUNDS_MAX = 7
_LOAD_S_MAX, _LOAD_S_MIN = 120.0, 5.0  # that a load may take, however little is left of all
_PROBE_S = 2 * _LOAD_S_MAX  # which so never comes first
_STREAMED_MAX = 4
_EVENTS_MIN = 4  # of a stream, between which the time is taken
_POINTS_MIN = 2  # of prompts, and of answers


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """*force*: also where it slows the only worker down that serves."""

    seconds: float = SECONDS_DEFAULT
    force: bool = False


class Began(msgspec.Struct, frozen=True, kw_only=True, tag="began", tag_field="kind"):
    worker: str
    loads: int
    seconds: float


class Measured(msgspec.Struct, frozen=True, kw_only=True, tag="measured", tag_field="kind"):
    """Of one load, *seconds* as in `LoadPoint`. The first round, 0, warms up: it counts only where
    it is the only one.
    """

    round: int
    requests: int
    prompt_tokens: int
    answer_tokens: int
    seconds: float


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """The end. *kv_tokens* is what the KV cache of *worker* has room for; not told by it, what it
    held.
    """

    worker: Worker
    points: tuple[LoadPoint, ...]
    kv_tokens: int
    is_kv_told: bool


Step = Began | Noted | Measured | Seen


async def measure(
    client: httpx.AsyncClient, subject: Subject, wish: Wish, rng: random.Random
) -> AsyncIterator[Step]:
    """Takes about *wish.seconds*. Raises TuneError."""
    worker, notes = await least_busy(client, subject, force=wish.force)
    if not subject.bound:
        notes.append(
            f"it has no {subject.flag} of its own: prompts above its engine's default take several "
            "steps, which are counted as one"
        )
    told, given = await _given(client, worker, subject)
    yield Began(worker=worker.id, loads=len(given), seconds=wish.seconds)
    for note in notes:
        yield Noted(message=note)
    found: dict[Load, list[float]] = defaultdict(list)
    others, left_out, until = 0, set[Load](), time.monotonic() + wish.seconds
    for number in range(ROUNDS_MAX + 1):
        order = [one for one in given if one not in left_out]
        if number:  # what drifts meanwhile is to hit all alike
            rng.shuffle(order)
        for one in order:
            left_s = until - time.monotonic()
            if left_s <= 0:
                break
            within_s = min(_LOAD_S_MAX, max(_LOAD_S_MIN, left_s))
            seconds = await _seconds(client, worker, one, rng, within_s)
            others += await load(client, worker) > 0
            if seconds:
                found[one].append(seconds)
                yield Measured(round=number, seconds=seconds, **msgspec.structs.asdict(one))
            elif one not in found:
                left_out.add(one)
    for note in _notes(worker, given, found, left_out, others):
        yield Noted(message=note)
    _check(found, wish)
    held = max(one.tokens for one in found)
    yield Seen(
        worker=worker,
        points=tuple(_point(one, found[one]) for one in sorted(found)),
        kv_tokens=told or held,
        is_kv_told=bool(told),
    )


async def _given(
    client: httpx.AsyncClient, worker: Worker, subject: Subject
) -> tuple[int, tuple[Load, ...]]:
    """What its KV cache has room for, 0 where it does not tell, and the loads it is given. Raises
    TuneError.
    """
    try:
        told = (await scrape(client, worker)).kv_tokens
        longest = await model_tokens_max(client, worker) or MODEL_TOKENS_ASSUMED
    except ProbeError as error:
        raise TuneError(str(error)) from None
    made = loads(model_tokens_max=longest, batched_tokens=subject.bound, kv_tokens=told)
    return told, made


async def _seconds(
    client: httpx.AsyncClient, worker: Worker, of: Load, rng: random.Random, within_s: float
) -> float:
    """As in `LoadPoint`; 0 where its requests were not answered together, or not *within_s*. Raises
    TuneError.
    """
    made = prompts([of.prompt_tokens] * of.requests, rng)
    try:
        async with asyncio.timeout(within_s):
            if of.answer_tokens == PROMPTS_ANSWER_TOKENS:
                return await _prompts_s(client, worker, made)
            return await _token_s(client, worker, made, of.answer_tokens)
    except TimeoutError:
        return 0.0
    except ExceptionGroup as failed:
        refused, rest = failed.split(ProbeError)
        if refused is None or rest is not None:
            raise
        raise TuneError(str(refused.exceptions[0])) from None


async def _prompts_s(client: httpx.AsyncClient, worker: Worker, made: list[list[int]]) -> float:
    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for prompt in made:
            group.create_task(answered(client, worker, prompt, 1, _PROBE_S))
    return time.perf_counter() - began


async def _token_s(
    client: httpx.AsyncClient, worker: Worker, made: list[list[int]], tokens: int
) -> float:
    """The median over the streams, within the time in which all requests were being answered."""

    async def ended(prompt: list[int]) -> float:
        await answered(client, worker, prompt, tokens, _PROBE_S)
        return time.perf_counter()

    silent = len(made) - _STREAMED_MAX
    async with asyncio.TaskGroup() as group:
        ends = [group.create_task(ended(prompt)) for prompt in made[: max(0, silent)]]
        streams = [
            group.create_task(token_times(client, worker, prompt, tokens, _PROBE_S))
            for prompt in made[max(0, silent) :]
        ]
    seen = [task.result() for task in streams]
    first = max(at[0] for at, _ in seen)
    last = min([at[-1] for at, _ in seen] + [task.result() for task in ends])
    each = [_within(at, counted, first, last) for at, counted in seen]
    return median(each) if all(each) else 0.0


def _within(at: list[float], tokens: int, first: float, last: float) -> float:
    """Seconds a token of events *at*, which are *tokens* together, from *first* to *last*; 0 where
    these are too few.
    """
    inside = [moment for moment in at if first <= moment <= last]
    if len(inside) < _EVENTS_MIN:
        return 0.0
    event_s = (inside[-1] - inside[0]) / (len(inside) - 1)
    return event_s * len(at) / tokens


def _notes(
    worker: Worker,
    given: tuple[Load, ...],
    found: dict[Load, list[float]],
    left_out: set[Load],
    others: int,
) -> list[str]:
    notes = []
    if others:
        notes.append(
            f"{worker.id} served others after {others} loads: they are part of what was measured"
        )
    for why, named in (
        ("their requests were not answered together, or not in time", left_out),
        ("there was no time for them", set(given) - set(found) - left_out),
    ):
        if named:
            loads_named = ", ".join(str(one) for one in given if one in named)
            notes.append(f"without {loads_named} (requests, prompt and answer): {why}")
    return notes


def _check(found: dict[Load, list[float]], wish: Wish) -> None:
    """Raises TuneError unless prompts and answers were both seen often enough."""
    prompted = sum(one.answer_tokens == PROMPTS_ANSWER_TOKENS for one in found)
    if min(prompted, len(found) - prompted) < _POINTS_MIN:
        raise TuneError(
            f"{wish.seconds:.0f} s were enough for {prompted} loads of prompts and "
            f"{len(found) - prompted} of answers, needed are {_POINTS_MIN} of each: give it more "
            "seconds"
        )


def _point(of: Load, rounds: list[float]) -> LoadPoint:
    counted = rounds[1:] or rounds
    return LoadPoint(
        seconds=round(median(counted), 7),
        rounds=len(rounds) - 1,
        **msgspec.structs.asdict(of),
    )
