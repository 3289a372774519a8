"""Where a generation's tokens go: a stream of events, or one whole answer; and how either fails."""

import os
from collections.abc import Callable
from typing import Any, Protocol

from pipelines.engines.emulator.answers import Answer, error_event
from pipelines.engines.emulator.ask import engine_failure
from pipelines.engines.emulator.faults import Fault, FaultKind
from pipelines.engines.emulator.http import Reply
from pipelines.engines.emulator.text import Token

EVENT_STREAM = "text/event-stream; charset=utf-8"
_GARBAGE = b"<html>\xff\xfe\x00 502 </html>\n\n"
_EXIT_CODE = 70


class Sink(Protocol):
    def put(self, token: Token | None, finish: str | None) -> None:
        """The next token; *finish* with the last one. None: the answer ended by itself."""

    def open(self) -> None:
        """The answer begins, if it can without a token."""

    def strike(self, fault: Fault) -> None:
        """Lets *fault* happen to the answer."""

    def fail(self) -> None:
        """The engine could not generate at all."""


class StreamSink:
    def __init__(self, reply: Reply, answer: Answer, *, stop: str | None) -> None:
        self._reply = reply
        self._answer = answer
        self._stop = stop
        self._count = 0

    def put(self, token: Token | None, finish: str | None) -> None:
        self._count += 1
        if self._count == 1:
            self.open()
        if token is not None and finish is None:
            self._reply.write(self._answer.token(token, self._count))
        elif finish is not None:
            stop = self._stop if finish == "stop" else None
            self._reply.write(self._answer.closing(token, self._count, finish, stop))
            self._reply.end()

    def strike(self, fault: Fault) -> None:
        strike(fault, self._reply, streams=True)

    def fail(self) -> None:
        # The status line has said 200 by then: vLLM's does, too.
        self.open()
        self._reply.write(error_event(engine_failure()))
        self._reply.end()

    def open(self) -> None:
        self._reply.start(EVENT_STREAM)
        opening = self._answer.opening()
        if opening:
            self._reply.write(opening)


class WholeSink:
    """*transfer* makes the answer's kv_transfer_params when the answer is whole."""

    def __init__(
        self,
        reply: Reply,
        answer: Answer,
        *,
        stop: str | None,
        transfer: Callable[[], dict[str, Any] | None],
    ) -> None:
        self._reply = reply
        self._answer = answer
        self._stop = stop
        self._parts: list[str] = []
        self._count = 0
        self._transfer = transfer

    def put(self, token: Token | None, finish: str | None) -> None:
        self._count += 1
        if token is not None:
            self._parts.append(token.text)
        if finish is not None:
            stop = self._stop if finish == "stop" else None
            text = "".join(self._parts)
            body = self._answer.whole(text, self._count, finish, stop, self._transfer())
            self._reply.send(200, body)

    def open(self) -> None:
        pass  # nothing is sent before the whole

    def strike(self, fault: Fault) -> None:
        strike(fault, self._reply, streams=False)

    def fail(self) -> None:
        refusal = engine_failure()
        self._reply.send(refusal.status, refusal.body())


def strike(fault: Fault, reply: Reply, *, streams: bool) -> None:
    """Lets *fault* happen to *reply*, which may have begun."""
    if fault.kind is FaultKind.EXIT:
        os._exit(_EXIT_CODE)
    elif fault.kind is FaultKind.DIE:
        reply.reset()
    elif fault.kind in (FaultKind.STATUS, FaultKind.ERROR):
        _fail(fault, reply, streams=streams)
    elif fault.kind in (FaultKind.GARBAGE, FaultKind.TRUNCATE):
        _spoil(fault, reply, streams=streams)
    # HANG: nothing comes any more.


def _fail(fault: Fault, reply: Reply, *, streams: bool) -> None:
    refusal = engine_failure()
    refusal.status = fault.status
    if not streams or (fault.kind is FaultKind.STATUS and not reply.started):
        reply.send(refusal.status, refusal.body())
        return
    if not reply.started:
        reply.start(EVENT_STREAM)
    reply.write(error_event(refusal))
    reply.end()


def _spoil(fault: Fault, reply: Reply, *, streams: bool) -> None:
    garbage = fault.kind is FaultKind.GARBAGE
    if not streams:
        if garbage:
            reply.send(200, _GARBAGE, "text/html")
        else:
            reply.break_off(200, b'{"id":"cut')
        return
    if not reply.started:
        reply.start(EVENT_STREAM)
    if garbage:
        reply.write(_GARBAGE)
    reply.end()
