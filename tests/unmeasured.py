"""For controllers of whose workers nothing is read."""

from typing import Any

from registry.state import Worker


class Unmeasured:
    """In the place of `pipelines.measured.Measured`."""

    def __init__(self) -> None:
        self.worked_at: dict[str, float] = {}

    def look(self, workers: tuple[Worker, ...]) -> None: ...

    def every(self) -> dict[str, tuple[Any, ...]]:
        return {}
