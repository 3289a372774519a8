"""A killed gateway process: whatever comes first, all it had let in becomes one row each."""

import asyncio
import random

import pytest
from usage_world import Process, Registry, segments

from gateway.metering import meter, sweeper
from gateway.metering.entries import read_entries
from registry.usage import UsageStatus


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(meter, "_FLUSH_S", 0.001)
    monkeypatch.setattr(meter, "_PAUSE_S_MAX", 0.002)
    monkeypatch.setattr(meter, "_NOTE_S", 0.001)


@pytest.fixture
def registry():
    return Registry()


@pytest.fixture
def start(registry, tmp_path):
    """Starts gateway processes of one home."""

    def one():
        return Process(registry.record_usage, tmp_path)

    return one


async def test_what_was_closed_is_recorded_as_it_was_and_what_was_open_as_swept(
    registry, start, tmp_path
):
    dead = start()
    registry.away = True
    asked = [dead.ask(f"r{number}") for number in range(4)]
    dead.answer(asked[0], completion_tokens=11)
    dead.answer(asked[1], UsageStatus.ERROR)
    dead.note()
    dead.kill()
    registry.away = False
    heir = start()
    assert await heir.sweep()
    rows = {row.request_id: row for row in registry.rows.values()}
    assert (rows["r0"].status, rows["r0"].completion_tokens) == ("ok", 11)
    assert rows["r1"].status == "error"
    for name in ("r2", "r3"):
        row = rows[name]
        assert (row.status, row.prompt_tokens, row.completion_tokens) == ("swept", 0, 0)
        assert (row.variant, row.mode, row.cost_nano) == ("", "", 0)
        assert (row.model, row.operation, row.key_id) == ("m", "chat.completions", "k")
        assert row.closed_at >= row.opened_at
    assert (heir.counts.swept, segments(tmp_path)) == (2, [])
    await heir.aclose()


async def test_a_living_process_is_left_alone(registry, start, tmp_path):
    living, other = start(), start()
    opened = living.ask()
    assert await other.sweep()
    assert registry.rows == {}
    living.answer(opened)
    await living.aclose()
    assert registry.statuses() == ["ok"]
    await other.aclose()


async def test_an_end_that_was_on_its_way_to_the_journal_makes_a_swept_request(registry, start):
    dead = start()
    dead.answer(dead.ask())
    dead.kill()
    heir = start()
    await heir.sweep()
    assert registry.statuses() == ["swept"]
    await heir.aclose()


async def test_a_row_is_never_there_before_its_end_is_in_the_journal(registry, tmp_path):
    """Else the process's death right then would have the sweeper call it swept, too."""

    async def sink(records):
        on_disk = [
            record
            for path in segments(tmp_path)
            for record in read_entries((tmp_path / path).read_bytes()).closed
        ]
        assert [record for record in records if record not in on_disk] == []
        await registry.record_usage(records)

    process = Process(sink, tmp_path)
    for turn in range(5):
        process.served(20, first=20 * turn, at_once=100)
        await asyncio.sleep(0.005)
    await process.aclose()
    assert len(registry.rows) == 100


async def test_a_torn_last_entry_costs_only_itself(registry, start, tmp_path):
    dead = start()
    for number in range(3):
        dead.ask(f"r{number}")
    dead.kill()
    path = tmp_path / segments(tmp_path)[0]
    path.write_bytes(path.read_bytes().rstrip(b"\0")[:-1])
    heir = start()
    await heir.sweep()
    assert registry.statuses() == ["swept"] * 2
    await heir.aclose()


@pytest.mark.parametrize("how", ["away", "mute"])
async def test_a_sweep_that_fails_is_done_again_and_counts_once(registry, start, tmp_path, how):
    dead = start()
    dead.served(3)
    dead.note()
    dead.ask("open")
    dead.kill()
    heir = start()
    setattr(registry, how, True)
    assert not await heir.sweep()
    assert segments(tmp_path), "not before all of it is recorded"
    setattr(registry, how, False)
    assert await heir.sweep()
    assert registry.statuses() == ["ok"] * 3 + ["swept"]
    assert heir.counts.swept == 1
    await heir.aclose()


async def test_many_sweepers_at_once_do_it_once(registry, start):
    dead = start()
    for number in range(50):
        dead.ask(f"r{number}")
    dead.kill()
    heirs = [start() for _ in range(4)]
    await asyncio.gather(*(heir.sweep() for heir in heirs))
    assert len(registry.rows) == sum(heir.counts.swept for heir in heirs) == 50
    for heir in heirs:
        await heir.aclose()


