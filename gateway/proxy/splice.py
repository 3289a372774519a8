"""A worker's stream on its way to the client, inside the event loop's own callbacks.

Each token takes one path: bytes from the worker, a few byte searches, bytes to the client. The
request's task sleeps from the first event to the last.
"""

from collections.abc import Callable

from gateway.proxy.connection import Connection
from gateway.proxy.exchange import Exchange
from gateway.proxy.stream import Relay
from gateway.routing.load import Ticket
from gateway.routing.pick import Mode


class Splice:
    """*ticket* hears of the first token. In a pair what comes before it (a role, say) is held
    back until then: it says nothing, and nobody knows yet whether the KV will come. So it is
    wherever no other worker could go on with the stream: until then, another may begin it anew.
    """

    __slots__ = (
        "_client",
        "_clock",
        "_connection",
        "_exchange",
        "_held",
        "_holds",
        "_journal",
        "_last",
        "_relay",
        "_ticket",
        "_watch",
        "_write",
    )

    def __init__(
        self,
        exchange: Exchange,
        connection: Connection,
        relay: Relay,
        ticket: Ticket,
        clock: Callable[[], float],
    ) -> None:
        assert exchange.request is not None
        self._exchange = exchange
        self._client = exchange.client
        self._connection = connection
        self._relay = relay
        self._ticket = ticket
        self._clock = clock
        self._held = b""
        paired = exchange.mode is Mode.DISAGGREGATED
        early = relay.form.early
        self._holds = early > 0 and (paired or not exchange.request.operation.resumes)
        self._last = b""
        # Once nothing stands between the worker's bytes and the client's any more:
        self._write: Callable[[bytes], None] | None = None
        self._journal = exchange.journal
        self._watch = exchange.watch
        assert exchange.model is not None
        self._watch.between_s = exchange.model.limits.between_tokens_s

    async def run(self) -> None:
        """Until the worker's last event, or its error event (the relay says which). Raises
        UpstreamError, BadAnswerError.
        """
        client = self._client
        client.on_pressure = self._pressure
        if client.paused:  # since an earlier worker's time
            self._pressure(True)
        try:
            await self._connection.pump(self._take, self._pass_raw)
        finally:
            client.on_pressure = None
            self._exchange.watch.sending = False

    def finish(self) -> None:
        """Sends the end, which `run` has kept."""
        exchange = self._exchange
        if not exchange.started:
            exchange.begin_stream()
        exchange.finished = True
        self._client.end(self._last)

    def _take(self, data: bytes) -> bool:
        relay, exchange = self._relay, self._exchange
        out = relay.feed(data)
        if self._holds:
            out = self._hold(out)
        now = self._clock()
        if out:
            if exchange.token_at is None:
                exchange.token_at = now
                if exchange.first_at is None:
                    exchange.first_at = now
            self._ticket.answered()
            if exchange.turn is not None:
                exchange.turn_over()
            if exchange.resumption is not None:
                out = exchange.resumption.rewrite(out)
            if not relay.done:
                self._pass_on(out)
        if relay.done:
            self._last = out
            return True
        if not self._holds:  # else the first token is still waited for
            exchange.expect_between(now)
        return relay.failed

    def _pass_raw(self, chunks: bytes) -> bool:
        """What nearly every token takes: whole chunks of whole events go on as they came."""
        write = self._write
        if write is None or not self._relay.passes(chunks):
            return False
        if self._journal is not None:
            self._journal.add(chunks)
        write(chunks)
        self._watch.moved = True
        return True

    def _pass_on(self, out: bytes) -> None:
        exchange = self._exchange
        if not out:
            return  # the client has had it from an earlier worker
        if not exchange.started:
            exchange.begin_stream()
        if exchange.journal is not None:
            exchange.journal.add(out)
        self._client.write(out)
        if exchange.resumption is None:
            self._write = self._client.raw_writer()

    def _hold(self, out: bytes) -> bytes:
        self._held += out
        if self._relay.events <= self._relay.form.early and not self._relay.done:
            return b""
        self._holds = False
        return self._held

    def _pressure(self, high: bool) -> None:
        """The client is slower than the worker: what is between them is bounded."""
        exchange = self._exchange
        exchange.watch.sending = high
        exchange.expect_between(self._clock())
        self._connection.hold(high)
