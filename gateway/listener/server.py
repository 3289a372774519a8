"""The listening socket: accepts, sweeps what is overdue, drains."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog

from gateway.listener.connection import ClientConnection
from gateway.listener.request import ClientRequest

HEAD_S = 10.0
IDLE_S = 75.0
# A client that takes nothing of its answer for this long is given up.
SEND_S = 30.0
# Behind the last answer, what is still sent is read and dropped for this long: closing at once
# would reset the connection, and a reset may overtake the answer.
LINGER_S = 2.0
CONNECTIONS_MAX = 16_384
BACKLOG = 2048
_SWEEP_S = 0.5
# Before a drain closes what is idle, requests that have already come are read: also by a loop that
# lags, so it takes several of its turns.
_ARRIVED_S = 0.01
_ARRIVED_TURNS = 3
_LOOK_EVERY_S = 0.01
# After the time to drain is over, what still runs is told, and gets this long to say so.
_LAST_WORDS_S = 2.0

_log = structlog.get_logger("gateway.listener")


class UnansweredError(Exception):
    """The handler has returned and left its request without an answer."""


class Listener:
    """``async with`` it. *handler* gets each request in a task of its own and must answer it."""

    def __init__(
        self,
        handler: Callable[[ClientRequest], Awaitable[None]],
        *,
        head_s: float = HEAD_S,
        idle_s: float = IDLE_S,
        send_s: float = SEND_S,
        linger_s: float = LINGER_S,
        connections_max: int = CONNECTIONS_MAX,
    ) -> None:
        self._handler = handler
        self._connections_max = connections_max
        self._connections: set[ClientConnection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self.head_s = head_s
        self.idle_s = idle_s
        self.send_s = send_s
        self.linger_s = linger_s
        self.draining = False
        self.now = self._loop.time

    async def listen(self, sock: socket.socket) -> None:
        self._server = await self._loop.create_server(
            lambda: ClientConnection(self), sock=sock, backlog=BACKLOG
        )
        self._sweeper = self._loop.create_task(self._sweep())

    async def drain(self, drain_s: float) -> None:
        """Takes nothing new and lets what runs finish; what runs longer is told and cut."""
        self.draining = True
        if self._server is not None:
            self._server.close()
        for _ in range(_ARRIVED_TURNS):
            await asyncio.sleep(_ARRIVED_S / _ARRIVED_TURNS)
        for connection in tuple(self._connections):
            connection.drain()
        if not await self._quiet_within(drain_s):
            _log.warning("requests outlast the drain", requests=len(self._tasks), drain_s=drain_s)
            for connection in tuple(self._connections):
                request = connection.current
                if request is not None and request.on_stop is not None:
                    request.on_stop()
            await self._quiet_within(_LAST_WORDS_S)
        await self._flushed_within(_LAST_WORDS_S)

    async def aclose(self) -> None:
        """Cuts whatever is left."""
        self.draining = True
        if self._server is not None:
            self._server.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._sweeper
        for task in tuple(self._tasks):
            task.cancel()
        while self._connections or self._tasks:
            for connection in tuple(self._connections):
                connection.abort()
            if self._tasks:
                await asyncio.wait(self._tasks)
            await asyncio.sleep(0)  # connections leave in the loop's next turns

    @property
    def connections(self) -> int:
        return len(self._connections)

    # For the connections.

    def connected(self, connection: ClientConnection) -> None:
        self._connections.add(connection)
        if len(self._connections) > self._connections_max:
            connection.refuse_all()

    def disconnected(self, connection: ClientConnection) -> None:
        self._connections.discard(connection)

    def begin(self, request: ClientRequest) -> None:
        task = request.task = self._loop.create_task(self._run(request))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, request: ClientRequest) -> None:
        if request.gone:
            return  # before its handler could ask to be told
        try:
            await self._handler(request)
            if request.open:
                raise UnansweredError
        except Exception as error:  # noqa: BLE001 - one request must not end the others
            _log.exception("request-lost", exc_info=error)
        finally:
            request.task = None  # it holds us
            if not request.finished:
                request.abort()

    async def _quiet_within(self, timeout_s: float) -> bool:
        """Whether every request has been answered, also one that is still being received."""
        due_at = self.now() + timeout_s
        while (left_s := due_at - self.now()) > 0:
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=left_s)
            elif all(connection.idle for connection in self._connections):
                return True
            else:
                await asyncio.sleep(min(_LOOK_EVERY_S, left_s))
        return not self._tasks

    async def _flushed_within(self, timeout_s: float) -> None:
        """What was written last is still on its way out of this process."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while not all(  # noqa: ASYNC110 - it has no event for that
                    connection.flushed for connection in self._connections
                ):
                    await asyncio.sleep(_LOOK_EVERY_S)

    async def _sweep(self) -> None:
        every_s = min(_SWEEP_S, min(self.head_s, self.idle_s, self.send_s, self.linger_s) / 4)
        while True:
            await asyncio.sleep(every_s)
            now = self.now()
            for connection in tuple(self._connections):
                if connection.due_at > now:
                    continue
                try:
                    connection.overdue()
                except Exception as error:  # noqa: BLE001 - the others' deadlines still hold
                    _log.exception("sweep-failed", exc_info=error)
                    connection.abort()
