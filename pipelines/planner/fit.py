"""Step times of a model on a worker from the loads that were measured there. Pure.

A step costs something by itself (the weights are read), for each token of a prompt and each of them
times the prompt's length (attention), and for each answer and its context (its KV is read): five
coefficients, and a request's overhead as the sixth. They are the nonnegative ones with the least
squares of the relative errors, as steps span decades. Six are few enough to try every subset of
them: the best of those whose plain least squares has no negative coefficient is the answer.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations
from math import inf
from statistics import median

import msgspec

from registry.state import PROMPTS_ANSWER_TOKENS, LoadPoint, Profile

_SINGULAR = 1e-9

Row = tuple[float, ...]


class Fit(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds: of a step *base_s*, more for each *prompt_token_s* and *prompt_token_length_s* (by
    the length of its prompt), and each answer *sequence_s* and *context_token_s*; *overhead_s* of a
    request. *error* is by how much of themselves the measured times differ, in the median.
    """

    base_s: float
    prompt_token_s: float
    prompt_token_length_s: float
    sequence_s: float
    context_token_s: float
    overhead_s: float
    error: float

    def step_s(self, prompt_part: int, prompt: int, sequences: int, context: int) -> float:
        """As `StepTimes.step_s`."""
        return (
            self.base_s
            + prompt_part * (self.prompt_token_s + prompt * self.prompt_token_length_s)
            + sequences * (self.sequence_s + context * self.context_token_s)
        )


def fit(profile: Profile) -> Fit:
    """Of at least one point."""
    rows = [_row(point, profile.batched_tokens) for point in profile.points]
    relative = [
        tuple(value / point.seconds for value in row)
        for row, point in zip(rows, profile.points, strict=True)
    ]
    found = nonnegative(relative, [1.0] * len(relative))
    base, token, length, sequence, context, overhead = found
    return Fit(
        base_s=base,
        prompt_token_s=token,
        prompt_token_length_s=length,
        sequence_s=sequence,
        context_token_s=context,
        overhead_s=overhead,
        error=median(abs(_product(row, found) - 1) for row in relative),
    )


def nonnegative(rows: Sequence[Row], wanted: Sequence[float]) -> Row:
    """The x without a negative number for which *rows* times x are nearest to *wanted*, in least
    squares; 0 for what no row tells of.
    """
    width = len(rows[0])
    scale = [max(abs(row[i]) for row in rows) or 1.0 for i in range(width)]
    scaled = [tuple(value / by for value, by in zip(row, scale, strict=True)) for row in rows]
    best, least = [0.0] * width, inf
    for columns in _subsets(width):
        solved = _solved([[row[i] for i in columns] for row in scaled], wanted)
        if solved is None or min(solved) < 0:
            continue
        x = [0.0] * width
        for column, value in zip(columns, solved, strict=True):
            x[column] = value
        missed = sum((_product(row, x) - to) ** 2 for row, to in zip(scaled, wanted, strict=True))
        if missed < least:
            best, least = x, missed
    return tuple(value / by for value, by in zip(best, scale, strict=True))


def _row(point: LoadPoint, batched_tokens: int) -> Row:
    """What its time is made of, in the order of `Fit`."""
    length = point.prompt_tokens
    if point.answer_tokens > PROMPTS_ANSWER_TOKENS:
        context = length + point.answer_tokens / 2
        return (1.0, 0.0, 0.0, float(point.requests), point.requests * context, 0.0)
    tokens = point.requests * length
    # The first prompt begins at once and alone; the others have come when its step is over.
    steps = sum(-(-part // (batched_tokens or part)) for part in (length, tokens - length) if part)
    return (float(steps), float(tokens), float(tokens * length), 0.0, 0.0, 1.0)


def _product(row: Sequence[float], x: Sequence[float]) -> float:
    return sum(value * by for value, by in zip(row, x, strict=True))


def _subsets(width: int) -> Iterator[tuple[int, ...]]:
    for size in range(1, width + 1):
        yield from combinations(range(width), size)


def _solved(rows: Sequence[Sequence[float]], wanted: Sequence[float]) -> list[float] | None:
    """The least squares by the normal equations (Gauss, with pivots); None where some of *rows*
    tell the same.
    """
    width = len(rows[0])
    left = [
        [sum(row[i] * row[j] for row in rows) for j in range(width)]
        + [sum(row[i] * to for row, to in zip(rows, wanted, strict=True))]
        for i in range(width)
    ]
    for i in range(width):
        pivot = max(range(i, width), key=lambda k: abs(left[k][i]))
        if abs(left[pivot][i]) < _SINGULAR:
            return None
        left[i], left[pivot] = left[pivot], left[i]
        for k in range(i + 1, width):
            part = left[k][i] / left[i][i]
            left[k] = [a - part * b for a, b in zip(left[k], left[i], strict=True)]
    x = [0.0] * width
    for i in reversed(range(width)):
        rest = sum(left[i][j] * x[j] for j in range(i + 1, width))
        x[i] = (left[i][width] - rest) / left[i][i]
    return x
