"""Reads the end of a worker's log, and what is added to it, a piece at a time."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec

from pipelines.cluster.workerdir import WorkerDir

TAIL_LINES_MAX = 10_000
FROM_TAIL = -1  # the position that asks for the last lines
_PIECE_BYTES_MAX = 4 * 1024 * 1024
_FOLLOW_POLL_S = 0.3


class LogPiece(msgspec.Struct, frozen=True, kw_only=True):
    """What was read, where to go on, and whether more may come."""

    data: bytes
    position: int
    alive: bool


def read_log(folder: WorkerDir, position: int, tail_lines: int) -> LogPiece:
    """What follows *position*, or from FROM_TAIL the last *tail_lines*, at most TAIL_LINES_MAX."""
    alive = folder.path.exists() and folder.supervised()  # asked first: then nothing is missed
    if not folder.log.exists():
        return LogPiece(data=b"", position=0, alive=alive)
    with folder.log.open("rb") as file:
        size = file.seek(0, 2)
        tail = position == FROM_TAIL
        if tail:
            position = max(0, size - _PIECE_BYTES_MAX)
        elif size < position:
            position = 0  # the log was cut
        file.seek(position)
        data = file.read(_PIECE_BYTES_MAX)
    position += len(data)
    if tail:
        lines = max(0, min(tail_lines, TAIL_LINES_MAX))
        data = b"".join(data.splitlines(keepends=True)[-lines:]) if lines else b""
    return LogPiece(data=data, position=position, alive=alive)


async def stream_log(
    read: Callable[[int], Awaitable[LogPiece]], *, follow: bool
) -> AsyncIterator[bytes]:
    """The last lines, and with *follow* what is added until the worker's supervisor is gone."""
    piece = await read(FROM_TAIL)
    yield piece.data
    while follow:
        ended = not piece.alive
        piece = await read(piece.position)
        if piece.data:
            yield piece.data
        elif ended:
            return
        else:
            await asyncio.sleep(_FOLLOW_POLL_S)
