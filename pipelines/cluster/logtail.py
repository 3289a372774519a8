"""Reads the end of a worker's log, and what is added to it."""

import asyncio
from collections.abc import AsyncIterator

from pipelines.cluster.workerdir import WorkerDir

TAIL_LINES_MAX = 10_000
_TAIL_BYTES_MAX = 4 * 1024 * 1024
_FOLLOW_POLL_S = 0.3


def tail_log(folder: WorkerDir, lines: int) -> bytes:
    """The last *lines* lines, at most TAIL_LINES_MAX of them."""
    lines = max(0, min(lines, TAIL_LINES_MAX))
    if lines == 0 or not folder.log.exists():
        return b""
    with folder.log.open("rb") as file:
        file.seek(max(0, folder.log.stat().st_size - _TAIL_BYTES_MAX))
        return b"".join(file.read().splitlines(keepends=True)[-lines:])


async def follow_log(folder: WorkerDir) -> AsyncIterator[bytes]:
    """What is appended from now on, until the worker's supervisor is gone."""
    position = folder.log.stat().st_size if folder.log.exists() else 0
    while True:
        alive = await asyncio.to_thread(folder.supervised) if folder.path.exists() else False
        if folder.log.exists():
            size = folder.log.stat().st_size
            position = 0 if size < position else position  # the log was cut
            with folder.log.open("rb") as file:
                file.seek(position)
                chunk = file.read(_TAIL_BYTES_MAX)
            position += len(chunk)
            if chunk:
                yield chunk
                continue
        if not alive:
            return
        await asyncio.sleep(_FOLLOW_POLL_S)
