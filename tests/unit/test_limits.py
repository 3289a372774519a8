"""What limits let in, and what they say to whom they don't."""

import asyncio
import errno
import fcntl
import gc
import os

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from limits_world import Clock, Process, a_limited, a_row, tokens

from gateway.errors import LimitsUnavailableError, OverLimitError, RateLimitError
from gateway.limits import Ledger, LedgerError, Limiter, estimate
from gateway.limits import ledger as ledgers
from gateway.limits.remaining import duration
from gateway.limits.shortage import money
from gateway.limits.window import room_in_s
from registry.spec import Price
from registry.state import NANO, BudgetPeriod

FREE = a_row()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run" / "limits.ledger"


@pytest.fixture
def process(clock):
    return Process(clock)


# Windows.


def test_of_a_burst_exactly_the_limit_is_let_in(process):
    assert len(process.many(a_limited(requests_per_minute=60), FREE, 300)) == 60


def test_two_processes_let_in_the_limit_together(clock, path):
    key, pair = a_limited(requests_per_minute=10), [Process(clock, path) for _ in range(2)]
    admitted = [len(pair[turn % 2].many(key, FREE, 1)) for turn in range(30)]
    assert sum(admitted) == 10


def test_retry_after_is_when_the_next_one_is_let_in_and_not_a_second_sooner(process, clock):
    key = a_limited(requests_per_minute=2)
    process.admit(key, FREE)
    clock.move(7.25)
    process.admit(key, FREE)
    clock.move(20.5)
    refused = process.refusal(key, FREE)
    assert (refused.status, refused.code) == (429, "requests_per_minute")
    wait_s = int(refused.headers["retry-after"])
    clock.move(wait_s - 1)
    assert int(process.refusal(key, FREE).headers["retry-after"]) == 1
    clock.move(1)
    process.admit(key, FREE)


def test_room_for_many_tokens_comes_when_enough_have_left(process, clock):
    key = a_limited(tokens_per_minute=100)
    for _ in range(5):
        process.admit(key, FREE, tokens(10, 10))
        clock.move(5)
    refused = process.refusal(key, FREE, tokens(20, 40))
    assert (refused.code, refused.headers["retry-after"]) == ("tokens_per_minute", "46")
    clock.move(46)
    process.admit(key, FREE, tokens(20, 40))


@given(
    counts=st.lists(st.integers(0, 3), min_size=61, max_size=61),
    second=st.integers(0, 10_000),
    excess=st.integers(1, 200),
)
def test_the_wait_is_as_long_as_it_must_be(counts, second, excess):
    wait_s = room_in_s(counts, second, float(second), excess)
    left = {second - age: counts[(second - age) % 61] for age in range(61)}

    def gone_after(seconds):
        return sum(count for at, count in left.items() if at + 61 <= second + seconds)

    if sum(counts) >= excess:
        assert gone_after(wait_s) >= excess > gone_after(wait_s - 1)
    else:
        assert wait_s == 61


def test_what_an_answer_came_to_takes_the_place_of_the_estimate(process, clock):
    key = a_limited(tokens_per_minute=100)
    permit = process.admit(key, FREE, tokens(10, 90))
    process.refusal(key, FREE)
    permit.settle(30, 0)
    process.admit(key, FREE, tokens(10, 60))
    process.refusal(key, FREE, tokens(1, 0))
    clock.move(61)
    process.admit(key, FREE, tokens(10, 90))


def test_tokens_above_the_estimate_of_a_request_longer_than_the_window_count_now(process, clock):
    key = a_limited(tokens_per_minute=100)
    long, short = (process.admit(key, FREE, tokens(10, 30)) for _ in range(2))
    clock.move(70)
    long.settle(90, 0)
    short.settle(5, 0)
    process.refusal(key, FREE, tokens(51, 0))
    process.admit(key, FREE, tokens(50, 0))


def test_a_request_that_can_never_fit_is_told_so(process):
    error = process.refusal(a_limited(tokens_per_minute=100), FREE, tokens(60, 41))
    assert isinstance(error, OverLimitError)
    assert (error.status, error.code, error.param) == (400, "tokens_per_minute", "max_tokens")
    assert "asks for up to 101" in error.message
    assert "retry-after" not in error.headers


