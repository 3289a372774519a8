"""The access log: one JSON line a request, in the form of every other log line.

Encoded straight from a struct and written in batches: a logger's processors would cost as much as
all else that is done for a request.
"""

import asyncio
import sys
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec

_FLUSH_S = 0.2
_FLUSH_LINES = 500

Write = Callable[[bytes], None]


class AccessLine(msgspec.Struct, frozen=True, kw_only=True):
    """*path* is one of the known ones, or "other": nothing here is a client's free text."""

    timestamp: str
    level: str
    event: str = "request"
    request_id: str
    key: str
    path: str
    operation: str
    model: str
    variant: str
    mode: str
    status: str
    error: str | None
    worker: str
    prefill_worker: str
    duration_ms: float
    trace_id: str | msgspec.UnsetType = msgspec.UNSET  # of a sampled trace


def to_stderr(data: bytes) -> None:
    sys.stderr.buffer.write(data)
    sys.stderr.buffer.flush()


class AccessLog:
    """*write* gets whole lines. With *failures_only*, lines of level info are left out."""

    def __init__(self, write: Write = to_stderr, *, failures_only: bool = False) -> None:
        self._write = write
        self._failures_only = failures_only
        self._lines: list[AccessLine] = []
        self._timer: asyncio.TimerHandle | None = None
        self._second = 0
        self._stamp = ""

    def add(self, line: AccessLine) -> None:
        if self._failures_only and line.level == "info":
            return
        self._lines.append(line)
        if len(self._lines) >= _FLUSH_LINES:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_FLUSH_S, self.flush)

    def stamp(self, now: float) -> str:
        """*now*, of the epoch, to the millisecond."""
        second = int(now)
        if second != self._second:
            self._second = second
            self._stamp = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        return f"{self._stamp}.{int((now - second) * 1000):03d}Z"

    def flush(self) -> None:
        """Writes what waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lines, self._lines = self._lines, []
        if lines:
            self._write(msgspec.json.Encoder().encode_lines(lines))
