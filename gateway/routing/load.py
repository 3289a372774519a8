"""What each worker has to do right now, in tokens, as this gateway has given it out.

A leg's prompt is *prefill* until its first token has come, and after that *context* that decode
holds and reads at every step.
"""

from collections.abc import Callable

from gateway.routing.endpoint import Endpoint

OnLeave = Callable[[Endpoint], None]


class Load:
    """Of one worker."""

    __slots__ = ("context_tokens", "endpoint", "legs", "prefill_tokens")

    def __init__(self, endpoint: Endpoint | None = None) -> None:
        self.endpoint = endpoint
        self.legs = 0
        self.prefill_tokens = 0
        self.context_tokens = 0


IDLE = Load()  # what a worker without a record has; never changed


class Ticket:
    """One leg's place on its worker, from before it connects until it is over."""

    __slots__ = ("_context_tokens", "_load", "_on_leave", "_prefill_tokens", "endpoint")

    def __init__(
        self,
        endpoint: Endpoint,
        load: Load,
        *,
        prefill_tokens: int,
        context_tokens: int,
        on_leave: OnLeave | None,
    ) -> None:
        self.endpoint = endpoint
        self._load: Load | None = load
        self._prefill_tokens = prefill_tokens
        self._context_tokens = context_tokens
        self._on_leave = on_leave
        load.legs += 1
        load.prefill_tokens += prefill_tokens

    def answered(self) -> None:
        """The first token has come: prefill is done."""
        load = self._load
        if self._prefill_tokens and load is not None:
            load.prefill_tokens -= self._prefill_tokens
            load.context_tokens += self._context_tokens
            self._prefill_tokens = 0

    def leave(self) -> None:
        """The leg is over, however it ended. Exactly once."""
        load = self._load
        assert load is not None, f"left {self.endpoint.worker_id} twice"
        self._load = None
        load.legs -= 1
        if self._prefill_tokens:
            load.prefill_tokens -= self._prefill_tokens
        else:
            load.context_tokens -= self._context_tokens
        if self._on_leave is not None:
            self._on_leave(self.endpoint)