def test_a_limit_below_the_assumed_answer_shuts_nobody_out(process):
    key, open_ended = a_limited(tokens_per_minute=100), tokens(60, 512, assumed=True)
    process.admit(key, FREE, open_ended).settle(70, 0)
    assert process.refusal(key, FREE, open_ended).status == 429
    never = process.refusal(key, FREE, tokens(101, 512, assumed=True))
    assert never.status == 400


# In flight.


def test_at_once_there_are_never_more_and_each_end_makes_room_for_one(clock, path):
    key, pair = a_limited(in_flight=3), [Process(clock, path) for _ in range(2)]
    permits = pair[0].many(key, FREE, 2) + pair[1].many(key, FREE, 2)
    assert len(permits) == 3
    refused = pair[0].refusal(key, FREE)
    assert (refused.code, refused.headers["retry-after"]) == ("in_flight", "1")
    permits[0].settle(1, 0)
    permits[0].settle(1, 0)  # again: nothing
    assert len(pair[1].many(key, FREE, 5)) == 1


def test_what_a_killed_process_had_under_way_is_free_again(clock, path):
    key, model = a_limited(in_flight=3, budget_nano=3000), a_row(price=(0, 1), in_flight=3)
    dead, alive = Process(clock, path), Process(clock, path)
    assert len(dead.many(key, model, 3, tokens(9, 1))) == 3
    assert alive.refusal(key, model, tokens(9, 1)).code == "in_flight"
    dead.die()
    clock.move(0.1)
    assert len(alive.many(key, model, 5, tokens(9, 1))) == 3


def test_a_process_begins_with_nothing_under_way_in_the_column_of_a_dead_one(clock, path):
    key = a_limited(in_flight=1)
    dead = Process(clock, path)
    dead.admit(key, FREE)
    dead.die()
    heir = Process(clock, path)
    assert heir.ledger.column == 0
    heir.admit(key, FREE)


# All or nothing.


def test_a_refusal_by_one_side_leaves_no_trace_at_the_other(process):
    key, model = a_limited(requests_per_minute=5, in_flight=5), a_row(requests_per_minute=1)
    process.admit(key, model)
    for _ in range(20):
        assert "model 'm'" in process.refusal(key, model).message
    assert len(process.many(key, a_row("other"), 10)) == 4


def test_a_model_is_limited_over_all_its_keys(process):
    model = a_row(in_flight=2, requests_per_minute=100)
    admitted = [process.many(a_limited(name, in_flight=9), model, 2) for name in ("a", "b", "c")]
    assert [len(each) for each in admitted] == [2, 0, 0]


def test_of_several_limits_the_one_that_lasts_longest_is_told(process, clock):
    key = a_limited(requests_per_minute=1, in_flight=1)
    process.admit(key, FREE)
    refused = process.refusal(key, FREE)
    assert (refused.code, refused.headers["retry-after"]) == ("requests_per_minute", "61")


# Budgets.

PRICED = a_row(price=(1000, 1000))  # 0.001 a token
TOKEN = NANO // 1000


def test_a_budget_is_exact_to_the_request(clock, path):
    key, pair = a_limited(budget_nano=100 * TOKEN), [Process(clock, path) for _ in range(2)]
    served = 0
    for turn in range(30):
        for permit in pair[turn % 2].many(key, PRICED, 1, tokens(5, 5)):
            permit.settle(8, 8 * TOKEN)
            served += 1
    assert served == 12  # 96 spent; a 13th may cost 10
    refused = pair[0].refusal(key, PRICED, tokens(5, 5))
    assert (refused.status, refused.type) == (429, "insufficient_quota")
    assert (refused.code, refused.reason) == ("insufficient_quota", "budget")
    assert refused.headers["x-should-retry"] == "false"
    assert "spent 0.096 of its budget of 0.1" in refused.message
    assert len(pair[1].many(key, PRICED, 1, tokens(2, 2))) == 1


