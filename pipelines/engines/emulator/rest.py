"""The emulator's sleep: like vLLM at level 1, it is there and answers nothing until it is woken."""

import asyncio
from collections.abc import Callable

from pipelines.engines.emulator.http import Reply, Request

_ANSWERS_ASLEEP = frozenset({"/health", "/metrics", "/v1/models", "/fault"})


class Rest:
    """*wake_s* is what waking up takes, however often it is asked for meanwhile."""

    def __init__(self, loop: asyncio.AbstractEventLoop, wake_s: float) -> None:
        self._loop = loop
        self._wake_s = wake_s
        self._asleep = False
        self._wakers: list[Reply] = []  # that wait until it is awake

    def routes(self) -> dict[str, dict[str, Callable[[Request, Reply], None]]]:
        return {"/sleep": {"POST": self._sleep}, "/wake_up": {"POST": self._wake}}

    def refuses(self, path: str) -> bool:
        return self._asleep and path not in _ANSWERS_ASLEEP and path not in self.routes()

    def _sleep(self, _: Request, reply: Reply) -> None:
        self._asleep = True
        reply.send(200, b'{"status":"sleeping"}')

    def _wake(self, _: Request, reply: Reply) -> None:
        self._wakers.append(reply)
        if len(self._wakers) == 1:
            self._loop.call_later(self._wake_s if self._asleep else 0.0, self._awake)

    def _awake(self) -> None:
        self._asleep = False
        wakers, self._wakers = self._wakers, []
        for reply in wakers:
            reply.send(200, b'{"status":"awake"}')
