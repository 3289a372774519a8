from math import exp

import pytest

from pipelines.planner.queues import at_most, below, erlang_c, waits_longer


def test_one_server_waits_as_m_m_1_says():
    # P(W > t) of M/M/1 is rho * exp(-(mu - lambda) t); cv2 of 1 makes the approximation exact.
    rate, service_s, t = 0.5, 1.0, 2.0
    assert waits_longer(1, rate, service_s, 1.0, t) == pytest.approx(0.5 * exp(-0.5 * t))


@pytest.mark.parametrize(
    ("servers", "load", "busy"),
    [(1, 0.5, 0.5), (2, 1.0, 1 / 3), (5, 4.0, 0.5541), (20, 18.0, 0.5508)],
)
def test_the_chance_that_all_are_busy_is_that_of_erlangs_tables(servers, load, busy):
    assert erlang_c(servers, load) == pytest.approx(busy, abs=5e-4)


def test_a_queue_that_cannot_keep_up_always_waits_longer():
    assert waits_longer(2, 3.0, 1.0, 0.5, 100.0) == 1.0


def test_who_has_no_time_left_waits_too_long_even_with_nobody_there():
    assert waits_longer(1, 0.0, 1.0, 1.0, -0.001) == 1.0
    assert waits_longer(1, 0.0, 1.0, 1.0, 0.0) == 0.0


def test_poisson_counts_are_those_of_the_tables_on_both_sides_of_the_normal():
    assert at_most(-1, 3.0) == 0.0
    assert at_most(2.9, 2.0) == pytest.approx(0.6767, abs=1e-4)
    assert at_most(30, 29.9) == pytest.approx(at_most(30, 30.1), abs=0.03)
    assert below(1.6449) == pytest.approx(0.95, abs=1e-4)
