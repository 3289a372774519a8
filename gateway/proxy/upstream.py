"""The gateway's HTTP client for workers: a bounded pool of kept connections for each.

It sends a short list of headers of its own and nothing of the client's. No proxies from the
environment, no redirects, no cookies.
"""

import asyncio
import ssl
from collections.abc import Callable
from functools import cache

from gateway.proxy.connection import Connection
from gateway.proxy.errors import ConnectError, ResetError, StaleError, UpstreamError
from gateway.routing.endpoint import Endpoint

CONNECTIONS_PER_WORKER_MAX = 4096
IDLE_PER_WORKER_MAX = 1024
# uvicorn, under every engine we know, closes an idle connection after 5 s; let go before it does.
IDLE_S_MAX = 4.0
# After the last byte we need, a worker may take this long to complete its framing.
_FRAMING_S_MAX = 2.0
# One for all workers: to read the machine's certificates takes tens of milliseconds.
_tls_context = cache(ssl.create_default_context)


class _Pool:
    """The connections to one worker."""

    __slots__ = (
        "_clock",
        "_heads",
        "_tls",
        "connections",
        "endpoint",
        "idle",
        "opening",
        "retired",
    )

    def __init__(self, endpoint: Endpoint, clock: Callable[[], float]) -> None:
        self.endpoint = endpoint
        self._clock = clock
        self._heads: dict[tuple[str, str, bool], bytes] = {}
        self._tls = _tls_context() if endpoint.tls else None
        self.connections: set[Connection] = set()
        self.idle: list[Connection] = []
        self.opening = 0
        self.retired = False

    def head(self, method: str, path: str, *, stream: bool) -> bytes:
        """A request's head but for its id and length."""
        head = self._heads.get((method, path, stream))
        if head is None:
            accept = "text/event-stream" if stream else "application/json"
            lines = [
                f"{method} {path} HTTP/1.1",
                f"host: {self.endpoint.authority}",
                "content-type: application/json",
                f"accept: {accept}",
                "accept-encoding: identity",
            ]
            if self.endpoint.token:
                lines.append(f"authorization: Bearer {self.endpoint.token}")
            lines.append("x-request-id: ")
            head = self._heads[method, path, stream] = "\r\n".join(lines).encode("ascii")
        return head

    def take_idle(self) -> Connection | None:
        idle = self.idle
        if not idle:
            return None
        oldest = self._clock() - IDLE_S_MAX
        connection = idle.pop()
        if connection.idle_since >= oldest and not connection.closed:
            return connection
        connection.abort()  # too old, and all others are older
        self.drop_idle()
        return None

    async def connect(self, timeout_s: float) -> Connection:
        """Raises ConnectError."""
        if len(self.connections) + self.opening >= CONNECTIONS_PER_WORKER_MAX:
            raise ConnectError(f"{CONNECTIONS_PER_WORKER_MAX} connections are open already")
        loop = asyncio.get_running_loop()
        self.opening += 1
        try:
            async with asyncio.timeout(timeout_s):
                _, connection = await loop.create_connection(
                    lambda: Connection(loop, self.lost),
                    self.endpoint.host,
                    self.endpoint.port,
                    ssl=self._tls,
                )
        except TimeoutError:
            raise ConnectError(f"no connection within {timeout_s:g} s") from None
        except OSError as error:
            raise ConnectError(f"no connection: {error.strerror or error}") from None
        finally:
            self.opening -= 1
        self.connections.add(connection)
        return connection

    def give_back(self, connection: Connection) -> None:
        connection.busy = False
        keep = connection.reusable and not self.retired and len(self.idle) < IDLE_PER_WORKER_MAX
        if not keep:
            connection.abort()
            return
        connection.idle_since = self._clock()
        self.idle.append(connection)

    def lost(self, connection: Connection) -> None:
        self.connections.discard(connection)
        if connection in self.idle:
            self.idle.remove(connection)

    def busy(self) -> list[Connection]:
        return [connection for connection in self.connections if connection.busy]

    def drop_idle(self) -> None:
        for connection in self.idle:
            connection.abort()
        self.idle.clear()

    def close(self) -> None:
        self.retired = True
        for connection in tuple(self.connections):
            connection.abort()
        self.idle.clear()


