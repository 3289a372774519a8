"""A journal on disk: what was written is read back, what nobody needs goes, nothing blocks."""

import errno
import os
import struct
import zlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from usage_world import a_record, an_opened, segments

from gateway.metering import journal as journals
from gateway.metering.entries import Closed, Opened, framed, read_entries
from gateway.metering.journal import Journal
from gateway.metering.lane import LANES, Lane, Moments, NoLaneError, used
from registry.usage import UsageStatus

MIB = 2**20
names = st.text(min_size=1, max_size=64)
openeds = st.builds(
    Opened,
    request_id=names,
    key_id=names,
    model=names,
    operation=names,
    opened_at=st.floats(min_value=0, max_value=2**31),
)
closeds = st.builds(
    Closed,
    st.lists(
        st.builds(
            lambda opened, status, tokens: a_record(opened, status, completion_tokens=tokens),
            openeds,
            st.sampled_from(UsageStatus),
            st.integers(0, 2**40),
        ),
        min_size=1,
        max_size=3,
    ),
)
entries = st.lists(st.one_of(openeds, closeds), max_size=6)


# What is read back.


@given(entries, st.data())
def test_whatever_a_crash_cuts_off_all_before_it_is_read_back(written, data):
    frames = [framed(entry) for entry in written]
    whole = b"".join(frames)
    cut = data.draw(st.integers(0, len(whole)))
    kept = 0
    while kept < len(frames) and sum(map(len, frames[: kept + 1])) <= cut:
        kept += 1
    read = read_entries(whole[:cut])
    assert read.entries == written[:kept]
    assert read.torn_bytes == len(whole[sum(map(len, frames[:kept])) : cut].rstrip(b"\0"))
    assert read.unknown == 0


@given(entries.filter(len), st.data())
def test_a_byte_that_changed_is_never_taken_for_what_was_written(written, data):
    frames = [framed(entry) for entry in written]
    whole = bytearray(b"".join(frames))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= data.draw(st.integers(1, 255))
    good = 0
    while sum(map(len, frames[: good + 1])) <= at:
        good += 1
    assert read_entries(bytes(whole)).entries == written[:good]


@given(st.binary(max_size=200))
def test_rubbish_is_read_as_nothing(data):
    assert read_entries(data).entries == []


def test_a_tail_of_zeros_is_what_was_not_used():
    first = framed(an_opened(1))
    read = read_entries(first + bytes(100))
    assert (len(read.entries), read.torn_bytes) == (1, 0)
    read = read_entries(first + bytes(10) + b"x" + bytes(89))
    assert (len(read.entries), read.torn_bytes) == (1, 11)


def test_an_entry_of_a_newer_version_is_counted_and_passed_over():
    newer = msgspec.msgpack.encode(["paused", "r", 1.0])
    frame = struct.pack("<II", len(newer), zlib.crc32(newer)) + newer
    read = read_entries(framed(an_opened(1)) + frame + framed(an_opened(2)))
    assert (len(read.entries), read.unknown, read.torn_bytes) == (2, 1, 0)


# Lanes and moments.


def test_every_process_has_a_lane_of_its_own_and_leaves_those_of_the_dead_alone(tmp_path):
    first, second = Lane.claim(tmp_path), Lane.claim(tmp_path)
    assert (first.number, second.number) == (0, 1)
    (first.folder / "000000000001").write_bytes(b"x")
    first.release()
    third = Lane.claim(tmp_path)
    assert third.number == 2
    assert [folder.name for folder in used(tmp_path)] == ["000"]
    assert Lane.take(second.folder) is None
    for lane in (second, third):
        lane.release()


def test_when_no_lane_is_left_it_says_why(tmp_path, monkeypatch):
    monkeypatch.setattr("gateway.metering.lane.LANE_OF_NONE", 2)
    held = [Lane.claim(tmp_path), Lane.claim(tmp_path)]
    with pytest.raises(NoLaneError, match="all 2 folders"):
        Lane.claim(tmp_path)
    for lane in held:
        lane.release()


