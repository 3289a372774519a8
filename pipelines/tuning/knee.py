"""Where throughput stops to grow with the batch. Pure.

A prefill engine that computes a batch of T prompt tokens has a throughput of T / time(T). It grows
as long as the device has idle units or waits for memory, and no longer once it is saturated: from
there on twice the batch takes twice the time. As all prompts of a batch have their first token at
its end, any batch beyond that point makes those wait longer that came first, and nobody's wait
shorter. So prefill is to run at the smallest batch that saturates the device (DistServe, OSDI'24,
section 3.1, calls it L_m and finds it by profiling; NVIDIA Dynamo's guide to disaggregated serving
states the same rule).

The smallest one with at least `SHARE` of the best throughput is taken. Measured values are noisy,
and a lucky one at a small batch must not be taken for the knee: what is compared is the
nondecreasing curve nearest to the measured ones in least squares, by pooling adjacent violators
(Ayer et al., 1955). It reaches up to the highest measured value: what comes behind that is
saturated, whether it is flat or falls.
"""

from collections.abc import Sequence

import msgspec

SHARE = 0.9


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """What batches of so many *tokens* gave, in the median of *rounds* (0: while it warmed up, and
    then no more): *throughput* in tokens a second, *ttft_s* the mean time to the first token of a
    batch's prompts.
    """

    tokens: int
    throughput: float
    ttft_s: float
    rounds: int


class Knee(msgspec.Struct, frozen=True, kw_only=True):
    """*tokens* saturate; *best* is the highest throughput of the curve. Not *reached*: it is the
    largest batch that was measured, and a larger one may give more.
    """

    tokens: int
    best: float
    reached: bool


def knee(points: Sequence[Point], share: float = SHARE) -> Knee:
    """Of *points* by rising tokens, of which there must be one."""
    highest = max(range(len(points)), key=lambda index: points[index].throughput)
    curve = rising([point.throughput for point in points[: highest + 1]])
    best = curve[-1]
    found = next(index for index, value in enumerate(curve) if value >= share * best)
    return Knee(tokens=points[found].tokens, best=best, reached=found < len(points) - 1)


def rising(values: Sequence[float]) -> list[float]:
    """The nondecreasing values nearest to *values* in least squares."""
    pools: list[tuple[float, int]] = []  # mean and size
    for value in values:
        mean, size = value, 1
        while pools and pools[-1][0] > mean:
            before, count = pools.pop()
            mean = (before * count + mean * size) / (count + size)
            size += count
        pools.append((mean, size))
    return [mean for mean, size in pools for _ in range(size)]