class Upstream:
    """Pools by worker id. *clock* gives monotonic seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._pools: dict[str, _Pool] = {}

    async def request(
        self,
        endpoint: Endpoint,
        path: str,
        body: bytes,
        *,
        stream: bool,
        request_id: str,
        connect_s: float,
        method: str = "POST",
        once: bool = False,
        trace: bytes = b"",
    ) -> Connection:
        """Sends a request and waits for the answer's head. *trace* are header lines. Raises
        UpstreamError.

        A request that must not come to a worker twice is sent *once*. Give the connection back
        with `release`, or `abort` it.
        """
        pool = self._pool(endpoint)
        head = pool.head(method, path, stream=stream)
        head += b"%b\r\n%bcontent-length: %d\r\n\r\n" % (request_id.encode(), trace, len(body))
        connection = pool.take_idle()
        if connection is not None:
            try:
                connection.start(head, body)
                await connection.wait_head()
                return connection
            except ResetError:
                # The worker had closed it just before: most likely it has seen nothing of this.
                pool.drop_idle()
                if once:
                    raise StaleError("a kept connection was closed") from None
        connection = await pool.connect(connect_s)
        connection.start(head, body)
        await connection.wait_head()
        return connection

    async def ask(self, endpoint: Endpoint, path: str, *, connect_s: float) -> Connection:
        """A GET on a connection of its own, to be aborted by the caller. Raises UpstreamError."""
        pool = self._pool(endpoint)
        head = pool.head("GET", path, stream=False) + b"-\r\n\r\n"
        connection = await pool.connect(connect_s)
        connection.start(head, b"")
        await connection.wait_head()
        return connection

    def release(self, endpoint: Endpoint, connection: Connection) -> None:
        """The answer has been read as far as it matters: keep the connection if it can be."""
        pool = self._pools.get(endpoint.worker_id)
        if pool is None or connection.closed:
            connection.abort()
            return
        connection.finish(pool.give_back, _FRAMING_S_MAX)

    def silent(self, now: float, silent_s: float) -> list[Endpoint]:
        """Workers that have owed an answer for *silent_s*, by the event loop's time, and have said
        nothing at all. Requests that came later are no sign of life. Ask often.
        """
        since = now - silent_s
        heard_at = {
            worker_id: max((c.heard_by(now) for c in pool.connections), default=now)
            for worker_id, pool in self._pools.items()
        }
        return [
            pool.endpoint
            for worker_id, pool in self._pools.items()
            if (busy := pool.busy())
            and min(c.asked_at for c in busy) < since
            and heard_at[worker_id] < since
        ]

    def fail(self, worker_id: str, error: UpstreamError) -> None:
        """Ends every answer of this worker with *error*."""
        pool = self._pools.get(worker_id)
        for connection in pool.busy() if pool is not None else ():
            connection.fail(error)

    def open_connections(self) -> tuple[int, int]:
        """How many are open, and how many of them are idle."""
        return (
            sum(len(pool.connections) for pool in self._pools.values()),
            sum(len(pool.idle) for pool in self._pools.values()),
        )

    def keep(self, worker_ids: frozenset[str]) -> None:
        """Retires the pools of every other worker: what is in use may finish, then closes."""
        for worker_id in [worker for worker in self._pools if worker not in worker_ids]:
            pool = self._pools.pop(worker_id)
            pool.retired = True
            pool.drop_idle()

    def close(self) -> None:
        for pool in self._pools.values():
            pool.close()
        self._pools.clear()

    def _pool(self, endpoint: Endpoint) -> _Pool:
        pool = self._pools.get(endpoint.worker_id)
        if pool is None:
            pool = self._pools[endpoint.worker_id] = _Pool(endpoint, self._clock)
        return pool
