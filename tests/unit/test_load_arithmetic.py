"""The benchmark's own arithmetic: a wrong figure would be believed."""

import math
import os
import time

import msgspec
import pytest
from load import processes
from load.arithmetic import (
    Verdict,
    bucket_quantile,
    median,
    merged,
    percentile,
    ratio,
    slope_per_min,
)
from load.client import DONE, Check, Load, Slot, Tally
from load.scenarios import SCENARIOS, Sample, Samples, verdicts
from load.targets import DIRECT, MODELYARD

TOKEN = b'data: {"choices":[]}\n\n'
WHOLE = TOKEN * 3 + DONE


def test_a_percentile_is_one_of_the_values_and_has_that_share_below_it():
    values = list(range(100, 0, -1))

    assert [percentile(values, share) for share in (50, 99, 100)] == [50, 99, 100]
    assert percentile([1, 2, 3], 50) == 2
    assert percentile([7.0], 1) == 7.0
    assert math.isnan(percentile([], 50))


def test_a_median_with_an_unknown_value_is_unknown():
    assert median([3, 1, 2]) == 2
    assert math.isnan(median([1, math.nan, 2]))
    assert math.isnan(median([]))


@pytest.mark.parametrize(
    ("ours", "theirs", "met"), [(1.2, 1.0, True), (1.21, 1.0, False), (1, 0, None), (1, -1, None)]
)
def test_a_ratio_is_met_up_to_its_target_and_without_a_cost_to_compare_not_measured(
    ours, theirs, met
):
    assert Verdict(what="", ratio=ratio(ours, theirs), at_most=1.2).met is met


def test_the_slope_is_of_the_second_half():
    rising_first = [(second, min(second, 50)) for second in range(100)]

    assert slope_per_min(rising_first) == pytest.approx(0)
    assert slope_per_min([(second, 0.5 * second) for second in range(100)]) == pytest.approx(30)
    assert math.isnan(slope_per_min([(1.0, 5.0)]))


def test_a_quantile_of_buckets_lies_inside_the_bucket_that_holds_it():
    buckets = {0.001: 90.0, 0.01: 98.0, 0.1: 100.0, math.inf: 100.0}

    assert bucket_quantile(buckets, 0.5) < 0.001
    assert bucket_quantile(buckets, 0.99) == pytest.approx(0.055)
    assert bucket_quantile({0.1: 0.0, math.inf: 10.0}, 0.99) == 0.1
    assert math.isnan(bucket_quantile({}, 0.99))


def test_tallies_of_processes_that_ran_at_once_add_up_but_for_the_time():
    one = Tally(good=1, tokens=5, wall_s=2.0, errors={"cut off": 1}, gaps={3: 1}, first_s=[0.1])
    two = Tally(good=2, tokens=6, wall_s=3.0, errors={"cut off": 2}, gaps={3: 4}, first_s=[0.2])

    both = merged([one, two])

    assert (both.good, both.tokens, both.wall_s) == (3, 11, 3.0)
    assert (both.errors, both.gaps, both.first_s) == ({"cut off": 3}, {3: 5}, [0.1, 0.2])


# The client's check of a stream.


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
def test_a_whole_stream_is_good_however_it_was_cut(step):
    check = Check()
    for begin in range(0, len(WHOLE), step):
        check.feed(WHOLE[begin : begin + step])

    assert check.fault(4) == ""


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (TOKEN * 3, "no [DONE]"),
        (TOKEN * 2 + DONE, "3 events instead of 4"),
        (TOKEN * 4 + DONE, "5 events instead of 4"),
        (TOKEN * 3 + DONE + TOKEN, "no [DONE]"),
        (b"", "no [DONE]"),
    ],
)
def test_a_stream_without_its_end_or_with_a_token_more_or_less_is_not_good(data, fault):
    check = Check()
    check.feed(data)

    assert check.fault(4) == fault


class FakeTransport:
    def __init__(self, answer: bytes) -> None:
        self.answer, self.slot, self.closed = answer, None, False

    def write(self, _request: bytes) -> None:
        self.slot._load.running = False  # one request is enough
        self.slot.data_received(self.answer)

    def is_closing(self):
        return self.closed

    def close(self):
        self.closed = True


