"""A process's journal: every request as it is opened and closed. A killed process loses none.

Entries go to the kernel by plain writes: they outlive the process, not the machine's power. A
segment is deleted once all that was opened in it has been closed and all that was closed in it is
in the registry, oldest first: so a request that is open on disk and closed nowhere was really open.
Blocks nobody: what cannot be written is counted and told, and the request goes on.
"""

import contextlib
import os
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path

import structlog

from gateway.metering.entries import Closed, Opened, Read, framed, read_entries
from gateway.metering.lane import Lane
from registry.state import UsageRecord

SEGMENT_BYTES = 4 * 1024 * 1024
# Long requests must not hold on to all that came after them: from so many segments on, what is
# still open in the oldest is written anew, if that is at most half of a segment.
_CARRY_FROM_SEGMENTS = 8
_OPENED_BYTES = 150
_PAUSE_S, _PAUSE_S_MAX = 1.0, 60.0

_log = structlog.get_logger("gateway.metering")


class Segment:
    """*open*: how many requests opened in it are not closed; *unrecorded* and *spilled*: how many
    closed in it are not in the registry, and are in memory, or only here.
    """

    __slots__ = ("bytes", "open", "path", "spilled", "unrecorded")

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bytes = 0
        self.open = 0
        self.unrecorded = 0
        self.spilled = 0


class Journal:
    """*bytes_max* is what it may take of the disk: beyond it no request is opened here. *lost* is
    called with how many spilled requests a failed write has cost. *clock* gives monotonic seconds.
    """

    def __init__(
        self,
        lane: Lane,
        *,
        bytes_max: int,
        lost: Callable[[int], None],
        segment_bytes: int = SEGMENT_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lane = lane
        self._bytes_max = bytes_max
        self._segment_bytes = segment_bytes
        self._lost = lost
        self._clock = clock
        self._segments: deque[Segment] = deque()
        self._current: Segment | None = None  # then *_file* is open, and it is the last of them
        self._file = -1
        self._bytes = 0
        self._last = 0
        self._open: dict[float, tuple[bytes, Segment]] = {}  # by their times, which differ
        self._buffer: list[bytes] = []  # closed ones, for *_current*
        self._buffered_spilled = 0
        self._retry_at: float | None = None  # while writing fails
        self._pause_s = _PAUSE_S
        self._full = False

    @property
    def failing(self) -> bool:
        """Requests opened now are not in it."""
        return self._full or self._retry_at is not None

    def open(self, opened: Opened) -> None:
        """On disk when this returns, or `failing`."""
        if self._bytes >= self._bytes_max:
            self._tell_full(full=True)
            return
        if self._full:
            self._tell_full(full=False)
        segment = self._writable()
        if segment is None:
            return
        entry = framed(opened)
        self._buffer.append(entry)
        if self.flush():
            segment.open += 1
            self._open[opened.opened_at] = (entry, segment)

    def close(self, opened: Opened, record: UsageRecord) -> Segment | None:
        """Where it will be with the next `flush`; None if nowhere."""
        found = self._open.pop(opened.opened_at, None)
        if found is not None:
            found[1].open -= 1
        elif self._bytes >= self._bytes_max:
            return None
        segment = self._writable()
        if segment is not None:
            self._buffer.append(framed(Closed(record)))
        return segment

    def spilled(self, segment: Segment) -> None:
        """What was just closed there is kept nowhere else."""
        segment.spilled += 1
        self._buffered_spilled += 1

    def flush(self) -> bool:
        """Writes what is buffered; whether that went well."""
        buffer, spilled = self._buffer, self._buffered_spilled
        if not buffer:
            return True
        segment = self._current
        assert segment is not None
        data = buffer[0] if len(buffer) == 1 else b"".join(buffer)
        self._buffer, self._buffered_spilled = [], 0
        try:
            written = os.write(self._file, data)
            if written < len(data):
                raise OSError("the disk is full")
        except OSError as error:
            segment.spilled -= spilled
            self._lost(spilled)
            self._failed(segment, error)
            return False
        segment.bytes += written
        self._bytes += written
        if self._retry_at is not None:
            self._retry_at, self._pause_s = None, _PAUSE_S
            _log.info("usage-journal-works", message="usage survives a crash again")
        if segment.bytes >= self._segment_bytes:
            self._roll()
        return True

    def seal(self, segment: Segment) -> None:
        """Nothing more will be written to *segment*."""
        if segment is self._current:
            self._roll()

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
        self._roll()
        if not any(each.open or each.unrecorded or each.spilled for each in self._segments):
            remove(each.path for each in self._segments)
        self._segments.clear()
        self._lane.release()

    def _roll(self) -> None:
        """The next entry begins a new segment."""
        self.flush()
        if self._current is not None:
            os.close(self._file)
            self._current = None

    def _writable(self) -> Segment | None:
        """The segment to write to; None while writing fails."""
        if self._retry_at is not None and self._clock() < self._retry_at:
            return None
        if self._current is None:
            path = self._lane.folder / f"{self._last + 1:012d}"
            try:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
                self._file = os.open(path, flags, 0o600)
            except OSError as error:
                self._pause(error)
                return None
            self._last += 1
            self._current = Segment(path)
            self._segments.append(self._current)
        return self._current

    def _carried(self, oldest: Segment) -> bool:
        """Whether what is open in *oldest* is, by now, open in a newer one."""
        if not oldest.open:
            return True
        if len(self._segments) < _CARRY_FROM_SEGMENTS:
            return False
        if oldest.open * _OPENED_BYTES > self._segment_bytes // 2:
            return False
        segment = self._writable()
        if segment is None:
            return False
        carried = [(at, entry) for at, (entry, of) in self._open.items() if of is oldest]
        self._buffer += (entry for _, entry in carried)
        if not self.flush():
            return False
        segment.open += len(carried)
        oldest.open = 0
        for at, entry in carried:
            self._open[at] = (entry, segment)
        return True

    def _failed(self, segment: Segment, error: OSError) -> None:
        self._pause(error)
        try:
            os.ftruncate(self._file, segment.bytes)
        except OSError:  # half an entry may stand at its end: nothing must come after it
            self._current = None
            with contextlib.suppress(OSError):
                os.close(self._file)

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

    def _tell_full(self, *, full: bool) -> None:
        if full and not self._full:
            _log.error(
                "usage-journal-full",
                message="the registry takes no usage, and MODELYARD_USAGE_JOURNAL_BYTES_MAX is "
                "reached: what is opened now is lost if memory has no room for it either",
                bytes=self._bytes,
            )
        self._full = full


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
