"""Requests, and engines that serve them on devices, in steps of time."""

from collections import deque
from collections.abc import Iterable, Sequence

from simulation.azure import Arrival
from simulation.pooling.catalog import BATCH_MAX, Served

STEP_S = 0.1


class Request:
    """*first_at* and *ended_at* are None until they are known."""

    __slots__ = ("answer", "at", "decoded", "ended_at", "first_at", "model", "prefilled", "prompt")

    def __init__(self, arrival: Arrival, model: str) -> None:
        self.model = model
        self.at = arrival.at_s
        self.prompt = arrival.prompt_tokens
        self.answer = max(arrival.answer_tokens, 1)
        self.prefilled = 0.0
        self.decoded = 1.0
        self.first_at: float | None = None
        self.ended_at: float | None = None

    @property
    def ttft_s(self) -> float:
        return float("inf") if self.first_at is None else self.first_at - self.at

    @property
    def tpot_s(self) -> float:
        if self.ended_at is None or self.first_at is None:
            return float("inf")
        return (self.ended_at - self.first_at) / max(self.answer - 1, 1)


class Engine:
    """A worker that is awake: prompts one after the other, then answers together."""

    def __init__(self, served: Served) -> None:
        self._size = served.size
        self._waiting: deque[Request] = deque()
        self._running: list[Request] = []

    @property
    def in_flight(self) -> int:
        return len(self._waiting) + len(self._running)

    @property
    def has_room(self) -> bool:
        return self.in_flight < BATCH_MAX

    def take(self, request: Request) -> None:
        self._waiting.append(request)

    def advance(self, now: float, share: float) -> None:
        """From *now* one step on, with that *share* of the device."""
        left_s = STEP_S * share
        speed = self._size.prefill_tokens_s
        while self._waiting and left_s > 0:
            request = self._waiting[0]
            needed_s = (request.prompt - request.prefilled) / speed
            if needed_s > left_s:
                request.prefilled += left_s * speed
                return
            left_s -= needed_s
            self._waiting.popleft()
            request.first_at = now + STEP_S - left_s / share
            if request.answer == 1:
                request.ended_at = request.first_at
            else:
                self._running.append(request)
        if self._running:
            self._decode(now, left_s, share)

    def _decode(self, now: float, left_s: float, share: float) -> None:
        running = self._running
        context = sum(request.prompt + request.decoded for request in running) / len(running)
        tokens = left_s / self._size.step_s(len(running), context)
        for request in running:
            missing = request.answer - request.decoded
            request.decoded += tokens
            if missing <= tokens:
                at = max(now + STEP_S - left_s / share, request.first_at or 0.0)
                request.ended_at = at + left_s / share * (missing / tokens)
        self._running = [request for request in running if request.ended_at is None]


def advance_device(engines: Iterable[Engine], now: float) -> None:
    """Those with something to do share the device evenly."""
    busy: Sequence[Engine] = [engine for engine in engines if engine.in_flight]
    for engine in busy:
        engine.advance(now, 1 / len(busy))
