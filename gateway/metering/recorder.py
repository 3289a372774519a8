"""Usage into the registry, in batches that it can take."""

from collections.abc import Awaitable, Callable, Sequence

from registry.usage import UsageRecord

# Writes all of them or raises; a record that is there already is not written again.
Sink = Callable[[Sequence[UsageRecord]], Awaitable[object]]

BATCH_MAX = 2_000


async def record_all(sink: Sink, records: Sequence[UsageRecord]) -> None:
    """Raises what *sink* raises: then nothing is known of the last batch, and all must be given
    again.
    """
    for start in range(0, len(records), BATCH_MAX):
        await sink(records[start : start + BATCH_MAX])