@pytest.mark.parametrize(
    ("head", "body", "good", "errors"),
    [
        (b"200 OK", WHOLE, 1, {}),
        (b"200 OK", TOKEN * 3, 0, {"no [DONE]": 1}),
        (b"503 Busy", WHOLE, 0, {"status 503": 1}),
    ],
)
async def test_the_client_counts_only_whole_answers(head, body, good, errors):
    load = Load("http://127.0.0.1:1", "key", stream=True, tokens=2)
    transport = FakeTransport(
        b"HTTP/1.1 %b\r\ncontent-length: %d\r\n\r\n%b" % (head, len(body), body)
    )
    slot = transport.slot = Slot(load)
    slot.connection_made(transport)

    assert (load.tally.good, dict(load.errors), load.active) == (good, errors, 0)
    assert load.tally.tokens == 2 or not good


async def test_the_client_counts_a_stream_that_was_cut_off():
    load = Load("http://127.0.0.1:1", "key", stream=True, tokens=2)
    transport = FakeTransport(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n" + TOKEN * 2)
    slot = transport.slot = Slot(load)
    slot.connection_made(transport)
    slot.connection_lost(None)

    assert (load.tally.good, dict(load.errors), load.active) == (0, {"cut off": 1}, 0)


# The kernel's figures.


def a_process(proc, pid, parent, *, ticks, name="python"):
    (proc / str(pid)).mkdir()
    fields = ["S", parent, *[0] * 9, *ticks, *[0] * 6, 10, *[0] * 20]
    (proc / str(pid) / "stat").write_text(f"{pid} ({name}) " + " ".join(map(str, fields)))


def test_the_cpu_of_a_tree_is_that_of_all_its_processes_and_of_no_other(tmp_path):
    a_process(tmp_path, 10, 1, ticks=(100, 20, 3, 1), name="a ) b (c")
    a_process(tmp_path, 11, 10, ticks=(10, 0, 0, 0))
    a_process(tmp_path, 12, 11, ticks=(0, 5, 0, 0))
    a_process(tmp_path, 13, 1, ticks=(1000, 1000, 0, 0))

    assert processes.cpu_s(10, tmp_path) == pytest.approx(139 / processes._TICKS_PER_S)


def test_the_cpu_of_this_process_is_what_it_says_itself():
    before, began = processes.cpu_s(os.getpid()), time.process_time()
    while time.process_time() - began < 0.1:
        pass

    assert processes.cpu_s(os.getpid()) - before == pytest.approx(0.1, abs=0.06)
    assert processes.rss_bytes(os.getpid()) > 10e6


# Verdicts of paired rounds.


def samples_of(target, cpu_us, p50_s):
    return [
        Sample(
            scenario="streams",
            target=target,
            round=number,
            cpu_us=cpu,
            p50_s=p50,
            p99_s=p50,
            gap_p99_s=0.0,
            done=1,
            per_s=1.0,
            errors={},
            machine_busy=0.5,
            client_cpu_s=0.0,
        )
        for number, (cpu, p50) in enumerate(zip(cpu_us, p50_s, strict=True))
    ]


def test_ratios_are_taken_within_a_round_and_latency_against_the_direct_way_of_the_same_round():
    samples = Samples(
        samples_of(DIRECT, [math.nan] * 3, [1, 2, 9])
        + samples_of(MODELYARD, [20, 40, 90], [2, 3, 10])
        + samples_of("vllm-router", [40, 80, 90], [3, 4, 11])
    )

    found = {verdict.what: verdict for verdict in verdicts(samples, SCENARIOS[:1])}

    assert found["streams: CPU per token / vllm-router"].ratio == 0.5
    assert found["streams: added TTFT p50 / vllm-router"].ratio == 0.5
    assert found["streams: CPU per token / sglang-router"].met is None


def test_the_targets_are_those_of_the_issue():
    asked = {scenario.name: msgspec.to_builtins(scenario) for scenario in SCENARIOS}

    assert asked["streams"]["cpu_at_most"] == {"vllm-router": 1.0, "sglang-router": 0.7}
    assert asked["streams"]["p50_at_most"] == asked["streams"]["p99_at_most"]
    assert asked["streams"]["p99_at_most"] == {"vllm-router": 1.2}
    assert asked["plain"]["cpu_at_most"] == {"vllm-router": 1.3, "sglang-router": 0.7}
    assert asked["single"]["p50_at_most"] == {"vllm-router": 1.2}
