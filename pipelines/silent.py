"""Tells variants whose pairs no longer move KV, though every process of theirs looks healthy. Pure.

A decode worker that reads no KV computes the prompt again by itself, or fails: clients see slow
answers, or retries. What is held against each other, over the last `WINDOW_S`:

- *expected*: the prompts that the half which counts transfers took up, by its own count of prompt
  tokens, times the share of the variant's requests that went through a pair, as gateways tell it.
  Both are needed: requests are told when they end, so a batch of long ones that ends now moved its
  KV long ago; and prompts that bypass prefill reach decode, too, without a transfer.
- *moved*: the transfers that the same workers counted. Not of engines whose halves meet at once:
  their decode cannot compute a prompt, so an answer is proof enough.

Nobody is accused who is not heard: a worker without metrics, or ready for less than the window.
Limits: fewer than `EXPECTED_MIN` requests in a window tell nothing; and decode workers whose own
prefix caches hold most prompts to the last block need no transfers for them, and would be taken for
some that compute them again.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import msgspec

from pipelines.engines import ENGINES
from pipelines.engines.base import EngineMetrics, Pairing, Sample
from registry.spec import Variant
from registry.state import Model, Phase, Snapshot, Worker
from registry.traffic import SLOT_S, Traffic

WINDOW_S = 45.0
EXPECTED_MIN = 8.0  # requests, or transfers that were tried: below that nothing is said
MOVED_MIN = 0.5  # of what was expected
MOVED_AGAIN_MIN = 0.75  # what takes an accusation back
FAILED_MAX = 0.2  # of the transfers that were tried
FAILED_AGAIN_MAX = 0.1
_SCRAPES_MISSED_S = 12.0  # by how much a worker's samples may fall short of the window

_ABOUT = "variant "  # what every sentence begins with

Key = tuple[str, str]  # model, variant
Samples = Mapping[str, Sequence[Sample]]  # by worker id


class Accusation(msgspec.Struct, frozen=True, kw_only=True):
    """*sentence* is what was seen when it was made; *workers* are those it is of."""

    sentence: str
    workers: frozenset[str]


class _Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What a variant did within the window: *paired* requests ended, the rest as above."""

    paired: int
    expected: float
    moved: int
    failed: int


def accused(
    snapshot: Snapshot,
    traffic: Iterable[Traffic],
    samples: Samples,
    standing: Mapping[Key, Accusation],
    now: float,
) -> Mapping[Key, Accusation]:
    """The variants that serve without moving KV. One that is in *standing* stays accused until it
    is seen to move KV again, or all of its workers are others.
    """
    told = _told(traffic, now)
    mine: dict[Key, list[Worker]] = defaultdict(list)
    for worker in snapshot.workers:
        if worker.phase is Phase.READY:
            mine[worker.plan.model, worker.plan.variant].append(worker)
    found: dict[Key, Accusation] = {}
    for model, variant in _pairs(snapshot.models):
        key = (model.name, variant.name)
        seen = _seen(mine[key], told.get(key, ()), samples, now)
        before = standing.get(key)
        ids = frozenset(worker.id for worker in mine[key])
        if before is not None and before.workers.isdisjoint(ids):
            before = None
        sentence = _judge(variant, seen, before) if seen is not None else ""
        if before is not None and (seen is None or sentence):
            found[key] = before
        elif sentence:
            found[key] = Accusation(sentence=sentence, workers=ids)
    return found


def _pairs(models: Iterable[Model]) -> Iterable[tuple[Model, Variant]]:
    return (
        (model, variant)
        for model in models
        if not model.deleted
        for variant in model.spec.variants
        if variant.topology.is_disaggregated
    )


def _told(traffic: Iterable[Traffic], now: float) -> Mapping[Key, list[Traffic]]:
    told: dict[Key, list[Traffic]] = defaultdict(list)
    for row in traffic:
        if row.at + SLOT_S > now - WINDOW_S:
            told[row.model, row.variant].append(row)
    return told


