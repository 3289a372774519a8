"""Processes that this one keeps: started, brought back when they die, ended with it."""

import asyncio
import contextlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import structlog

from pipelines.parent import PARENT_VARIABLE

log = structlog.get_logger()

STOP_MAX_S = 40.0  # more than the gateway's own drain
BACKOFF_MAX_S = 10.0
STABLE_S = 30.0


class Children:
    """*commands* are Python's arguments, by name. With *logs*, each child writes a file there, else
    to where we write. Each runs in a session of its own, so that Ctrl-C reaches only us.
    """

    def __init__(self, commands: Mapping[str, Sequence[str]], *, logs: Path | None = None) -> None:
        self._commands = commands
        self._logs = logs
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self._stopping = False

    async def keep(self) -> None:
        """Runs every child, and again after its end, until cancelled."""
        if self._logs is not None:
            self._logs.mkdir(mode=0o700, exist_ok=True)
        async with asyncio.TaskGroup() as tasks:
            for name in self._commands:
                tasks.create_task(self._keep_one(name))

    async def stop(self) -> None:
        self._stopping = True
        async with asyncio.TaskGroup() as tasks:
            for process in self._running.values():
                tasks.create_task(_stop(process))

    async def _keep_one(self, name: str) -> None:
        loop = asyncio.get_running_loop()
        backoff_s = 0.5
        while not self._stopping:
            started = loop.time()
            process = await self._start(name)
            self._running[name] = process
            code = await process.wait()
            backoff_s = (
                0.5 if loop.time() - started > STABLE_S else min(2 * backoff_s, BACKOFF_MAX_S)
            )
            log.warning(
                "a part ended and is started again", part=name, code=code, after_s=backoff_s
            )
            await asyncio.sleep(backoff_s)

    async def _start(self, name: str) -> asyncio.subprocess.Process:
        with contextlib.ExitStack() as files:
            output = None
            if self._logs is not None:
                output = files.enter_context((self._logs / f"{name}.log").open("ab"))
            return await asyncio.create_subprocess_exec(
                sys.executable,
                *self._commands[name],
                env={**os.environ, PARENT_VARIABLE: str(os.getpid())},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )


async def _stop(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(STOP_MAX_S):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
