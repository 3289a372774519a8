"""Our end of the bridge: starts it when it is first needed, and again when it has ended."""

import asyncio
import contextlib
import itertools
import sys
import time

import msgspec

from pipelines.cluster.base import ClusterError
from pipelines.cluster.ray.wire import LINE_BYTES_MAX, Answer, Ask

CONNECT_S = 30.0
# Longer than anything the bridge itself waits for: beyond it, the bridge hangs.
ANSWER_S = 75.0
AGAIN_S = 2.0
_GOODBYE_S = 2.0


class Link:
    def __init__(self, address: str) -> None:
        self._address = address
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._ids = itertools.count(1)
        self._opening = asyncio.Lock()
        self._failed_at = -AGAIN_S

    async def ask(self, ask: Ask) -> msgspec.Raw:
        """Raises ClusterError: what was asked went wrong, or there is no cluster."""
        process = await self._open()
        assert process.stdin is not None
        number = next(self._ids)
        waiting = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            line = msgspec.json.encode(msgspec.structs.replace(ask, id=number)) + b"\n"
            async with asyncio.timeout(ANSWER_S):
                process.stdin.write(line)
                await process.stdin.drain()
                answer = await waiting
        except TimeoutError:
            process.kill()  # the next question starts another one
            raise ClusterError(f"Ray at {self._address} does not answer") from None
        except OSError:
            raise ClusterError(self._lost()) from None
        finally:
            self._waiting.pop(number, None)
        if answer.error:
            raise ClusterError(answer.error)
        value: msgspec.Raw = answer.value
        return value

    async def aclose(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(_GOODBYE_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
        if self._reading is not None:
            await self._reading

    async def _open(self) -> asyncio.subprocess.Process:
        async with self._opening:
            if self._process is not None and self._process.returncode is None:
                return self._process
            await asyncio.sleep(max(0.0, self._failed_at + AGAIN_S - time.monotonic()))
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "pipelines.cluster.ray.bridge", self._address),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=LINE_BYTES_MAX,
                start_new_session=True,
            )
            try:
                await self._first_word(process)
            except BaseException:
                self._failed_at = time.monotonic()
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await asyncio.shield(process.wait())
                raise
            self._process = process
            self._reading = asyncio.create_task(self._read(process))
            return process

    async def _first_word(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        try:
            async with asyncio.timeout(CONNECT_S):
                line = await process.stdout.readline()
        except TimeoutError:
            error = f"no answer within {CONNECT_S:g} s"
        else:
            error = msgspec.json.decode(line, type=Answer).error if line else "it could not start"
        if error:
            raise ClusterError(
                f"no Ray cluster at {self._address} ({error}): run this on a machine of the "
                "cluster, after `ray start` there, and check MODELYARD_RAY_ADDRESS"
            )

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            answer = msgspec.json.decode(line, type=Answer)
            waiting = self._waiting.get(answer.id)
            if waiting is not None and not waiting.done():
                waiting.set_result(answer)
        self._failed_at = time.monotonic()
        await process.wait()
        for number, waiting in self._waiting.items():
            if not waiting.done():
                waiting.set_result(Answer(id=number, error=self._lost()))

    def _lost(self) -> str:
        return f"the connection to Ray at {self._address} has ended; it is made anew"