def test_no_two_requests_have_one_time_whatever_the_clock_says():
    for now in (1.8e9, 2.0**31 - 1):
        clocks = [iter([now] * 500 + [now - 5, now + 1e-7] * 50) for _ in range(LANES)]
        moments = [Moments(lane, clocks[lane].__next__) for lane in range(LANES)]
        times = [each.now() for each in moments for _ in range(600)]
        assert len(set(times)) == len(times) == 600 * LANES
        assert all(abs(time - now) < 1 for time in times)


# Segments.


class Ticks:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Ticks()


@pytest.fixture
def journal(tmp_path, clock):
    made = Journal(
        Lane.claim(tmp_path),
        bytes_max=MIB,
        segment_bytes=2_000,
        clock=clock,
    )
    yield made
    made.end()


def served(journal, number, *, recorded=True):
    opened = an_opened(number)
    journal.open(opened)
    segment, left = journal.close([a_record(opened)])
    assert left == []
    segment.unrecorded += not recorded
    return segment


def on_disk(tmp_path):
    return [
        entry
        for path in sorted(tmp_path.glob("000/0*"))
        for entry in read_entries(path.read_bytes()).entries
    ]


def test_what_it_was_told_is_on_disk_at_once_and_for_its_owner_alone(journal, tmp_path):
    first, second = an_opened(1), an_opened(2)
    journal.open(first)
    assert on_disk(tmp_path) == [first]
    journal.open(second)
    ends = [a_record(first), a_record(second)]
    journal.close(ends)
    assert on_disk(tmp_path) == [first, second, Closed(ends)]
    assert (tmp_path / "000/000000000001").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "000").stat().st_mode & 0o777 == 0o700


def test_a_segment_goes_once_all_in_it_is_closed_and_recorded(journal, tmp_path):
    waits = served(journal, 0, recorded=False)
    for number in range(1, 60):
        served(journal, number)
    assert len(segments(tmp_path)) > 3
    assert journal.disposable() == [], "the oldest has what is not recorded"
    waits.unrecorded -= 1
    gone = journal.disposable()
    assert [str(path.relative_to(tmp_path)) for path in gone] == segments(tmp_path)[: len(gone)]
    assert len(gone) >= len(segments(tmp_path)) - 1
    journals.remove(gone)


def test_long_requests_do_not_hold_on_to_all_that_came_after_them(journal, tmp_path):
    long = [an_opened(number) for number in (1_000, 2_000)]
    for opened in long:
        journal.open(opened)
    seen = 0
    for number in range(300):
        served(journal, number)
        journals.remove(journal.disposable())
        seen = max(seen, len(segments(tmp_path)))
        opened = [entry for entry in on_disk(tmp_path) if isinstance(entry, Opened)]
        assert {entry.request_id for entry in opened} >= {"r1000", "r2000"}
    assert seen <= 17
    journal.close([a_record(opened) for opened in long])


def test_where_little_room_is_allowed_long_requests_do_not_use_it_up(tmp_path, clock):
    journal = Journal(Lane.claim(tmp_path), bytes_max=8_000, segment_bytes=2_000, clock=clock)
    journal.open(an_opened(1_000))
    for number in range(300):
        served(journal, number)
        journals.remove(journal.disposable())
        assert not journal.failing
    assert "r1000" in {entry.request_id for entry in on_disk(tmp_path) if isinstance(entry, Opened)}
    journal.close([a_record(an_opened(1_000))])
    journal.end()


def test_many_open_requests_are_not_written_anew_for_ever(journal, tmp_path):
    opened = [an_opened(number) for number in range(500)]
    for each in opened:
        journal.open(each)
    before = segments(tmp_path)
    assert journal.disposable() == []
    assert segments(tmp_path) == before
    journal.close([a_record(each) for each in opened])


