"""A process's journal: every request as it is opened and closed. A killed process loses none.

Entries are put into mapped files: they outlive the process, not the machine's power, and cost no
system call (one a request costs 10 to 15 µs of a busy machine). The room of a segment is reserved
before it is mapped, so a full disk is an error then, not a fault later. A segment is deleted once
all that was opened in it has been closed and all that was closed in it is in the registry, oldest
first: so a request that is open on disk and closed nowhere was really open.

Blocks nobody: what cannot be written is told, and the request goes on.
"""

import mmap
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import structlog

from gateway.metering.entries import CLOSED_MAX, Closed, Opened, Read, framed, read_entries
from gateway.metering.lane import Lane
from registry.usage import UsageRecord

SEGMENT_BYTES = 1024 * 1024
# Long requests must not hold on to all that came after them: from so many segments on, or half of
# what the disk may give, what is still open in the oldest is written anew, if that is at most half
# of a segment.
_CARRY_FROM_SEGMENTS = 16
_OPENED_BYTES = 150
_PAUSE_S, _PAUSE_S_MAX = 1.0, 60.0

_log = structlog.get_logger("gateway.metering")


class Segment:
    """*used* of its bytes hold entries. *open*: how many requests opened in it are not closed;
    *unrecorded* and *spilled*: how many closed in it are not in the registry, and are in memory, or
    only here.
    """

    __slots__ = ("bytes", "open", "path", "spilled", "unrecorded", "used")

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self.bytes = size
        self.used = 0
        self.open = 0
        self.unrecorded = 0
        self.spilled = 0