async def test_one_folder_that_cannot_be_read_does_not_keep_the_others(registry, start, tmp_path):
    dead = [start(), start()]
    for process in dead:
        process.ask()
    for process in dead:
        process.kill()
    bad = tmp_path / "000" / "000000000000"
    bad.mkdir()
    heir = start()
    assert not await heir.sweep()
    assert registry.statuses() == ["swept"]
    bad.rmdir()
    assert await heir.sweep()
    assert registry.statuses() == ["swept", "swept"]
    await heir.aclose()


async def test_it_goes_on_by_itself(registry, start, monkeypatch):
    monkeypatch.setattr(sweeper, "SWEEP_S", 0.01)
    heir, dead = start(), start()
    task = asyncio.create_task(heir.sweep_dead())
    dead.ask()
    dead.kill()
    async with asyncio.timeout(5):
        while registry.statuses() != ["swept"]:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await heir.aclose()


class History:
    """What may happen to the processes of one home, by a seed, and what must be true after it."""

    def __init__(self, seed, start, registry):
        self.dice = random.Random(seed)
        self.start, self.registry = start, registry
        self.living = [start(), start()]
        self.under_way = []  # (process, opened)
        self.ended = {}  # identity: status, for what its process has had time to write
        self.opened = set()
        self.swept = 0

    async def step(self):
        dice, process = self.dice, self.dice.choice(self.living)
        match dice.choice("ooooccccccwwwsfk"):
            case "o":
                opened = process.ask(dice.choice(["same", "same", "other"]))
                assert opened.identity not in self.opened
                self.opened.add(opened.identity)
                self.under_way.append((process, opened))
            case "c" if self.under_way:
                place = dice.randrange(len(self.under_way))
                process, opened = self.under_way.pop(place)
                status = dice.choice([UsageStatus.OK, UsageStatus.ERROR, UsageStatus.CANCELLED])
                process.answer(opened, status)
                self.ended[opened.identity] = (status, process)
            case "w":
                await asyncio.sleep(0.003)
            case "s":
                await process.sweep()
            case "f":
                self.registry.away = dice.random() < 0.4
                self.registry.mute = dice.random() < 0.4
            case "k":
                self._kill(process)

    def _kill(self, process):
        if self.dice.random() < 0.5:
            process.note()
        else:  # what was on its way is not known to have ended
            buffered = len(process._closed)
            mine = [key for key, (_, of) in self.ended.items() if of is process]
            for identity in mine[len(mine) - buffered :]:
                del self.ended[identity]
        self.swept += process._sweeper.swept  # `counts` would note what was closed
        process.kill()
        self.under_way = [pair for pair in self.under_way if pair[0] is not process]
        self.living.remove(process)
        self.living.append(self.start())

    async def heal(self):
        self.registry.away = self.registry.mute = False
        for process, opened in self.under_way:
            process.answer(opened)
            self.ended[opened.identity] = (UsageStatus.OK, process)
        for process in self.living:
            await process.aclose()
            process.check()
            assert process.counts.dropped == 0
        last = self.start()
        assert await last.sweep()
        await last.aclose()
        self.swept += last.counts.swept + sum(each.counts.swept for each in self.living)

    def check(self):
        rows = self.registry.rows
        assert rows.keys() == self.opened, "one row for each that was let in, and no other"
        for identity, (status, _) in self.ended.items():
            assert rows[identity].status == status
        swept = sum(row.status is UsageStatus.SWEPT for row in rows.values())
        assert swept == len(rows) - len(self.ended)
        assert self.swept >= swept, "one that was swept, and then killed, may count it again"


async def test_a_folder_that_is_none_of_ours_is_told_and_keeps_nobody_from_the_others(
    registry, start, tmp_path
):
    (tmp_path / "000").write_text("not a folder")
    dead, heir = start(), start()
    dead.served(3)
    dead.kill()
    assert not await heir.sweep(), "it is told"
    assert len(registry.rows) == 3
    assert not heir.counts.journal_failing
    await heir.aclose()


@pytest.mark.parametrize("seed", range(40))
async def test_whatever_happens_every_request_has_one_row(
    registry, start, tmp_path, monkeypatch, seed
):
    monkeypatch.setattr(meter, "WAITING_MAX", 5)
    monkeypatch.setattr("gateway.metering.journal._CARRY_FROM_SEGMENTS", 2)
    monkeypatch.setattr(
        meter.Journal.__init__,
        "__kwdefaults__",
        {
            **meter.Journal.__init__.__kwdefaults__,
            "segment_bytes": 1_500,
        },
    )
    history = History(seed, start, registry)
    for _ in range(150):
        await history.step()
    await history.heal()
    history.check()
    assert segments(tmp_path) == []
