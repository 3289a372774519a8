"""Which workers, and what part of the traffic, two revisions have while one rolls out. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from math import lcm
from typing import NamedTuple

import msgspec

from pipelines.topology import expand
from registry.spec import ModelSpec, Role
from registry.state import Model, Rollout, Worker

_WHOLE = 100  # percent


class Belonging(NamedTuple):
    """A model's workers by the revision that asks for them. Those of *both* are in *old* and in
    *new*; those of *neither* are left over from a revision in between, and stand in for old ones.
    """

    old: list[Worker]
    new: list[Worker]
    neither: list[Worker]


def belonging(model: Model, rollout: Rollout, workers: Iterable[Worker]) -> Belonging:
    """By what they were started with, not by their number: one above what the spec counts serves
    until it is drained, as it does without a rollout.
    """
    base = _asked_for(model, rollout.base, rollout.from_revision)
    newest = _asked_for(model, model.spec, model.revision)
    found = Belonging([], [], [])
    for worker in workers:
        kind = (worker.plan.variant, worker.plan.role, worker.plan.fingerprint)
        if kind in base:
            found.old.append(worker)
        if kind in newest:
            found.new.append(worker)
        if kind not in base and kind not in newest:
            found.neither.append(worker)
    return found


def _asked_for(model: Model, spec: ModelSpec, revision: int) -> frozenset[tuple[str, Role, str]]:
    asking = msgspec.structs.replace(model, spec=spec, revision=revision, rollout=None)
    return frozenset(
        (plan.variant, plan.role, plan.fingerprint) for gang in expand(asking) for plan in gang
    )


def shares(old: Sequence[int], new: Sequence[int], percent: int) -> tuple[list[int], list[int]]:
    """The weights of two revisions' variants, each as its own spec has them, as weights of one
    lot of which the new ones have *percent*, whatever the sums of the two are.
    """
    all_old, all_new = sum(old), sum(new)
    return (
        [weight * (_WHOLE - percent) * all_new for weight in old],
        [weight * percent * all_old for weight in new],
    )


class Serving(NamedTuple):
    """A row of the old revision, or of one in between, and how many *workers* answer for it."""

    variant: str
    workers: int


def among(
    weights: Mapping[str, int], old: Sequence[Serving], between: Sequence[Serving]
) -> tuple[list[int], list[int]]:
    """The old revision's *weights* by variant, as weights of its rows and of those that stand in
    for it: each worker of a variant has the same part. A variant that it does not have gets for
    each worker what one of its own has on the average.
    """
    workers = Counter[str]()
    for row in (*old, *between):
        workers[row.variant] += row.workers
    mine = {name: weights[name] for name in workers if name in weights}
    each = Fraction(sum(mine.values()), sum(workers[name] for name in mine)) if mine else 1
    parts = [
        Fraction(mine[row.variant], workers[row.variant]) * row.workers
        if row.variant in mine
        else Fraction(each * row.workers)
        for row in (*old, *between)
    ]
    scale = lcm(*(part.denominator for part in parts))
    whole = [int(part * scale) for part in parts]
    return whole[: len(old)], whole[len(old) :]
