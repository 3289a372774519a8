"""A disaggregated variant under load, on a virtual clock: fixed, or scaled by the autoscaler."""

import random
from collections.abc import Sequence
from heapq import heappop, heappush
from math import floor
from operator import attrgetter
from typing import Any

import msgspec
from fleets import a_model
from simulation.autoscaling.brain import Brain
from simulation.autoscaling.workers import TPOT_S, TTFT_S, Decode, Job, Life, Prefill
from simulation.azure import Arrival

from pipelines.planner.elastic import Seen
from registry.spec import Role
from registry.state import Model

START_S = (60.0, 120.0)  # from being asked for to being ready
_LOAD = attrgetter("load")
_ORDINAL = attrgetter("ordinal")
# How many workers, and since when: the rest is the device-seconds of those who end.
Size = tuple[int, int]


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """Of the model's spec: what each role may be scaled to, and by what."""

    queued_prompt_tokens_max: int = 3500  # a second of work
    kv_usage_max: float = 0.8
    stable_s: float = 300.0
    workers_max: int = 40
    ratio: float | None = None  # prefill workers for each decode worker, fixed

    @property
    def settings(self) -> str:
        ratio = "" if self.ratio is None else f"{self.ratio:g}:1, "
        return f"{ratio}{self.stable_s:g} s, KV {self.kv_usage_max:g}"


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    requests: int
    ttft_met: float  # share of requests
    tpot_met: float
    met: float  # both
    gpu_hours: float
    sizes: tuple[Size, ...] = ()  # every minute
    reasons: tuple[str, ...] = ()


class Fleet:
    def __init__(self, start: Size, *, policy: Policy | None = None, seed: int = 1) -> None:
        self._draw = random.Random(seed)
        self._prefills = [Prefill(n, Life(0.0, 0.0)) for n in range(start[0])]
        self._decodes = [Decode(n, Life(0.0, 0.0)) for n in range(start[1])]
        # Those that get requests, by ordinal: ready ones that do not leave.
        self._open_prefills = list(self._prefills)
        self._open_decodes = list(self._decodes)
        self._gone: list[Life] = []
        self._events: list[tuple[float, int, str, Any]] = []
        self._number = 0
        self._wanted = {Role.PREFILL: start[0], Role.DECODE: start[1]}
        self._brain = Brain(_model(start, policy)) if policy else None
        self._told: list[Job] = []  # ended since the brain looked
        self._done: list[Job] = []
        self._late = 0
        self._sizes: list[Size] = []

    def run(self, every: Sequence[Arrival]) -> Outcome:
        self._serve(every, late_max=len(every))
        return self._outcome(every[-1].at_s)

    def meets(self, every: Sequence[Arrival], share: float) -> bool:
        """The targets, for that share of the requests. Looks no further once too many are late."""
        late_max = floor((1 - share) * len(every))
        self._serve(every, late_max=late_max)
        return self._late <= late_max

    def _serve(self, every: Sequence[Arrival], *, late_max: int) -> None:
        end_s = every[-1].at_s
        if self._brain:
            self._push(self._brain.every_s, "look", None)
        arrivals = iter(every)
        coming = next(arrivals, None)
        while self._late <= late_max and len(self._done) < len(every):
            if coming is not None and (not self._events or coming.at_s <= self._events[0][0]):
                self._arrive(Job(coming))
                coming = next(arrivals, None)
                continue
            now, _, kind, what = heappop(self._events)
            if kind == "look":
                self._look(now, end_s)
            elif kind == "decode":
                self._hand_over(what, now)
            elif kind == "ready":
                self._open(now)
            else:
                worker, generation = what
                if worker.generation == generation:
                    self._finished(worker.finish(now), now)
                    self._foretell(worker)

    def _push(self, at: float, kind: str, what: object) -> None:
        self._number += 1
        heappush(self._events, (at, self._number, kind, what))

    def _arrive(self, job: Job) -> None:
        now = job.arrival
        best = self._open_prefills[0]
        for worker in self._open_prefills:
            if worker.free_s <= now:
                best = worker
                break
            if worker.free_s < best.free_s:
                best = worker
        self._push(best.take(job, now), "decode", job)

    def _hand_over(self, job: Job, now: float) -> None:
        worker = min(self._open_decodes, key=_LOAD)
        worker.take(job, now)
        self._foretell(worker)

    def _foretell(self, worker: Decode) -> None:
        at = worker.next_end_s()
        if at is not None:
            self._push(at, "end", (worker, worker.generation))

    def _finished(self, jobs: Sequence[Job], now: float) -> None:
        self._done += jobs
        self._late += sum(not job.is_in_time for job in jobs)
        if self._brain:
            self._told += jobs

    def _look(self, now: float, end_s: float) -> None:
        assert self._brain
        if now < end_s:
            self._push(now + self._brain.every_s, "look", None)
        self._retire(now)
        seen = [_seen(one, now) for one in (*self._prefills, *self._decodes)]
        ended, self._told = self._told, []
        for role, wanted in self._brain.wanted(seen, ended, now).items():
            self._wanted[role] = wanted
            self._resize(role, wanted, now)
        if round(now) % 60 == 0:
            self._sizes.append((self._wanted[Role.PREFILL], self._wanted[Role.DECODE]))

    def _resize(self, role: Role, wanted: int, now: float) -> None:
        """The highest ordinals go; one that never served ends at once."""
        workers: Any = self._prefills if role is Role.PREFILL else self._decodes
        make: Any = Prefill if role is Role.PREFILL else Decode
        staying = {one.ordinal for one in workers if not one.life.leaves}
        for ordinal in range(wanted):
            if ordinal not in staying:
                life = Life(now, now + self._draw.uniform(*START_S))
                workers.append(make(ordinal, life))
                self._push(life.ready_s, "ready", None)
        for one in workers:
            if one.ordinal >= wanted:
                one.life.leaves = True
        self._open(now)

    def _open(self, now: float) -> None:
        self._open_prefills = [one for one in self._prefills if one.life.serves(now)]
        self._open_prefills.sort(key=_ORDINAL)
        self._open_decodes = [one for one in self._decodes if one.life.serves(now)]
        self._open_decodes.sort(key=_ORDINAL)

    def _retire(self, now: float) -> None:
        for workers in (self._prefills, self._decodes):
            for one in list(workers):
                empty = one.is_empty(now) if isinstance(one, Prefill) else one.is_empty()
                if one.life.leaves and (empty or one.life.ready_s > now):
                    one.life.ended_s = now
                    self._gone.append(one.life)
                    workers.remove(one)

    def _outcome(self, end_s: float) -> Outcome:
        lives = self._gone + [one.life for one in (*self._prefills, *self._decodes)]
        held_s = sum(
            min(end_s, life.ended_s if life.ended_s is not None else end_s) - life.began_s
            for life in lives
            if life.began_s < end_s
        )
        count = len(self._done)
        return Outcome(
            requests=count,
            ttft_met=sum(job.ttft_s <= TTFT_S for job in self._done) / count,
            tpot_met=sum(job.tpot_s <= TPOT_S for job in self._done) / count,
            met=1 - self._late / count,
            gpu_hours=held_s / 3600,
            sizes=tuple(self._sizes),
            reasons=tuple(self._brain.reasons) if self._brain else (),
        )