def _seen(
    workers: Sequence[Worker], told: Sequence[Traffic], samples: Samples, now: float
) -> _Seen | None:
    """None where nothing can be seen."""
    paired = sum(row.paired for row in told)
    prompt_tokens = sum(row.prompt_tokens for row in told)
    heard, moved, failed, taken_up = False, 0, 0, 0
    for worker in workers:
        engine = ENGINES[worker.plan.engine]
        growth = _grown(samples.get(worker.id, ()), now)
        if engine.counts_transfers is not worker.plan.role or growth is None:
            continue
        heard = True
        moved += growth.kv_transfers
        failed += growth.kv_transfer_failures
        if engine.pairing is not Pairing.CONCURRENT:
            taken_up += growth.prompt_tokens
    if not heard:
        return None
    expected = min(taken_up / max(prompt_tokens, 1), 1.0) * paired
    return _Seen(paired=paired, expected=expected, moved=moved, failed=failed)


def _grown(samples: Sequence[Sample], now: float) -> EngineMetrics | None:
    """By how much the counts grew within the window; None where that is not known."""
    before = [one for one in samples if one.at <= now - WINDOW_S]
    since = [*before[-1:], *(one for one in samples if one.at > now - WINDOW_S)]
    if not since or since[0].at > now - WINDOW_S + _SCRAPES_MISSED_S:
        return None
    if now - since[-1].at > _SCRAPES_MISSED_S:
        return None
    counts = [one.metrics for one in since]
    pairs = list(pairwise(counts))
    return EngineMetrics(
        kv_transfers=sum(_rise(a.kv_transfers, b.kv_transfers) for a, b in pairs),
        kv_transfer_failures=sum(
            _rise(a.kv_transfer_failures, b.kv_transfer_failures) for a, b in pairs
        ),
        prompt_tokens=sum(_rise(a.prompt_tokens, b.prompt_tokens) for a, b in pairs),
    )


def _rise(before: int, after: int) -> int:
    """A count that fell began anew."""
    return after - before if after >= before else after


def _judge(variant: Variant, seen: _Seen, before: Accusation | None) -> str:
    """What is wrong; "" for nothing. Where little happens an accusation stays as it is."""
    tried = seen.moved + seen.failed
    failed_max = FAILED_MAX if before is None else FAILED_AGAIN_MAX
    moved_min = MOVED_MIN if before is None else MOVED_AGAIN_MIN
    if tried >= EXPECTED_MIN and seen.failed > failed_max * tried:
        return (
            f"{_ABOUT}{variant.name}: {seen.failed} of {tried} KV transfers failed in the last "
            f"{WINDOW_S:.0f} s: look at the logs of its workers, and at the network between them"
        )
    if seen.expected >= EXPECTED_MIN and seen.moved < moved_min * seen.expected:
        return (
            f"{_ABOUT}{variant.name}: {seen.paired} requests went to prefill and decode in the "
            f"last {WINDOW_S:.0f} s, {seen.moved} KV transfers were counted: decode recomputes "
            "prompts"
        )
    if before is not None and max(seen.expected, float(tried)) < EXPECTED_MIN:
        return before.sentence
    return ""


def sentences(accusations: Mapping[Key, Accusation]) -> Mapping[str, str]:
    """By model, for its condition."""
    found: dict[str, list[str]] = defaultdict(list)
    for (model, _), accusation in sorted(accusations.items()):
        found[model].append(accusation.sentence)
    return {model: "; ".join(parts) for model, parts in found.items()}


def sentences_in(condition: str) -> str:
    """Those of `sentences` that a model's condition holds."""
    return "; ".join(part for part in condition.split("; ") if part.startswith(_ABOUT))


def since(now: float) -> float:
    """From when on `accused` wants traffic."""
    return math.floor(now - WINDOW_S - SLOT_S)
