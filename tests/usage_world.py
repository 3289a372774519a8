"""A home's usage folder, a registry that may be away, and gateway processes that may be killed."""

import asyncio

import msgspec

from gateway.metering import Metering, Opened
from registry.usage import UsageRecord, UsageStatus


def a_record(opened: Opened, status=UsageStatus.OK, **changes) -> UsageRecord:
    record = UsageRecord(
        request_id=opened.request_id,
        key_id=opened.key_id,
        model=opened.model,
        variant="default",
        revision=1,
        mode="aggregated",
        status=status,
        prompt_tokens=3,
        completion_tokens=5,
        opened_at=opened.opened_at,
        closed_at=opened.opened_at + 1,
        operation=opened.operation,
        cost_nano=7,
    )
    return msgspec.structs.replace(record, **changes)


def an_opened(number=0, **changes) -> Opened:
    facts = {
        "request_id": f"r{number}",
        "key_id": "k",
        "model": "m",
        "operation": "completions",
        "opened_at": float(number),
    }
    return Opened(**(facts | changes))


class AwayError(Exception):
    pass


class Registry:
    """What `Store.record_usage` promises. *away* writes nothing; *mute* writes, and then fails as
    when the connection breaks off after the commit.
    """

    def __init__(self):
        self.rows: dict[tuple, UsageRecord] = {}
        self.batches: list[int] = []
        self.away = self.mute = False

    async def record_usage(self, records):
        await asyncio.sleep(0)
        if self.away:
            raise AwayError
        for record in records:
            self.rows.setdefault((record.request_id, record.key_id, record.opened_at), record)
        self.batches.append(len(records))
        await asyncio.sleep(0)
        if self.mute:
            raise AwayError

    def statuses(self) -> list[str]:
        return sorted(record.status for record in self.rows.values())


class Process(Metering):
    """The metering of one gateway process, which can be killed."""

    def ask(self, request_id="r", *, key_id="k") -> Opened:
        return self.open(
            request_id=request_id, key_id=key_id, model="m", operation="chat.completions"
        )

    def answer(self, opened: Opened, status=UsageStatus.OK, **changes) -> None:
        self.close(a_record(opened, status, **changes))

    def served(self, count: int, *, first=0, at_once=5) -> None:
        for number in range(first, first + count):
            self.answer(self.ask(f"r{number}"))
            if not (number + 1) % at_once:
                self.note()
        self.note()

    def note(self) -> None:
        """As the timer does, a moment after a request's end."""
        self._note()

    def kill(self) -> None:
        """As SIGKILL: nothing more is written, and the kernel closes what was open."""
        if self._writer is not None:
            self._writer.cancel()
        if self._timer is not None:
            self._timer.cancel()
        journal = self._journal
        assert journal is not None
        if journal._map is not None:
            journal._map.close()
        journal._lane.release()

    async def sweep(self) -> bool:
        return await self._sweeper.sweep()

    def check(self) -> None:
        counts = self.counts
        assert counts.unaccounted == 0, counts


def segments(home) -> list[str]:
    return sorted(str(path.relative_to(home)) for path in home.glob("*/[0-9]*"))
