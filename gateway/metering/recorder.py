"""A batch of usage into the registry, and word of it to whoever counts money."""

from collections.abc import Awaitable, Callable, Mapping, Sequence

import structlog

from registry.state import UsageRecord

# Writes all of them or raises; a record that is there already is not written again.
Sink = Callable[[Sequence[UsageRecord]], Awaitable[object]]
# Called after a batch is in the registry, with what it cost by key id, in nanos (0 included): the
# registry's sums of these keys have moved. It may be called again for a batch of unknown outcome,
# so read the sums and do not add these up. What it raises is logged, and the batch stays written.
Recorded = Callable[[Mapping[str, int]], Awaitable[None]]

BATCH_MAX = 2_000

_log = structlog.get_logger("gateway.metering")


class Recorder:
    """``await recorder(records)`` raises what *sink* raises: then nothing is known of the batch,
    and it must be given again.
    """

    def __init__(self, sink: Sink, recorded: Recorded | None = None) -> None:
        self._sink = sink
        self._recorded = recorded

    async def __call__(self, records: Sequence[UsageRecord]) -> None:
        await self._sink(records)
        if self._recorded is None:
            return
        costs: dict[str, int] = {}
        for record in records:
            costs[record.key_id] = costs.get(record.key_id, 0) + record.cost_nano
        try:
            await self._recorded(costs)
        except Exception as error:  # noqa: BLE001 - the usage is written, whatever they make of it
            _log.warning("usage-recorded-unheard", error=str(error)[:200])

    async def in_batches(self, records: Sequence[UsageRecord]) -> None:
        for start in range(0, len(records), BATCH_MAX):
            await self(records[start : start + BATCH_MAX])
