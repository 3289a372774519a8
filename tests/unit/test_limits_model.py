"""Limits against a model of them in plain Python: any interleaving of processes that let in, end,
die and come back, on any clock.
"""

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from limits_world import Clock, Process, a_limited, a_row, tokens

from gateway.errors import OverLimitError, RateLimitError
from gateway.limits import limiter as limiters
from gateway.limits.account import Account
from gateway.limits.ledger import REQUESTS_SUM, TOKENS_SUM

MEMORY = Path("/dev/shm")  # many files, for a moment each
PROCESSES = 3
KEYS = (
    a_limited("a", requests_per_minute=5, in_flight=2),
    a_limited("b", tokens_per_minute=60, budget_nano=300_000),
    a_limited("c", requests_per_minute=7, tokens_per_minute=90, in_flight=4, budget_nano=500_000),
)
ROWS = (
    a_row("m", price=(1, 2), requests_per_minute=6, in_flight=3),
    a_row("n", price=(2, 1), tokens_per_minute=80),
)
FREE = a_row("free", price=(1, 1))


class Entry:
    def __init__(self, second, used):
        self.second, self.tokens, self.counts = second, used, True


class Subject:
    """The oracle's view of a key or a model."""

    def __init__(self, limits):
        self.limits = limits
        self.entries = []
        self.under_way = []  # (process, reserved)
        self.spent = 0

    def window(self, second):
        return [entry for entry in self.entries if second - entry.second <= 60]

    def lacks(self, second, wanted, cost):
        limits, window = self.limits, self.window(second)
        budget = getattr(limits, "budget_nano", 0)
        used = sum(entry.tokens for entry in window)
        reserved = sum(nano for _, nano in self.under_way)
        return {
            name
            for name, reached in (
                (
                    "requests_per_minute",
                    sum(entry.counts for entry in window) >= limits.requests_per_minute > 0,
                ),
                ("tokens_per_minute", used + wanted > limits.tokens_per_minute > 0),
                ("in_flight", len(self.under_way) >= limits.in_flight > 0),
                ("budget", budget and cost and self.spent + reserved + cost > budget),
            )
            if reached
        }


class Limits(RuleBasedStateMachine):
    @initialize()
    def begin(self):
        self.folder = tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None)
        self.path = Path(self.folder.name) / "limits.ledger"
        self.clock = Clock()
        self.processes = [Process(self.clock, self.path) for _ in range(PROCESSES)]
        self.subjects = {each.id: Subject(each.limits) for each in KEYS}
        self.subjects |= {each.name: Subject(each.limits) for each in ROWS}
        self.permits = []
        self.times = []  # (subject, exact time, tokens) of all that were let in

    @rule(
        number=st.integers(0, PROCESSES - 1),
        key=st.sampled_from(KEYS),
        row=st.sampled_from((*ROWS, FREE)),
        prompt=st.integers(1, 30),
        answer=st.integers(0, 30),
    )
    def admit(self, number, key, row, prompt, answer):
        second, wanted = int(self.clock.now), prompt + answer
        cost = row.price.cost_nano(prompt, answer) if key.limits.budget_nano else 0
        touched = [(key.id, cost)] + ([(row.name, 0)] if row is not FREE else [])
        lacks = set().union(
            *(self.subjects[name].lacks(second, wanted, nano) for name, nano in touched)
        )
        permit, reason = self._outcome(number, key, row, tokens(prompt, answer))
        if permit is None:
            assert reason in lacks, f"refused for {reason}, it lacks {lacks}"
            return
        assert not lacks, f"let in, though it lacks {lacks}"
        held = []
        for name, nano in touched:
            subject, entry, place = self.subjects[name], Entry(second, wanted), (number, nano)
            subject.entries.append(entry)
            subject.under_way.append(place)
            held.append((subject, entry, place))
            self.times.append((name, self.clock.now))
        self.permits.append((number, permit, held))

    def _outcome(self, number, key, row, estimate):
        try:
            return self.processes[number].admit(key, row, estimate), ""
        except (RateLimitError, OverLimitError) as error:
            return None, error.reason

    @rule(
        which=st.integers(0, 100),
        used=st.integers(0, 80),
        cost=st.integers(0, 100_000),
        again=st.booleans(),
    )
    def settle(self, which, used, cost, again):
        if not self.permits:
            return
        _, permit, held = self.permits.pop(which % len(self.permits))
        permit.settle(used, cost)
        if again:
            permit.settle(used + 1, cost + 1)
        second = int(self.clock.now)
        for subject, entry, place in held:
            subject.under_way.remove(place)
            if getattr(subject.limits, "budget_nano", 0):
                subject.spent += cost
            if second - entry.second <= 60:
                entry.tokens = used
            elif used > entry.tokens:
                late = Entry(second, used - entry.tokens)
                late.counts = False
                subject.entries.append(late)

    @rule(seconds=st.one_of(st.floats(0, 3), st.floats(0, 200), st.sampled_from((59, 60, 61))))
    def wait(self, seconds):
        self.clock.move(seconds)

    @rule(number=st.integers(0, PROCESSES - 1))
    def kill(self, number):
        """And another one comes in its place."""
        self.processes[number].die()
        self.processes[number] = Process(self.clock, self.path)
        for subject in self.subjects.values():
            subject.under_way = [place for place in subject.under_way if place[0] != number]
        self.permits = [each for each in self.permits if each[0] != number]

    @rule(
        number=st.integers(0, PROCESSES - 1),
        name=st.sampled_from([f"key {key.id}" for key in KEYS] + [f"model {r.name}" for r in ROWS]),
        sums=st.sets(st.sampled_from((REQUESTS_SUM, TOKENS_SUM)), min_size=1),
    )
    def die_between_two_stores(self, number, name, sums):
        """As one is left that raised a sum and not its part, or lowered a part and not its sum."""
        ledger = self.processes[number].ledger
        account = Account(ledger, name)
        account.open(int(self.clock.now))
        for at in sums:
            ledger.words[account._base + at] += 3
        self.kill(number)

    @invariant()
    def no_60_s_hold_more_than_the_limit(self):
        for name, subject in getattr(self, "subjects", {}).items():
            most = subject.limits.requests_per_minute
            times = [at for who, at in self.times if who == name]
            if most:
                assert all(
                    late - early > 60 for early, late in zip(times, times[most:], strict=False)
                )

    def teardown(self):
        if hasattr(self, "folder"):
            for process in self.processes:
                process.limiter.close()
            self.folder.cleanup()


def test_any_interleaving_is_what_the_model_says(monkeypatch):
    monkeypatch.setattr(limiters, "_REAP_EVERY_S", 0.0)
    run_state_machine_as_test(
        Limits,
        settings=settings(
            max_examples=40,
            stateful_step_count=50,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
