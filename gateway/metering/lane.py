"""A lane: what one gateway process has of its home's usage folder, by number, for its life.

    usage/007/lock           held while the process lives: the kernel drops it at its death
    usage/007/000000000012   a segment of its journal

A lane whose lock is free and which has segments is a dead process's. Its folder and its lock file
stay: whoever removed them could take them from under the one that locks them next.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from filelock import FileLock, Timeout

LANES = 256
# The last lane is nobody's: those that get none share it, and have no journal.
LANE_OF_NONE = LANES - 1
_CELLS_PER_S = 2.0**14
_LOCK = "lock"


class NoLaneError(Exception):
    """No lane is free: too many processes run, or died and could not be swept."""


class Lane:
    """Its lock is held until `release`."""

    def __init__(self, folder: Path, lock: FileLock) -> None:
        self.folder = folder
        self._lock = lock

    @property
    def number(self) -> int:
        return int(self.folder.name)

    @classmethod
    def claim(cls, root: Path) -> Self:
        """The first lane that is free and empty. Raises NoLaneError, or OSError where one could not
        be looked at and no other is free.
        """
        failed: OSError | None = None
        for number in range(LANE_OF_NONE):
            try:
                lane = cls.take(root / f"{number:03d}")
            except OSError as error:  # somebody else's folder, or none at all
                failed = error
                continue
            if lane is None:
                continue
            if not lane.segments():
                return lane
            lane.release()
        if failed is not None:
            raise failed
        raise NoLaneError(
            f"all {LANE_OF_NONE} folders of {root} are in use, or hold the usage of processes that "
            "were killed: it is recorded once the registry can be written"
        )

    @classmethod
    def take(cls, folder: Path) -> Self | None:
        """None while somebody else holds it. Raises OSError."""
        folder.mkdir(parents=True, mode=0o700, exist_ok=True)
        lock = FileLock(folder / _LOCK, timeout=0, mode=0o600, thread_local=False)
        try:
            lock.acquire()
        except Timeout:
            return None
        return cls(folder, lock)

    def segments(self) -> list[Path]:
        """Oldest first."""
        return _segments(self.folder)

    def release(self) -> None:
        self._lock.release()


def used(root: Path) -> list[Path]:
    """The folders of lanes, of living processes and of dead ones, that hold segments, and those
    that cannot be read: who takes one is told why.
    """
    return [folder for folder in sorted(root.glob("[0-9][0-9][0-9]")) if _is_used(folder)]


def _is_used(folder: Path) -> bool:
    try:
        return bool(_segments(folder))
    except OSError:
        return True


def _segments(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name.isdigit())


class Moments:
    """Times of the epoch, each given once over all processes of a home: a client may choose the
    same request id twice, and with a time of their own the two requests stay two.

    A process's times lie on a grid of 61 µs, shifted by its lane. *clock* gives seconds.
    """

    def __init__(self, lane: int, clock: Callable[[], float] = time.time) -> None:
        self._shift_s = lane / (_CELLS_PER_S * LANES)
        self._clock = clock
        self._cell = 0.0

    def now(self) -> float:
        # Exact: all are powers of two, and until 2038 a double holds 2**-22 of a second.
        cell = self._clock() * _CELLS_PER_S // 1.0 + 1.0
        if cell <= self._cell:
            cell = self._cell + 1.0
        self._cell = cell
        return cell / _CELLS_PER_S + self._shift_s
