"""The processes of `up`: gateway and controller, brought back when they die."""

import asyncio
import contextlib
import os
import sys
from pathlib import Path

import structlog

from pipelines.parent import PARENT_VARIABLE
from registry.settings import Settings

log = structlog.get_logger()

STOP_MAX_S = 40.0  # more than the gateway's own drain
BACKOFF_MAX_S = 10.0
STABLE_S = 30.0
_COMMANDS = {
    "gateway": ("-m", "gateway", "serve"),
    "controller": ("-m", "pipelines.controller"),
}


class Children:
    """Each child runs in a session of its own, so that Ctrl-C reaches only us."""

    def __init__(self, settings: Settings) -> None:
        self._logs = settings.home / "logs"
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self._stopping = False

    async def keep(self) -> None:
        """Runs every child, and again after its end, until cancelled."""
        self._logs.mkdir(mode=0o700, exist_ok=True)
        async with asyncio.TaskGroup() as tasks:
            for name in _COMMANDS:
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
        path: Path = self._logs / f"{name}.log"
        with path.open("ab") as output:
            return await asyncio.create_subprocess_exec(
                sys.executable,
                *_COMMANDS[name],
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
