"""A node's agent, without Ray: what goes on at the same time, and what it remembers."""

import threading

import msgspec

from pipelines.cluster.base import Sighting
from pipelines.cluster.ray import actors
from pipelines.cluster.ray.wire import Reply


class SlowDriver:
    """A machine whose report waits, as one of a driver in trouble does."""

    def __init__(self):
        self.asked, self.answers = threading.Event(), threading.Event()

    def who(self):
        return id(self)

    def report(self):
        self.asked.set()
        assert self.answers.wait(10)

    def observe(self):
        return Sighting(nodes=frozenset({"n"}), workers=())


def test_workers_are_seen_while_a_report_waits_for_the_driver(monkeypatch):
    machine = SlowDriver()
    monkeypatch.setattr(actors, "_machine", lambda: machine)
    agent = actors.NodeAgent()
    reporting = threading.Thread(target=agent.report)
    looking = threading.Thread(target=agent.observe)
    reporting.start()
    assert machine.asked.wait(10)
    looking.start()
    looking.join(5)
    seen = not looking.is_alive()
    machine.answers.set()
    reporting.join(10)
    looking.join(10)
    assert seen


def test_reports_are_of_one_machine_that_remembers_who_was_on_its_devices(monkeypatch):
    monkeypatch.setattr(SlowDriver, "report", SlowDriver.who)
    monkeypatch.setattr(actors, "_machine", SlowDriver)
    agent = actors.NodeAgent()
    first, second = (msgspec.json.decode(agent.report(), type=Reply) for _ in range(2))
    assert bytes(first.value) == bytes(second.value)
    assert not first.error