def test_what_requests_under_way_may_cost_is_set_aside(process):
    key = a_limited(budget_nano=100 * TOKEN)
    permits = process.many(key, PRICED, 20, tokens(10, 10))
    assert len(permits) == 5
    refused = process.refusal(key, PRICED, tokens(10, 10))
    assert (refused.code, refused.headers["retry-after"]) == ("insufficient_quota", "1")
    assert "x-should-retry" not in refused.headers
    for permit in permits:
        permit.settle(12, 12 * TOKEN)
    assert len(process.many(key, PRICED, 20, tokens(10, 10))) == 2


def test_what_costs_nothing_needs_no_budget(process):
    key = a_limited(budget_nano=TOKEN)
    process.admit(key, PRICED, tokens(1, 0)).settle(5, 5 * TOKEN)
    process.refusal(key, PRICED, tokens(1, 0))
    process.admit(key, FREE)


@pytest.mark.parametrize(
    ("period", "days"), [(BudgetPeriod.DAY, 0.5), (BudgetPeriod.MONTH, 5.5)], ids=str
)
def test_a_budget_starts_anew_with_its_period(process, clock, period, days):
    key = a_limited(budget_nano=TOKEN, budget_period=period)
    process.admit(key, PRICED, tokens(1, 0)).settle(1, TOKEN)
    refused = process.refusal(key, PRICED, tokens(1, 0))
    assert refused.headers["retry-after"] == str(int(days * 86_400))
    clock.move(days * 86_400 - 1)
    process.refusal(key, PRICED, tokens(1, 0))
    clock.move(1)
    process.admit(key, PRICED, tokens(1, 0))


def test_a_total_budget_never_starts_anew(process, clock):
    key = a_limited(budget_nano=TOKEN, budget_period=BudgetPeriod.TOTAL)
    process.admit(key, PRICED, tokens(1, 0)).settle(1, TOKEN)
    clock.move(400 * 86_400)
    assert "retry-after" not in process.refusal(key, PRICED, tokens(1, 0)).headers


def spent(key, nano):
    return msgspec.structs.replace(key, spent_nano=nano)


def test_what_the_registry_knows_of_counts_and_never_lowers_what_is_known_here(process):
    key = a_limited(budget_nano=10 * TOKEN)
    assert len(process.many(spent(key, 8 * TOKEN), PRICED, 10, tokens(1, 0))) == 2
    assert len(process.many(spent(key, 3 * TOKEN), PRICED, 10, tokens(1, 0))) == 0


def test_yesterdays_spending_read_at_midnight_is_not_todays(process, clock):
    key = a_limited(budget_nano=TOKEN, budget_period=BudgetPeriod.DAY)
    clock.move(43_200 + 2)
    process.limiter.spending_read()
    process.admit(spent(key, TOKEN), PRICED, tokens(1, 0)).settle(0, 0)
    clock.move(10)
    process.limiter.spending_read()
    process.refusal(spent(key, TOKEN), PRICED, tokens(1, 0))


def test_a_clock_set_back_over_midnight_does_not_give_the_day_before_again(path, clock):
    key = a_limited(budget_nano=TOKEN, budget_period=BudgetPeriod.DAY)
    Process(clock, path).admit(key, PRICED, tokens(1, 0)).settle(1, TOKEN)
    clock.move(-86_400)
    Process(clock, path).refusal(key, PRICED, tokens(1, 0))


@pytest.mark.parametrize("period", [BudgetPeriod.DAY, BudgetPeriod.MONTH], ids=str)
def test_a_clock_that_was_far_ahead_for_a_while_leaves_budgets_as_they_are(process, clock, period):
    key = a_limited(budget_nano=5 * TOKEN, budget_period=period)
    clock.move(400 * 86_400)
    process.admit(key, PRICED, tokens(1, 0)).settle(1, TOKEN)
    clock.move(-400 * 86_400)
    process.limiter.spending_read()
    assert len(process.many(spent(key, 3 * TOKEN), PRICED, 9, tokens(1, 0))) == 2


def test_a_request_of_the_period_before_takes_nothing_back_from_the_one_of_now(process):
    days = a_limited(budget_nano=10 * TOKEN, budget_period=BudgetPeriod.DAY)
    months = a_limited(budget_nano=10 * TOKEN, budget_period=BudgetPeriod.MONTH)
    begun = process.admit(months, PRICED, tokens(1, 0))
    process.admit(days, PRICED, tokens(1, 0)).settle(8, 8 * TOKEN)
    begun.settle(1, TOKEN)
    assert len(process.many(days, PRICED, 5, tokens(1, 0))) == 1


