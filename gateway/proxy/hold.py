"""A request that waits until a worker has woken up: its client hears that it goes on.

Whoever asked for a stream gets its head at once, and a comment now and then, which no reader of
events sees. So nothing between us and the client takes the silence for a fault. From then on an
error is an event in the stream.
"""

import asyncio
from types import TracebackType

from gateway.proxy.exchange import Exchange

HEARTBEAT_S = 10.0


class Hold:
    """``with`` it around the wait. A request that is refused at once has not been greeted yet."""

    def __init__(self, exchange: Exchange) -> None:
        assert exchange.model is not None
        assert exchange.request is not None
        self._exchange = exchange
        self._comment = b": waking %b\n\n" % exchange.model.name.encode()
        self._streams = exchange.request.stream
        self._timer: asyncio.Handle | None = None

    def __enter__(self) -> None:
        if self._streams:
            self._timer = asyncio.get_running_loop().call_soon(self._beat)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _beat(self) -> None:
        exchange = self._exchange
        exchange.greet()
        if not exchange.client.paused:  # who reads nothing needs no more of it
            exchange.client.write(self._comment)
        self._timer = asyncio.get_running_loop().call_later(HEARTBEAT_S, self._beat)
