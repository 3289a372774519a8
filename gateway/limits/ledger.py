"""The table that the gateway processes of a home share: what limited keys and models use now.

    header   magic, boot, columns in use                                      4 KiB
    index    65,536 digests of 16 bytes: which subject a row is of            1 MiB
    rows     1 KiB each: two windows of 61 seconds, what is spent            64 MiB, sparse
    columns  1 MiB for each process: its in-flight counts and reservations  256 MiB, sparse

One file, mapped into every process. A lock on it (flock) is held for the microseconds of a look or
a change; the kernel drops it when its holder dies. Each process holds a lock on a column of its own
for as long as it lives: where that lock is free, the process is dead, and its column is cleared.

A process can be killed between any two stores. So there is no state that takes two of them: what
is derived (a window's sum) is at least what its parts say, and counted anew before it refuses
anybody; what a dead process left under way is in its column alone.

The rows' seconds are of the monotonic clock, which the processes of one boot share; after another
boot the file counts as empty.
"""

import errno
import fcntl
import mmap
import os
import struct
import time
from hashlib import blake2b
from pathlib import Path
from typing import Self

WINDOW_S = 60
BUCKETS = WINDOW_S + 1  # with the second that has just begun: no 60 s lie in fewer
ROWS, COLUMNS = 65_536, 256

# A row's words, of 8 bytes.
SECOND, PERIOD, SPENT, REQUESTS_SUM, TOKENS_SUM = range(5)
REQUESTS = 5
TOKENS = REQUESTS + BUCKETS
ROW_WORDS = 128

_WORD = 8
_DIGEST = 16
_WAYS = 16  # rows that a subject may be in: a set
_SETS = ROWS // _WAYS
_INDEX = 4096
ROWS_AT = (_INDEX + ROWS * _DIGEST) // _WORD
COLUMNS_AT = ROWS_AT + ROWS * ROW_WORDS
# In a column each row has two words: requests in flight, and cost reserved for them.
COLUMN_WORDS = 2 * ROWS
_BYTES = (COLUMNS_AT + COLUMNS * COLUMN_WORDS) * _WORD
_NOBODY = bytes(_DIGEST)

# The header's words.
_MAGIC_AT, _BOOT_AT, _USED_AT, _OWNERS_AT = 0, 1, 3, 64
_MAGIC = int.from_bytes(b"mylimit1", "little")  # another form of the file gets another name, too
FILE_NAME = "limits-1.ledger"

# A row not used for so long may become another subject's: nothing is left of its windows, and what
# it has spent has long been in the registry.
_IDLE_S, _IDLE_SPENDER_S = BUCKETS, 600
_SPINS = 10
_OPEN_S_MAX = 5.0


class LedgerError(Exception):
    """The ledger cannot be used; the message says why and what to do."""


class LedgerFullError(LedgerError):
    """No row is free for a further subject."""