# What clients are told.


def test_a_refusal_calls_a_key_by_the_name_it_has_now(process):
    key = a_limited(requests_per_minute=1)
    process.admit(key, FREE)
    renamed = msgspec.structs.replace(key, name="bob")
    assert "'bob'" in str(process.refusal(renamed, FREE))


def test_headers_tell_of_the_tighter_limit(process, clock):
    key, model = (
        a_limited(requests_per_minute=10, tokens_per_minute=1000),
        a_row(requests_per_minute=3),
    )
    head = process.admit(key, model, tokens(20, 30)).head.decode().split("\r\n")
    assert head == [
        "x-ratelimit-limit-requests: 3",
        "x-ratelimit-remaining-requests: 2",
        "x-ratelimit-reset-requests: 1m1s",
        "x-ratelimit-limit-tokens: 1000",
        "x-ratelimit-remaining-tokens: 950",
        "x-ratelimit-reset-tokens: 1m1s",
        "",
    ]
    process.many(key, model, 2)
    clock.move(11)
    headers = process.refusal(key, model).headers
    assert headers["retry-after"] == "50"
    assert headers["x-ratelimit-remaining-requests"] == "0"
    assert headers["x-ratelimit-reset-requests"] == "50s"


def test_amounts_and_durations_are_short_and_exact():
    assert [money(n) for n in (0, NANO, NANO // 4, 3 * NANO + 1)] == [
        "0",
        "1",
        "0.25",
        "3.000000001",
    ]
    assert [duration(s) for s in (0.02, 1, 59.2, 61, 360)] == ["20ms", "1s", "1m0s", "1m1s", "6m0s"]


def test_an_estimate_is_what_the_client_asks_for():
    assert estimate(b"", 10, 7) == (10, 7, False)
    assert estimate(b"", 10, 0) == (10, 0, False)
    assert estimate(b"", 10, None) == (10, 512, True)
    assert estimate(b"", 10, None, answers=2) == (10, 1024, True)
    assert tokens(4, 6, assumed=True).cost_within(3000, Price(input=1, output=1)) == 4000


def test_an_image_is_not_counted_by_its_bytes():
    url = b"data:image/png;base64," + b"iVBORw0KGgo" * 100_000
    prompt = b'[{"content":[{"image_url":{"url":"%b"}},{"text":"What is it?"}]}]' % url
    wanted = estimate(prompt, len(prompt) // 4, 7)
    assert 1000 < wanted.prompt_tokens < 1050


def test_a_request_leaves_nothing_to_the_garbage_collector(process):
    key, model = a_limited(requests_per_minute=99, budget_nano=NANO), a_row(in_flight=9)
    process.admit(key, model).settle(1, 1)
    gc.collect()
    gc.disable()
    try:
        for _ in range(5):
            process.admit(key, model).settle(1, 1)
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        ours = [o for o in gc.garbage if type(o).__module__.startswith("gateway.limits")]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert not ours


# The file.


def test_the_file_is_ours_alone_and_small_on_disk(clock, path):
    process = Process(clock, path)
    process.admit(a_limited(in_flight=1), FREE)
    stat = path.stat()
    assert stat.st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert stat.st_blocks * 512 < 4 * 2**20


def test_a_process_that_comes_later_finds_what_others_have_used(clock, path):
    key = a_limited(requests_per_minute=5)
    first = Process(clock, path)
    first.many(key, FREE, 3)
    first.limiter.close()
    assert len(Process(clock, path).many(key, FREE, 9)) == 2


def test_after_another_boot_it_is_empty(clock, path, monkeypatch):
    key = a_limited(requests_per_minute=5, in_flight=5)
    before = Process(clock, path)
    before.many(key, FREE, 5)
    before.die()
    monkeypatch.setattr(ledgers, "_boot", lambda: (1, 2))
    assert len(Process(clock, path).many(key, FREE, 9)) == 5


def test_a_removed_file_is_begun_anew_with_what_is_under_way(clock, path):
    key, pair = a_limited(in_flight=2), [Process(clock, path) for _ in range(2)]
    (under_way,) = pair[0].many(key, FREE, 1)
    path.unlink()
    for process in pair:
        process.limiter.check()
    (second,) = pair[1].many(key, FREE, 5)
    pair[0].refusal(key, FREE)
    under_way.settle(1, 0)
    assert len(pair[1].many(key, FREE, 5)) == 1
    second.settle(1, 0)


def test_what_is_no_ledger_is_refused_with_what_to_do(path):
    path.parent.mkdir()
    path.write_text("hello")
    with pytest.raises(LedgerError, match="stop the gateways and remove it"):
        Ledger.open(path)


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(LedgerError, match="MODELYARD_HOME"):
        Ledger.open(tmp_path / "file" / "limits.ledger")


def test_a_full_disk_is_told_at_the_start_and_lets_nobody_in_later(clock, path, monkeypatch):
    process = Process(clock, path)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(LedgerError, match="No space left"):
        Ledger.open(path)
    assert isinstance(process.refusal(a_limited(in_flight=1), FREE), LimitsUnavailableError)


def test_a_full_table_lets_nobody_new_in_until_a_row_is_idle(process, clock, monkeypatch):
    monkeypatch.setattr(ledgers, "_SETS", 1)
    keys = [a_limited(f"k{n}", in_flight=1, budget_nano=n % 2 * NANO) for n in range(25)]
    permits = [process.admit(key, FREE) for key in keys[:16]]
    assert isinstance(process.refusal(keys[16], FREE), LimitsUnavailableError)
    for permit in permits[1:]:
        permit.settle(1, 0)
    clock.move(62)
    assert len([key for key in keys[16:] if process.many(key, FREE, 1)]) == 7
    process.refusal(keys[0], FREE)  # still under way: its row is its own
    clock.move(601)
    assert process.admit(keys[24], FREE), "what it had spent is in the registry"


def test_no_more_processes_than_columns(clock, path, monkeypatch):
    monkeypatch.setattr(ledgers, "COLUMNS", 2)
    held = [Process(clock, path) for _ in range(2)]
    with pytest.raises(LedgerError, match="2 gateway processes"):
        Ledger.open(path)
    held[0].die()
    Process(clock, path)


# A process that is stopped in the midst.


class Stopped:
    """Holds the ledger's lock, as one does that got SIGSTOP there."""

    def __init__(self, path):
        self._fd = os.open(path, os.O_RDWR)

    def __enter__(self):
        fcntl.flock(self._fd, fcntl.LOCK_EX)

    def __exit__(self, *_):
        os.close(self._fd)


async def test_who_is_stopped_in_the_midst_does_not_stop_the_others(path):
    limiter = Limiter(Ledger.open(path))
    key = a_limited(in_flight=1)
    permit = await limiter.admit(key, FREE, tokens())
    loop = asyncio.get_running_loop()
    with Stopped(path):
        beat = asyncio.create_task(_longest_gap())
        began = loop.time()
        permit.settle(1, 0)
        with pytest.raises(LimitsUnavailableError) as refused:
            await limiter.admit(key, FREE, tokens())
        assert 0.9 < loop.time() - began < 5
        assert refused.value.headers["retry-after"] == "1"
        beat.cancel()
        assert await beat < 0.5
    await asyncio.sleep(0.1)
    await limiter.admit(key, FREE, tokens())  # what ended meanwhile has been settled
    with pytest.raises(RateLimitError):
        await limiter.admit(key, FREE, tokens())
    limiter.close()


async def test_a_lock_held_for_a_moment_is_waited_for(path):
    limiter = Limiter(Ledger.open(path))
    stopped = Stopped(path)
    stopped.__enter__()
    asyncio.get_running_loop().call_later(0.1, stopped.__exit__)
    await limiter.admit(a_limited(in_flight=1), FREE, tokens())
    limiter.close()


async def _longest_gap():
    """How long this event loop did not turn, until cancelled."""
    loop, longest = asyncio.get_running_loop(), 0.0
    try:
        while True:
            before = loop.time()
            await asyncio.sleep(0.005)
            longest = max(longest, loop.time() - before)
    except asyncio.CancelledError:
        return longest
