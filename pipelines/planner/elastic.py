"""A group played through while its workers come and go, as an autoscaler says. Pure.

Who is asked for serves *start_s* later. Who is to go takes no more requests, and ends once it has
none: the highest ordinals go first. All of that happens when the autoscaler looks.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

import msgspec

from pipelines.planner.demand import Demand
from pipelines.planner.engine import Arrival, Engine, Job
from pipelines.planner.rates import Group
from pipelines.planner.rehearsal import Choose, Outcome, Stage, counts_of, engine_of, judged, least
from registry.spec import Role

START_S = 60.0  # weights from a local disk, graphs; far more where they must be fetched


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """A worker as an autoscaler sees it: since when it is there and *ready_s* when it serves, or
    will; what its engine counts. One that *leaves* takes no more requests.
    """

    role: Role
    ordinal: int
    began_s: float
    ready_s: float
    leaves: bool = False
    running: int = 0
    waiting: int = 0
    kv_usage: float = 0.0
    prompt_tokens: int = 0
    answer_tokens: int = 0


class Scaler(Protocol):
    """Asked every *every_s* of the simulated time."""

    every_s: float

    def wanted(
        self, workers: Sequence[Seen], ended: Sequence[Job], now: float
    ) -> Mapping[Role, int]:
        """How many workers roles are to have, at least one each; of those not named, as many as
        before. *ended* are the requests answered since the last time.
        """


class Scaled(msgspec.Struct, frozen=True, kw_only=True):
    """*held_s* is how long workers were there, all of a role together, until the last arrival;
    *most* how many of them at once.
    """

    outcome: Outcome
    held_s: Mapping[Role, float]
    most: Mapping[Role, int]


def rehearse_scaled(
    group: Group,
    demand: Demand,
    arrivals: Iterable[Arrival],
    scaler: Scaler,
    *,
    start_s: float = START_S,
    choose: Choose | None = None,
) -> Scaled:
    """Plays *arrivals* on *group*, which begins with the workers that it has."""
    stage = _Elastic(group, choose or least, scaler, start_s)
    jobs = stage.run([Job(arrival) for arrival in arrivals])
    return Scaled(
        outcome=judged(jobs, demand),
        held_s={role: crew.held_s for role, crew in stage.crews.items()},
        most={role: crew.most for role, crew in stage.crews.items()},
    )


class _Member:
    __slots__ = ("began_s", "engine", "leaves", "ordinal", "ready_s")

    def __init__(self, ordinal: int, engine: Engine, began_s: float, ready_s: float) -> None:
        self.ordinal = ordinal
        self.engine = engine
        self.began_s = began_s
        self.ready_s = ready_s
        self.leaves = False

    def seen(self, role: Role) -> Seen:
        engine = self.engine
        return Seen(
            role=role,
            ordinal=self.ordinal,
            began_s=self.began_s,
            ready_s=self.ready_s,
            leaves=self.leaves,
            running=engine.running,
            waiting=engine.waiting,
            kv_usage=engine.kv_usage,
            prompt_tokens=engine.prompt_tokens,
            answer_tokens=engine.answer_tokens,
        )


class _Crew:
    """The workers of a role. *serving* are the engines that take requests."""

    def __init__(self, role: Role, serving: list[Engine]) -> None:
        self.role = role
        self.held_s = 0.0
        self.most = len(serving)
        self._serving = serving
        self._members = [_Member(number, one, 0.0, 0.0) for number, one in enumerate(serving)]

    def seen(self) -> Iterator[Seen]:
        return (member.seen(self.role) for member in self._members)

    def resize(self, count: int, group: Group, now: float, start_s: float) -> None:
        staying = {member.ordinal for member in self._members if not member.leaves}
        for ordinal in range(count):
            if ordinal not in staying:
                made = engine_of(group, self.role)
                self._members.append(_Member(ordinal, made, now, now + start_s))
        for member in self._members:
            member.leaves |= member.ordinal >= count

    def turn(self, now: float, passed_s: float) -> None:
        """Who serves from now on, and who has ended; *passed_s* since the last time."""
        self.held_s += passed_s * len(self._members)
        self._members = [one for one in self._members if not one.leaves or _is_busy(one.engine)]
        self._members.sort(key=lambda one: (one.ordinal, one.began_s))
        self.most = max(self.most, len(self._members))
        self._serving[:] = [
            one.engine for one in self._members if one.ready_s <= now and not one.leaves
        ]


def _is_busy(engine: Engine) -> bool:
    return bool(engine.running or engine.waiting)


class _Elastic(Stage):
    def __init__(self, group: Group, choose: Choose, scaler: Scaler, start_s: float) -> None:
        super().__init__(group, choose)
        self.crews = {role: _Crew(role, self.open[role]) for role in counts_of(group)}
        self._scaler = scaler
        self._start_s = start_s
        self._looked_s = 0.0
        self._last_s = 0.0

    def run(self, jobs: list[Job]) -> list[Job]:
        if jobs:
            self._last_s = jobs[-1].at_s
            self.ask_for_look(min(self._scaler.every_s, self._last_s))
        return super().run(jobs)

    def look(self, now: float) -> None:
        passed_s, self._looked_s = now - self._looked_s, now
        for crew in self.crews.values():
            crew.turn(now, passed_s)
        seen = [one for crew in self.crews.values() for one in crew.seen()]
        ended, self.ended = self.ended, []
        for role, count in self._scaler.wanted(seen, ended, now).items():
            self.crews[role].resize(count, self.group, now, self._start_s)
            self.crews[role].turn(now, 0.0)
        if now < self._last_s:
            self.ask_for_look(min(now + self._scaler.every_s, self._last_s))