class Journal:
    """*bytes_max* is what it may take of the disk: beyond it no request is opened here. *clock*
    gives monotonic seconds.
    """

    def __init__(
        self,
        lane: Lane,
        *,
        bytes_max: int,
        segment_bytes: int = SEGMENT_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lane = lane
        self._bytes_max = bytes_max
        self._segment_bytes = segment_bytes
        self._clock = clock
        self._segments: deque[Segment] = deque()
        self._current: Segment | None = None  # the last of them, while it is written to
        self._map: mmap.mmap | None = None  # … its bytes
        self._bytes = 0
        self._last = 0
        self._open: dict[float, tuple[bytes, Segment]] = {}  # by their times, which differ
        self._retry_at: float | None = None  # while writing fails
        self._pause_s = _PAUSE_S
        self._full = False

    @property
    def failing(self) -> bool:
        """Requests opened now are not in it."""
        return self._full or self._retry_at is not None

    def open(self, opened: Opened) -> None:
        """On disk when this returns, or `failing`."""
        entry = framed(opened)
        if self._is_full(len(entry)):
            return
        segment = self._write(entry)
        if segment is not None:
            segment.open += 1
            self._open[opened.opened_at] = (entry, segment)

    def close(self, records: Sequence[UsageRecord]) -> tuple[Segment | None, list[UsageRecord]]:
        """Where they are on disk now, and which of them are not: those opened beyond the bound, or
        all while writing fails. At most `CLOSED_MAX`.
        """
        assert len(records) <= CLOSED_MAX
        into: list[UsageRecord] = []
        left: list[UsageRecord] = []
        full = self._full
        for record in records:
            found = self._open.pop(record.opened_at, None)
            if found is not None:
                found[1].open -= 1
            (left if found is None and full else into).append(record)
        segment = self._write(framed(Closed(into))) if into else None
        return segment, left if segment is not None else [*into, *left]

    def seal(self, segment: Segment) -> None:
        """Nothing more will be written to *segment*."""
        if segment is self._current:
            assert self._map is not None
            self._map.close()
            self._current = self._map = None

    def oldest_spilled(self) -> Segment | None:
        for segment in self._segments:
            if segment.spilled:
                return segment
        return None

    @property
    def spilled_count(self) -> int:
        return sum(segment.spilled for segment in self._segments)

    def disposable(self) -> list[Path]:
        """The segments that nobody needs any more, oldest first: delete them in this order. They
        are not of the journal from now on.
        """
        paths: list[Path] = []
        if self._full and self._current is not None:
            self.seal(self._current)  # nothing fits into it, and it may be all there is
        for oldest in tuple(self._segments):
            if oldest is self._current:
                break
            if oldest.unrecorded or oldest.spilled or not self._carried(oldest):
                break
            self._segments.popleft()
            self._bytes -= oldest.bytes
            paths.append(oldest.path)
        return paths

    def end(self) -> None:
        """Leaves behind what is not in the registry, and lets go of the lane."""
        if self._current is not None:
            self.seal(self._current)
        if not any(each.open or each.unrecorded or each.spilled for each in self._segments):
            remove(each.path for each in self._segments)
        self._segments.clear()
        self._lane.release()

    def _write(self, entries: bytes) -> Segment | None:
        """Where *entries* are on disk now; None if they are not."""
        segment, length = self._current, len(entries)
        if segment is None or segment.used + length > segment.bytes:
            segment = self._begin(max(length, self._segment_bytes))
            if segment is None:
                return None
        assert self._map is not None
        end = segment.used + length
        self._map[segment.used : end] = entries
        segment.used = end
        return segment

    def _begin(self, size: int) -> Segment | None:
        """A new segment, with room for *size*."""
        if self._current is not None:
            self.seal(self._current)
        if self._retry_at is not None and self._clock() < self._retry_at:
            return None
        path = self._lane.folder / f"{self._last + 1:012d}"
        try:
            self._map = _mapped(path, size)
        except OSError as error:
            self._pause(error)
            return None
        if self._retry_at is not None:
            self._retry_at, self._pause_s = None, _PAUSE_S
            _log.info("usage-journal-works", message="usage survives a crash again")
        self._last += 1
        self._bytes += size
        self._current = Segment(path, size)
        self._segments.append(self._current)
        return self._current

    def _carried(self, oldest: Segment) -> bool:
        """Whether what is open in *oldest* is, by now, open in a newer one."""
        if not oldest.open:
            return True
        half = max(2, self._bytes_max // self._segment_bytes // 2)
        if len(self._segments) < min(_CARRY_FROM_SEGMENTS, half):
            return False
        if oldest.open * _OPENED_BYTES > self._segment_bytes // 2:
            return False
        carried = [(at, entry) for at, (entry, of) in self._open.items() if of is oldest]
        segment = self._write(b"".join(entry for _, entry in carried))
        if segment is None:
            return False
        segment.open += len(carried)
        oldest.open = 0
        for at, entry in carried:
            self._open[at] = (entry, segment)
        return True

    def _pause(self, error: OSError) -> None:
        if self._retry_at is None:
            _log.error(
                "usage-journal-fails",
                message="usage does not survive a crash now; inference goes on",
                folder=str(self._lane.folder),
                error=str(error),
            )
        self._retry_at = self._clock() + self._pause_s
        self._pause_s = min(2 * self._pause_s, _PAUSE_S_MAX)

    def _is_full(self, length: int) -> bool:
        """Whether so many bytes more would be beyond the bound."""
        bytes_, segment = self._bytes, self._current
        if segment is None or segment.used + length > segment.bytes:
            bytes_ += self._segment_bytes
        full = bytes_ > self._bytes_max
        if full and not self._full:
            _log.error(
                "usage-journal-full",
                message="the registry takes no usage, and MODELYARD_USAGE_JOURNAL_BYTES_MAX is "
                "reached: what is opened now is lost if memory has no room for it either",
                bytes=self._bytes,
            )
        self._full = full
        return full


def _mapped(path: Path, size: int) -> mmap.mmap:
    """A new file of *size* zeros, for which the disk has the room. Raises OSError."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.posix_fallocate(file, 0, size)
        return mmap.mmap(file, size)
    except OSError:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(file)


def read_segment(path: Path) -> Read:
    """Raises OSError."""
    read = read_entries(path.read_bytes())
    if read.torn_bytes or read.unknown:
        _log.warning(
            "usage-journal-torn", path=str(path), bytes=read.torn_bytes, unknown=read.unknown
        )
    return read


def remove(paths: Iterable[Path]) -> None:
    """In this order. One that stays is read again, which counts nothing twice."""
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            _log.warning("usage-journal-stays", path=str(path), error=str(error))
