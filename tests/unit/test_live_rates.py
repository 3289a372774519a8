"""How much is asked for and how fast it is answered, now and over time, as the console has it."""

import msgspec
import pytest
from fleets import rolling_out, unified

from gateway.admin.live.engines import pace, together
from gateway.admin.live.rates import (
    WINDOW_S,
    Window,
    of_clients,
    rates_of,
    summed,
    waiting,
    window_end,
)
from gateway.admin.live.series import Steps, points
from pipelines.awake.wishes import Wish
from pipelines.engines.base import EngineMetrics, Sample
from registry.spec import from_data
from registry.traffic import SLOT_S, Latencies, Traffic

NOW = 1_000_003.0  # a slot has ended 3 s ago
END = 1_000_000.0


def told(at=END - SLOT_S, model="m", variant="default", **facts) -> Traffic:
    return Traffic(
        **{"at": at, "gateway": "g", "model": model, "variant": variant, "revision": 1, **facts}
    )


def test_rates_are_over_the_window_and_null_where_nothing_was_measured():
    rows = [
        told(requests=60, errors=3, prompt_tokens=900, ttft=Latencies.of((0.1,) * 90)),
        told(at=END - 2 * SLOT_S, requests=30, ttft=Latencies.of((0.8,) * 10)),
    ]
    rates = rates_of(summed(rows), Wish(queued=2, in_flight=7))
    assert (rates.requests_per_s, rates.prompt_tokens_per_s) == (3.0, 30.0)
    assert rates.error_rate == pytest.approx(3 / 90)
    assert rates.ttft_p50_s == pytest.approx(0.1, rel=0.3)
    assert rates.ttft_p95_s == pytest.approx(0.8, rel=0.3)
    assert (rates.tpot_p50_s, rates.tpot_p95_s) == (None, None)
    assert (rates.queued, rates.in_flight) == (2, 7)
    quiet = rates_of(summed([]), None)
    assert (quiet.requests_per_s, quiet.error_rate, quiet.queued) == (0.0, None, None)
    assert waiting(quiet, Wish(queued=1)).queued == 1


def test_copies_for_shadows_are_no_clients_requests():
    variants = [
        {"name": "real", "engine": "emulator", "topology": {"type": "aggregated"}},
        {
            "name": "shadow",
            "engine": "emulator",
            "weight": 0,
            "shadow_percent": 10,
            "topology": {"type": "aggregated"},
        },
    ]
    spec = from_data({"name": "m", "source": "file:///nowhere", "variants": variants})
    base = msgspec.structs.replace(unified("m"), spec=spec)
    rows = [told(variant="real"), told(variant="shadow")]
    assert [row.variant for row in of_clients(base, rows)] == ["real"]
    # … nor are those of a revision that is being left.
    assert [row.variant for row in of_clients(rolling_out(base, unified("m"), 50), rows)] == [
        "real"
    ]


def test_the_window_ends_where_all_gateways_have_told():
    assert window_end(NOW) == END
    assert window_end(END + 1.0) == END - SLOT_S  # a second after a slot's end not all have


def test_a_window_reads_what_is_new_and_once_more_what_may_have_been_late():
    window = Window()
    assert window.begin(NOW) == END - WINDOW_S
    window.take(END - WINDOW_S, NOW, [told(requests=1), told(at=END - 2 * SLOT_S)])
    assert window.begin(NOW + 1) is None
    since = window.begin(NOW + SLOT_S)
    assert since == END - window.REREAD_S
    window.take(since, NOW + SLOT_S, [told(requests=5), told(at=END), told(at=END + SLOT_S)])
    by_model = window.by_model()
    assert [(row.at, row.requests) for row in by_model["m"]] == [
        (END - SLOT_S, 5),  # as it was told last; the slot that nobody tells of any more is gone
        (END, 0),
    ]


def test_a_window_that_nobody_looked_at_for_long_is_read_anew():
    window = Window()
    window.take(END - WINDOW_S, NOW, [told()])
    assert window.begin(NOW + 600) == window_end(NOW + 600) - WINDOW_S
    window.take(window_end(NOW + 600) - WINDOW_S, NOW + 600, [])
    assert window.by_model() == {}
    assert window.begin(NOW) == END - WINDOW_S, "also after a clock was set back"


# --- series


def test_a_series_has_whole_steps_also_where_nothing_happened():
    steps = Steps.back(1_000_010.0, since_s=60, step_s=15)
    assert (steps.since, steps.until) == (999_945.0, 1_000_005.0)  # times of the clock
    rows = [
        told(at=steps.since, requests=1),
        told(at=steps.since + 10, requests=2, e2e=Latencies.of((2.0,))),
        told(at=steps.until - 5, requests=4, errors=1),
        told(at=steps.until, requests=8),
        told(at=steps.since - 5, requests=16),
    ]
    series = points(steps, [(row.at, row) for row in rows])
    assert [point.requests for point in series] == [3, 0, 0, 4]
    assert series[0].e2e_p50_s == pytest.approx(2.0, rel=0.3)
    assert (series[1].e2e_p50_s, series[3].errors) == (None, 1)
    assert series[0].at < series[1].at


def test_a_step_longer_than_the_time_asked_for_is_still_one():
    assert len(points(Steps.back(END, since_s=5, step_s=60), [])) == 1


# --- engines


def counted(at, **counts) -> Sample:
    return Sample(at=at, metrics=EngineMetrics(**counts))


def test_an_engines_pace_is_between_two_looks():
    first = counted(10.0, prompt_tokens=100, generation_tokens=10, requests=1, kv_transfers=1)
    assert pace([first]).generation_tokens_per_s is None
    assert pace([first]).now.prompt_tokens == 100
    second = counted(14.0, prompt_tokens=500, generation_tokens=50, requests=3, kv_transfers=5)
    seen = pace([first, second])
    assert (seen.prompt_tokens_per_s, seen.generation_tokens_per_s) == (100.0, 10.0)
    assert (seen.requests_per_s, seen.kv_transfers_per_s, seen.kv_failures_per_s) == (0.5, 1.0, 0.0)


def test_looks_of_long_ago_and_engines_started_anew_have_no_pace():
    old = counted(10.0, generation_tokens=10)
    assert pace([old, counted(100.0, generation_tokens=20)]).generation_tokens_per_s is None
    assert pace([old, counted(12.0, generation_tokens=2)]).generation_tokens_per_s is None


def test_an_engine_that_counts_no_requests_has_no_rate_of_them():
    seen = pace([counted(10.0, prompt_tokens=5), counted(12.0, prompt_tokens=9)])
    assert (seen.requests_per_s, seen.prompt_tokens_per_s) == (None, 2.0)


def test_together_is_known_as_soon_as_one_is():
    assert together([None, 1.5, None, 2.0]) == 3.5
    assert together([None]) is None
