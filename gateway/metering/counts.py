"""The numbers of usage, which must add up, and their form for Prometheus."""

from collections.abc import Callable, Iterable

import msgspec
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from registry.usage import UsageStatus


class UsageCounts(msgspec.Struct, kw_only=True):
    """Of this process: its own requests, but for *swept*, which were those of dead ones."""

    opened: int = 0
    closed: dict[UsageStatus, int] = msgspec.field(default_factory=dict)
    recorded: int = 0  # closed, and in the registry
    dropped: int = 0  # closed, and lost: neither memory nor disk had room for them
    waiting: int = 0  # closed, and not yet in the registry
    swept: int = 0
    journal_failing: bool = False  # what is open now would be lost if this process were killed

    @property
    def open(self) -> int:
        """Requests under way."""
        return self.opened - sum(self.closed.values())

    @property
    def unaccounted(self) -> int:
        """0, or there is a bug: opened = open + recorded + waiting + dropped."""
        return self.opened - self.open - self.recorded - self.waiting - self.dropped


class UsageCollector(Collector):
    def __init__(self, read: Callable[[], UsageCounts]) -> None:
        self._read = read

    def collect(self) -> Iterable[Metric]:
        counts = self._read()
        closed = CounterMetricFamily(
            "modelyard_usage_closed", "Requests that have ended, by how.", labels=("status",)
        )
        for status in (UsageStatus.OK, UsageStatus.ERROR, UsageStatus.CANCELLED):
            closed.add_metric((status,), counts.closed.get(status, 0))
        yield closed
        for kind, name, text, value in (
            (CounterMetricFamily, "opened", "Requests that were let in.", counts.opened),
            (
                CounterMetricFamily,
                "swept",
                "Requests whose gateway process was killed under them, recorded as such.",
                counts.swept,
            ),
            (
                CounterMetricFamily,
                "records_dropped",
                "Usage records lost: the registry took none for too long.",
                counts.dropped,
            ),
            (GaugeMetricFamily, "open", "Requests under way.", counts.open),
            (
                GaugeMetricFamily,
                "waiting",
                "Ended requests that are not in the registry yet.",
                counts.waiting,
            ),
            (
                GaugeMetricFamily,
                "journal_failing",
                "Processes whose usage would not survive their being killed.",
                int(counts.journal_failing),
            ),
        ):
            yield kind(f"modelyard_usage_{name}", text, value=value)