class Ledger:
    """Made by `open` or `private`. Who calls `find` or `reap`, or touches *words*, holds the lock.

    *column* is this process's, *used* how many columns have ever been.
    """

    def __init__(self, fd: int, path: Path | None) -> None:
        self._fd = fd
        self._path = path
        self._map = mmap.mmap(fd, _BYTES)
        self.words = memoryview(self._map).cast("q")
        self.column = -1

    @classmethod
    def open(cls, path: Path, *, patience_s: float = _OPEN_S_MAX) -> Self:
        """The ledger of *path*, made if it is not there. Raises LedgerError."""
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            while True:
                fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                ledger = cls._of(fd, path, patience_s)
                if ledger.is_current():
                    return ledger
                ledger.close()
        except (OSError, ValueError) as error:
            raise LedgerError(
                f"{path} cannot hold the limits of keys and models: {error}. It needs a file "
                "system of this machine, with room, locks and mmap: see MODELYARD_HOME."
            ) from error

    @classmethod
    def private(cls) -> Self:
        """One that no other process sees, in memory."""
        return cls._of(os.memfd_create("modelyard-limits"), None, _OPEN_S_MAX)

    @classmethod
    def _of(cls, fd: int, path: Path | None, patience_s: float) -> Self:
        try:
            _lock_within(fd, patience_s, path)
            _extend(fd, path)
            ledger = cls(fd, path)
        except BaseException:
            os.close(fd)
            raise
        try:
            ledger._begin()
        except BaseException:
            ledger.close()
            raise
        ledger.unlock()
        return ledger

    def close(self) -> None:
        """What this process has under way stays in its column, for others to clear."""
        self.words.release()
        self._map.close()
        os.close(self._fd)

    def is_current(self) -> bool:
        """Whether the path still names this file."""
        if self._path is None:
            return True
        mine = os.fstat(self._fd)
        try:
            found = self._path.stat()
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == (mine.st_dev, mine.st_ino)

    @property
    def path(self) -> Path | None:
        return self._path

    @property
    def used(self) -> int:
        return self.words[_USED_AT]

    def lock(self) -> bool:
        """False if others have it for longer than a look takes. It never waits for them."""
        for _ in range(_SPINS):
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.sched_yield()
            else:
                return True
        return False

    def unlock(self) -> None:
        fcntl.flock(self._fd, fcntl.LOCK_UN)

    def holds(self, row: int, digest: bytes) -> bool:
        at = _INDEX + row * _DIGEST
        return self._map[at : at + _DIGEST] == digest

    def find(self, digest: bytes, second: int) -> int:
        """The row of the subject, a new one if it has none. Raises LedgerFullError, LedgerError."""
        first = int.from_bytes(digest[:4], "little") % _SETS * _WAYS
        rows = range(first, first + _WAYS)
        for wanted in (digest, _NOBODY):
            for row in rows:
                if self.holds(row, wanted):
                    return row if wanted is digest else self._take(row, digest)
        return self._take(self._idle(rows, second), digest)

    def reap(self) -> None:
        """Clears the columns of processes that have died."""
        for column in range(self.used):
            if column != self.column and self.words[_OWNERS_AT + column]:
                self._take_column(column)

    def _idle(self, rows: range, second: int) -> int:
        """The row that has been idle for longest."""
        self.reap()
        words, by_age = self.words, []
        for row in rows:
            last = words[ROWS_AT + row * ROW_WORDS + SECOND]
            spends = words[ROWS_AT + row * ROW_WORDS + PERIOD] > 0
            at = COLUMNS_AT + 2 * row
            end = at + self.used * COLUMN_WORDS
            under_way = any(words[at:end:COLUMN_WORDS]) or any(words[at + 1 : end : COLUMN_WORDS])
            if second - last > (_IDLE_SPENDER_S if spends else _IDLE_S) and not under_way:
                by_age.append((last, row))
        if not by_age:
            raise LedgerFullError(
                f"the ledger of limits has no room: all {_WAYS} rows that this key or model may "
                f"have are in use. It holds about {ROWS // 2} keys and models at a time."
            )
        return min(by_age)[1]

    def _take(self, row: int, digest: bytes) -> int:
        """The digest is stored last: until then the row is nobody's."""
        at, begin = _INDEX + row * _DIGEST, ROWS_AT + row * ROW_WORDS
        self._map[at : at + _DIGEST] = _NOBODY
        self._allocate(begin, ROW_WORDS)
        self._map[begin * _WORD : (begin + ROW_WORDS) * _WORD] = bytes(ROW_WORDS * _WORD)
        self._map[at : at + _DIGEST] = digest
        return row

    def _allocate(self, at: int, words: int) -> None:
        """A store into a hole of the file would kill us if the disk is full. Raises LedgerError."""
        try:
            os.posix_fallocate(self._fd, at * _WORD, words * _WORD)
        except OSError as error:
            raise LedgerError(f"{self._path} cannot grow: {error.strerror}") from error

    def _begin(self) -> None:
        """Makes the header and takes a column; the lock is held."""
        words, boot = self.words, _boot()
        if (words[_MAGIC_AT], words[_BOOT_AT], words[_BOOT_AT + 1]) != (_MAGIC, *boot):
            words[_MAGIC_AT] = 0
            self._allocate(0, ROWS_AT)
            self._map[_INDEX : ROWS_AT * _WORD] = bytes(ROWS * _DIGEST)
            # Columns with an owner keep it: they hold what is to be cleared.
            words[_BOOT_AT], words[_BOOT_AT + 1] = boot
            words[_MAGIC_AT] = _MAGIC
        for column in range(COLUMNS):
            if self._take_column(column, keep=True):
                self.column = column
                words[_USED_AT] = max(words[_USED_AT], column + 1)
                words[_OWNERS_AT + column] = os.getpid()
                return
        raise LedgerError(f"{COLUMNS} gateway processes use {self._path} already, no more can.")

    def _take_column(self, column: int, *, keep: bool = False) -> bool:
        """Clears it if its process is dead; False if that lives."""
        try:
            fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, _byte(fcntl.F_WRLCK, column))
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            return False
        begin = COLUMNS_AT + column * COLUMN_WORDS
        if keep:
            self._allocate(begin, COLUMN_WORDS)
        if self.words[_OWNERS_AT + column]:
            self._map[begin * _WORD : (begin + COLUMN_WORDS) * _WORD] = bytes(COLUMN_WORDS * _WORD)
            self.words[_OWNERS_AT + column] = 0
        if not keep:
            fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, _byte(fcntl.F_UNLCK, column))
        return True


def digest_of(subject: str) -> bytes:
    return blake2b(subject.encode(), digest_size=_DIGEST).digest()


def _byte(kind: int, column: int) -> bytes:
    """The kernel's struct flock for one byte of the file."""
    return struct.pack("hhqqi", kind, os.SEEK_SET, column, 1, 0)


def _lock_within(fd: int, patience_s: float, path: Path | None) -> None:
    until = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                raise LedgerError(
                    f"{path} has been locked by another gateway process for {patience_s:g} s. Is "
                    "one stopped (SIGSTOP), or is this a network file system?"
                ) from None
            time.sleep(0.005)
        else:
            return


def _extend(fd: int, path: Path | None) -> None:
    size = os.fstat(fd).st_size
    if size == 0:
        os.ftruncate(fd, _BYTES)
    elif size != _BYTES:
        raise LedgerError(f"{path} is not a ledger of limits: stop the gateways and remove it.")


def _boot() -> tuple[int, int]:
    """Which boot of the machine this is, as two words."""
    text = Path("/proc/sys/kernel/random/boot_id").read_text()
    low, high = struct.unpack("qq", bytes.fromhex(text.strip().replace("-", "")))
    return low, high