def _seen(worker: Prefill | Decode, now: float) -> Seen:
    life = worker.life
    if isinstance(worker, Prefill):
        (running, waiting), role = worker.requests(now), Role.PREFILL
        kv_usage, prompts, answers = 0.0, worker.tokens, worker.count
    else:
        (running, waiting), role = worker.requests(), Role.DECODE
        kv_usage, prompts, answers = worker.kv_usage, 0, worker.told
    return Seen(
        role=role,
        ordinal=worker.ordinal,
        began_s=life.began_s,
        ready_s=life.ready_s,
        leaves=life.leaves,
        running=running,
        waiting=waiting,
        kv_usage=kv_usage,
        prompt_tokens=prompts,
        answer_tokens=answers,
    )


def _model(start: Size, policy: Policy) -> Model:
    bounds = {
        "workers_max": policy.workers_max,
        "queued_prompt_tokens_max": policy.queued_prompt_tokens_max,
        "kv_usage_max": policy.kv_usage_max,
        "stable_s": policy.stable_s,
    }
    topology: dict[str, Any] = {"type": "disaggregated"}
    for role, workers in zip(("prefill", "decode"), start, strict=True):
        topology[role] = {"workers": workers, "autoscale": bounds}
    if policy.ratio is not None:
        topology["ratio"] = {"min": policy.ratio * 0.9, "max": policy.ratio * 1.1}
    made = a_model("m", topology)
    slo = {"ttft_s": TTFT_S, "tpot_s": TPOT_S}
    spec = msgspec.convert({**msgspec.to_builtins(made.spec), "slo": slo}, type(made.spec))
    return msgspec.structs.replace(made, spec=spec)