def test_at_its_end_it_leaves_only_what_is_not_in_the_registry(tmp_path, clock):
    for recorded in (True, False):
        journal = Journal(Lane.claim(tmp_path), bytes_max=MIB, clock=clock)
        served(journal, 1, recorded=recorded)
        journal.end()
        assert bool(segments(tmp_path)) is not recorded
        assert len(on_disk(tmp_path)) == (0 if recorded else 2)


# What the disk does not take.


def test_what_is_opened_beyond_the_bound_is_not_in_it_but_what_was_is_closed(tmp_path, clock):
    journal = Journal(Lane.claim(tmp_path), bytes_max=5_000, segment_bytes=2_000, clock=clock)
    taken = [an_opened(number) for number in range(300)]
    for each in taken:
        journal.open(each)
    assert journal.failing
    inside = [entry.request_id for entry in on_disk(tmp_path)]
    assert 50 < len(inside) < 250
    ends = [a_record(each) for each in taken]
    segment, left = journal.close(ends)
    assert segment is not None
    assert left == ends[len(inside) :]
    journal.seal(segment)
    journals.remove(journal.disposable())
    journal.open(an_opened(500))
    assert not journal.failing, "what was recorded has made room"
    journal.close([a_record(an_opened(500))])
    journal.end()


class Disk:
    """Stands for `os`: no file gets room, as *fault* says."""

    fault = ""

    def __getattr__(self, name):
        return getattr(os, name)

    def open(self, *arguments):
        if self.fault == "open":
            raise OSError(errno.EMFILE, "Too many open files")
        return os.open(*arguments)

    def posix_fallocate(self, file, *room):
        if self.fault == "room":
            raise OSError(errno.ENOSPC, "No space left on device")
        os.posix_fallocate(file, *room)


@pytest.mark.parametrize("fault", ["open", "room"])
def test_a_disk_that_takes_nothing_stops_nobody_and_spoils_nothing(
    journal, tmp_path, clock, monkeypatch, fault
):
    disk = Disk()
    monkeypatch.setattr(journals, "os", disk)
    before = [an_opened(number) for number in range(5)]
    for each in before:
        journal.open(each)
    disk.fault = fault
    during = [an_opened(number) for number in range(10, 100)]
    for each in during:
        journal.open(each)
    assert journal.failing
    inside = [entry.request_id for entry in on_disk(tmp_path)]
    assert len(before) < len(inside) < 80, "what was reserved is used up"
    ends = [a_record(each) for each in before]
    assert journal.close(ends) == (None, ends)
    disk.fault = ""
    clock.now += 0.5
    journal.open(an_opened(200))
    assert journal.failing, "it does not try at every request anew"
    clock.now += 1
    journal.open(an_opened(201))
    assert not journal.failing
    assert [entry.request_id for entry in on_disk(tmp_path)] == [*inside, "r201"]
    journal.close([a_record(each) for each in [*during, an_opened(201)]])


def test_a_full_journal_that_is_all_recorded_begins_anew(tmp_path, clock):
    journal = Journal(Lane.claim(tmp_path), bytes_max=2_000, segment_bytes=2_000, clock=clock)
    for number in range(200):
        opened = an_opened(number)
        journal.open(opened)
        segment, left = journal.close([a_record(opened)])
        assert segment is not None or left
        journals.remove(journal.disposable())
    assert len(segments(tmp_path)) <= 1
    journal.open(an_opened(500))
    assert not journal.failing
    journal.close([a_record(an_opened(500))])
    journal.end()


def test_a_chunk_that_is_larger_than_a_segment_gets_one_of_its_size(journal, tmp_path):
    opened = [an_opened(number) for number in range(20)]
    for each in opened:
        journal.open(each)
    segment, left = journal.close([a_record(each) for each in opened])
    assert (left, segment.bytes) == ([], segment.used)
    assert len(on_disk(tmp_path)) == 21
