"""Workers that fail are set aside for a moment, each time for longer."""

from gateway.routing.health import Health


def test_a_failure_sets_aside_for_a_growing_time():
    health, now, lengths = Health(), 0.0, []
    for _ in range(8):
        health.failed("w", now)
        aside_s = next(step for step in range(1000) if not health.aside(now + step))
        lengths.append(aside_s)
        now += aside_s
    assert lengths == [1, 2, 4, 8, 16, 30, 30, 30]


def test_failures_at_the_same_time_are_one():
    health = Health()
    for _ in range(50):
        health.failed("w", 0.0)
    assert health.aside(0.5) == {"w"}
    assert health.aside(1.0) == set()


def test_success_forgets():
    health = Health()
    health.failed("w", 0.0)
    health.succeeded("w")
    assert health.aside(0.1) == set()


def test_a_few_soft_failures_are_forgiven_and_several_in_a_row_are_not():
    health = Health()
    for _ in range(4):
        health.failed("w", 0.0, soft=True)
    assert health.aside(0.1) == set()
    health.failed("w", 0.0, soft=True)
    assert health.aside(0.1) == {"w"}


def test_only_present_workers_are_remembered():
    health = Health()
    health.failed("old", 0.0)
    health.failed("new", 0.0)
    health.keep(frozenset({"new"}))
    assert health.aside(0.1) == {"new"}


def test_a_worker_that_hangs_is_set_aside_until_it_answers():
    health = Health()
    health.hung("w")
    health.failed("w", 5.0)
    assert health.aside(1e9) == {"w"}
    health.succeeded("w")
    assert health.aside(1e9) == set()
