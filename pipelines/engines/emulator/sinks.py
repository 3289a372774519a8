"""Where a generation's tokens go: a stream of events, or one whole answer; and how either fails."""

import os
from collections.abc import Callable
from typing import Any, Protocol

from pipelines.engines.emulator.answers import Answer, Choice, failure_event
from pipelines.engines.emulator.ask import Ask, RefusalError, engine_failure
from pipelines.engines.emulator.faults import Fault, FaultKind
from pipelines.engines.emulator.http import Reply
from pipelines.engines.emulator.text import Token

EVENT_STREAM = "text/event-stream; charset=utf-8"
_GARBAGE = b"<html>\xff\xfe\x00 502 </html>\n\n"
_EXIT_CODE = 70


class Sink(Protocol):
    """Of one choice of a request."""

    def put(self, token: Token | None, finish: str | None) -> None:
        """The next token; *finish* with the last one. None: the answer ended by itself."""

    def strike(self, fault: Fault) -> None:
        """Lets *fault* happen to the whole answer."""


class Target(Protocol):
    """Of a request, whose choices end in it."""

    def choice(self, index: int, stop: str | None) -> Sink:
        """Where choice *index* goes, which ends with *stop*."""

    def open(self) -> None:
        """The answer begins, if it can without a token."""

    def fail(self) -> None:
        """The engine could not generate at all."""


class Stream:
    """*answers* has one for each choice."""

    def __init__(self, reply: Reply, ask: Ask, answers: list[Answer]) -> None:
        self.reply = reply
        self._ask = ask
        self._answers = answers
        self._is_open = False
        self._left = len(answers)
        self._count = 0

    def choice(self, index: int, stop: str | None) -> "StreamSink":
        return StreamSink(self, self._answers[index], stop)

    def open(self) -> None:
        if self._is_open:
            return
        self._is_open = True
        self.reply.start(EVENT_STREAM)
        opening = self._answers[0].opening()
        if opening:
            self.reply.write(opening)

    def close(self, closing: bytes, count: int) -> None:
        """One of its choices has ended."""
        self._left -= 1
        self._count += count
        if self._left:
            self.reply.write(closing)
            return
        self.reply.write(closing + self._answers[0].end(self._count))
        self.reply.end()

    def fail(self) -> None:
        # The status line has said 200 by then: vLLM's does, too.
        self.open()
        _fail_stream(self.reply, self._ask, engine_failure())

    def strike(self, fault: Fault) -> None:
        strike(fault, self.reply, self._ask)


class StreamSink:
    def __init__(self, stream: Stream, answer: Answer, stop: str | None) -> None:
        self._stream = stream
        self._reply = stream.reply
        self._answer = answer
        self._stop = stop
        self._count = 0

    def put(self, token: Token | None, finish: str | None) -> None:
        self._count += 1
        if self._count == 1:
            self._stream.open()
        if token is not None and finish is None:
            self._reply.write(self._answer.token(token, self._count))
        elif finish is not None:
            stop = self._stop if finish == "stop" else None
            closing = self._answer.closing(token, self._count, finish, stop)
            self._stream.close(closing, self._count)

    def strike(self, fault: Fault) -> None:
        self._stream.strike(fault)


class Whole:
    """*transfer* makes the answer's kv_transfer_params when the answer is whole."""

    def __init__(
        self,
        reply: Reply,
        ask: Ask,
        answer: Answer,
        *,
        transfer: Callable[[], dict[str, Any] | None],
    ) -> None:
        self._reply = reply
        self._ask = ask
        self._answer = answer
        self._transfer = transfer
        self._done: dict[int, Choice] = {}

    def choice(self, index: int, stop: str | None) -> "WholeSink":
        return WholeSink(self, index, stop)

    def open(self) -> None:
        pass  # nothing is sent before the whole

    def close(self, index: int, choice: Choice) -> None:
        """One of its choices has ended."""
        self._done[index] = choice
        if len(self._done) == self._ask.choices:
            choices = [self._done[each] for each in sorted(self._done)]
            try:
                body = self._answer.whole(choices, self._transfer())
            except RefusalError as refusal:
                self._refuse(refusal)
            else:
                self._reply.send(200, body)

    def fail(self) -> None:
        self._refuse(engine_failure())

    def _refuse(self, refusal: RefusalError) -> None:
        self._reply.send(refusal.status, refusal.body(anthropic=self._ask.anthropic))

    def strike(self, fault: Fault) -> None:
        strike(fault, self._reply, self._ask)


class WholeSink:
    def __init__(self, whole: Whole, index: int, stop: str | None) -> None:
        self._whole = whole
        self._index = index
        self._stop = stop
        self._tokens: list[Token] = []
        self._count = 0

    def put(self, token: Token | None, finish: str | None) -> None:
        self._count += 1
        if token is not None:
            self._tokens.append(token)
        if finish is not None:
            stop = self._stop if finish == "stop" else None
            choice = Choice(tokens=self._tokens, count=self._count, finish=finish, stop=stop)
            self._whole.close(self._index, choice)

    def strike(self, fault: Fault) -> None:
        self._whole.strike(fault)


class PoolingSink:
    """Of what gives no tokens: one *body*, when its time has come."""

    def __init__(self, reply: Reply, ask: Ask, body: bytes) -> None:
        self._reply = reply
        self._ask = ask
        self._body = body

    def put(self, token: Token | None, finish: str | None) -> None:
        del token
        if finish is not None:
            self._reply.send(200, self._body)

    def strike(self, fault: Fault) -> None:
        strike(fault, self._reply, self._ask)


def strike(fault: Fault, reply: Reply, ask: Ask) -> None:
    """Lets *fault* happen to *reply*, which may have begun."""
    if fault.kind is FaultKind.EXIT:
        os._exit(_EXIT_CODE)
    elif fault.kind is FaultKind.DIE:
        reply.reset()
    elif fault.kind in (FaultKind.STATUS, FaultKind.ERROR):
        _fail(fault, reply, ask)
    elif fault.kind in (FaultKind.GARBAGE, FaultKind.TRUNCATE):
        _spoil(fault, reply, streams=ask.stream)
    # HANG: nothing comes any more.


def _fail(fault: Fault, reply: Reply, ask: Ask) -> None:
    refusal = engine_failure()
    refusal.status = fault.status
    if not ask.stream or (fault.kind is FaultKind.STATUS and not reply.started):
        reply.send(refusal.status, refusal.body(anthropic=ask.anthropic))
        return
    if not reply.started:
        reply.start(EVENT_STREAM)
    _fail_stream(reply, ask, refusal)


def _fail_stream(reply: Reply, ask: Ask, refusal: RefusalError) -> None:
    event = failure_event(refusal, ask)
    if event is None:
        reply.cut_off()
        return
    reply.write(event)
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
