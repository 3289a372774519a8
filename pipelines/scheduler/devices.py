"""Which devices of a node a worker gets, and how well they suit it."""

from collections.abc import Sequence
from math import log2

from pipelines.scheduler.builds import Build

# Of how well a place suits: what 2^16 times the least possible loss leaves of it is nothing.
_WORST_LOG2 = 16.0
_APART = 0.3  # taken off where a worker's devices are in several islands of a node that has some
_GB = 1e-9


def choose(
    build: Build,
    allowed: Sequence[int],
    free: Sequence[int],
    *,
    devices: int,
    memory_bytes: int,
    one_island: bool,
) -> tuple[int, ...] | None:
    """The positions whose taking costs the least, or None where too few fit.

    Shared devices before whole ones, the tightest first; several devices in the tightest island
    that holds them all, else (unless *one_island* is a must) in as few islands as possible.
    """
    sizes = build.sizes
    if memory_bytes:
        fitting = [i for i in allowed if free[i] >= memory_bytes]
    else:
        fitting = [i for i in allowed if free[i] >= sizes[i] > 0]
    if len(fitting) < devices:
        return None

    def wholes(island: Sequence[int]) -> int:
        return sum(free[i] >= sizes[i] for i in island)

    if devices == 1:
        island_of = build.island_of
        return (
            min(fitting, key=lambda i: (free[i] >= sizes[i], free[i], wholes(island_of[i]), i)),
        )

    fits = set(fitting)
    islands = []
    for island in build.joined:
        mine = [i for i in island if i in fits]
        if mine:
            mine.sort(key=lambda i: (free[i] >= sizes[i], free[i], i))
            islands.append(mine)
    holding = [mine for mine in islands if len(mine) >= devices]
    if holding:
        best = min(holding, key=lambda mine: (wholes(mine[:devices]), wholes(mine), mine))
        return tuple(best[:devices])
    if one_island:
        return None
    islands.sort(key=lambda mine: (-len(mine), wholes(mine), sum(free[i] for i in mine), mine))
    return tuple([i for mine in islands for i in mine][:devices])


def after(
    build: Build, free: Sequence[int], positions: Sequence[int], memory_bytes: int
) -> tuple[int, ...]:
    """What is free once the positions are taken."""
    left = list(free)
    for i in positions:
        left[i] -= memory_bytes or build.sizes[i]
    return tuple(left)


def suits(
    build: Build, worth: float, free: Sequence[int], positions: Sequence[int], memory_bytes: int
) -> float:
    """How well these positions suit, 0 to 1: 1 where the hole is just as large as the worker, less
    the more is lost of larger holes.
    """
    taken = [(memory_bytes or build.sizes[i]) * _GB for i in positions]
    least = sum(size * size for size in taken)
    if not memory_bytes:
        least += 2 * sum(taken) ** 2
    loss = worth - build.worth(after(build, free, positions, memory_bytes))
    suited = 1.0 - log2(max(loss / least, 1.0)) / _WORST_LOG2
    if build.has_islands and len({build.island_of[i] for i in positions}) > 1:
        suited -= _APART
    return max(suited, 0.0)
