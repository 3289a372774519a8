"""What follows from a role's load: tables of signals, and loads over time; no clock."""

import msgspec
import pytest
from fleets import a_model, a_snapshot, workers_of

from pipelines.autoscaler import Autoscaler
from pipelines.engines.base import EngineMetrics, Sample
from registry.spec import Role, RolloutPolicy
from registry.state import Phase, RoleScale, Rollout, RolloutState
from registry.traffic import SLOT_S, Demand, Latencies, Traffic

STABLE_S = 300.0
IDLE = {"prefill": EngineMetrics(), "decode": EngineMetrics(), "unified": EngineMetrics()}


class World:
    """A model under an autoscaler: what is measured of it is set, time goes on by `look`."""

    def __init__(self, topology, **spec):
        self.model = a_model("m", topology)
        builtins = {**msgspec.to_builtins(self.model.spec), **spec}
        self.model = msgspec.structs.replace(
            self.model, spec=msgspec.convert(builtins, type(self.model.spec))
        )
        self.autoscaler = Autoscaler()
        self.now = 10_000.0
        self.metrics = dict(IDLE)
        self.missing = set()  # roles whose last worker was not heard of
        self.ttft_s = self.tpot_s = None
        self.demand = ()
        self.unready = 0  # workers of each role that still come up
        self.unready_phase = Phase.STARTING

    def look(self, times=1, *, every_s=5.0):
        """The last decisions, by role."""
        found = ()
        for _ in range(times):
            self.now += every_s
            workers = workers_of(self.model, ready_at=0.0)
            samples = {}
            for index, worker in enumerate(workers):
                role, last = worker.plan.role, self._count(worker.plan.role) - 1
                if worker.plan.ordinal > last - self.unready:
                    workers[index] = msgspec.structs.replace(worker, phase=self.unready_phase)
                elif not (role in self.missing and worker.plan.ordinal == last):
                    at = self.now - 1
                    samples[worker.id] = (Sample(at=at, metrics=self.metrics[role]),)
            snapshot = msgspec.structs.replace(
                a_snapshot(models=[self.model], workers=workers), demand=self.demand
            )
            found = self.autoscaler.look(snapshot, self._traffic(), samples, self.now)
        return {one.role: one for one in found}

    def follow(self, found):
        """Does what was decided."""
        scales = {one.role: one for one in self.model.scales}
        for role, one in found.items():
            scales[role] = RoleScale(
                variant=one.variant, role=role, workers=one.workers, reason="", at=self.now
            )
        self.model = msgspec.structs.replace(self.model, scales=tuple(scales.values()))

    def _count(self, role):
        (variant,) = self.model.spec.variants
        spec = dict(variant.topology.roles())[role]
        scaled = [one.workers for one in self.model.scales if one.role is role]
        return scaled[0] if scaled else spec.workers

    def _traffic(self):
        if self.ttft_s is None and self.tpot_s is None:
            return ()
        row = Traffic(
            at=self.now - SLOT_S,
            gateway="g",
            model="m",
            variant="default",
            revision=1,
            requests=20,
            prompt_tokens=20_000,
            ttft=Latencies.of((self.ttft_s or 0.01,) * 20),
            tpot=Latencies.of((self.tpot_s or 0.001,) * 20),
        )
        return (row,)


def pair(*, prefill=2, decode=2, bounds=None, ratio=None):
    bounds = {"workers_max": 8, "stable_s": STABLE_S} | (bounds or {})
    return {
        "type": "disaggregated",
        "prefill": {"workers": prefill, "autoscale": bounds},
        "decode": {"workers": decode, "autoscale": bounds},
        "ratio": ratio or {},
    }


def full(usage, **more):
    return EngineMetrics(kv_cache_usage=usage, requests_running=1, **more)


def test_full_caches_ask_for_decode_workers_alone():
    world = World(pair())
    world.metrics["decode"] = full(0.91)

    found = world.look()

    assert found.keys() == {Role.DECODE}
    assert found[Role.DECODE].workers == 3
    assert found[Role.DECODE].reason == "KV caches are 91 % full (at most 80 %)"


def test_waiting_prompts_ask_for_prefill_workers_alone():
    world = World(pair())
    world.ttft_s = 0.1
    world.metrics["prefill"] = EngineMetrics(requests_running=1, requests_waiting=20)

    found = world.look()

    assert found.keys() == {Role.PREFILL}
    assert found[Role.PREFILL].workers == 4  # twice as many at most, though it is 2.4 times as much
    assert found[Role.PREFILL].reason.startswith("20,000 prompt tokens wait for each worker")


def test_what_waits_at_the_gateways_counts_while_it_is_news():
    world = World(pair())
    queue = Demand(at=0.0, gateway="g", model="m", queued=20, queued_prompt_tokens=20_000)
    world.demand = (msgspec.structs.replace(queue, at=world.now),)
    assert world.look()[Role.PREFILL].workers == 3

    world.now += 20
    assert world.look() == {}


def test_a_queue_before_full_decode_workers_is_theirs():
    world = World(pair(), limits={"in_flight_per_worker": 8})
    world.metrics["decode"] = EngineMetrics(requests_running=8, kv_cache_usage=0.3)
    world.demand = (
        Demand(at=world.now, gateway="g", model="m", queued=8, queued_prompt_tokens=99_999),
    )

    found = world.look()

    assert found.keys() == {Role.DECODE}
    assert found[Role.DECODE].workers == 3
    assert "8 requests at each worker (at most 8), 8 wait" in found[Role.DECODE].reason


@pytest.mark.parametrize(
    ("ttft_s", "tpot_s", "role", "reason"),
    [
        (1.4, 0.01, Role.PREFILL, "TTFT is 1.4 s at the 90th percentile (at most 1.0 s)"),
        (0.1, 0.07, Role.DECODE, "TPOT is 70 ms at the 90th percentile (at most 50 ms)"),
    ],
)
def test_a_missed_target_asks_for_who_can_help(ttft_s, tpot_s, role, reason):
    world = World(pair(), slo={"ttft_s": 1.0, "tpot_s": 0.05})
    world.ttft_s, world.tpot_s = ttft_s, tpot_s

    found = world.look()

    assert found.keys() == {role}
    assert found[role].workers == 3
    assert found[role].reason == reason


def test_first_tokens_that_full_decode_workers_hold_up_are_no_matter_of_prefill():
    world = World(pair(), slo={"ttft_s": 1.0})
    world.ttft_s = 1.4
    world.metrics["decode"] = full(0.95)

    assert world.look().keys() == {Role.DECODE}


def test_too_few_requests_have_no_percentile():
    world = World(pair(), slo={"ttft_s": 1.0})
    world.ttft_s = 3.0
    few = msgspec.structs.replace(world._traffic()[0], ttft=Latencies.of((3.0,) * 9))
    world._traffic = lambda: (few,)

    assert world.look() == {}


def test_nothing_more_is_asked_for_while_workers_come_up():
    world = World(pair())
    world.metrics["decode"] = full(0.99)
    world.metrics["prefill"] = EngineMetrics(requests_running=1, requests_waiting=20)
    world.ttft_s = 0.1
    world.unready = 1
    assert world.look(20) == {}

    world.unready = 0
    assert world.look().keys() == {Role.PREFILL, Role.DECODE}


def test_bounds_hold():
    world = World(pair(bounds={"workers_max": 3, "workers_min": 2}))
    world.metrics["decode"] = full(1.0)
    world.follow(world.look())
    assert world._count(Role.DECODE) == 3
    assert world.look() == {}

    world.metrics = dict(IDLE)
    for _ in range(20):
        world.follow(world.look(20))
    assert (world._count(Role.PREFILL), world._count(Role.DECODE)) == (2, 2)


def test_a_worker_goes_when_the_load_has_long_fitted_what_stays():
    world = World(pair(prefill=1, decode=4))
    world.metrics["decode"] = full(0.45)  # of 4 workers: 2.25 at their target, 2.4 would do

    assert world.look(int(STABLE_S / 5)) == {}
    found = world.look()

    assert found.keys() == {Role.DECODE}
    assert found[Role.DECODE].workers == 3
    assert found[Role.DECODE].reason == (
        "the load of the last 300 s would fill 2.2 workers, at most 2.4 of the 3 that stay"
    )
    world.follow(found)
    world.metrics["decode"] = full(0.6)
    assert world.look(100) == {}


def test_one_at_a_time():
    world = World(pair(prefill=1, decode=8))
    world.look(int(STABLE_S / 5))
    seen = []
    for _ in range(24):
        found = world.look()
        world.follow(found)
        seen += [one.workers for one in found.values()]

    assert seen == [7, 6]


def test_a_short_peak_keeps_workers_for_as_long_as_it_is_remembered():
    world = World(pair(prefill=1, decode=4))
    world.look(40)
    world.metrics["decode"] = full(0.7)
    world.look()
    world.metrics = dict(IDLE)

    assert world.look(int(STABLE_S / 5)) == {}
    assert world.look()


def test_what_was_not_seen_may_have_been_anything():
    world = World(pair(prefill=1, decode=4))
    world.look(59)
    world.missing = {Role.DECODE}
    assert world.look() == {}
    world.missing = set()

    assert world.look(int(STABLE_S / 5)) == {}
    assert world.look(2)


def test_engines_that_generate_without_a_word_of_it_from_the_gateways_keep_their_workers():
    world = World(pair(prefill=1, decode=4))
    tokens = iter(range(10_000))
    for _ in range(100):
        world.metrics["decode"] = EngineMetrics(generation_tokens=next(tokens))
        first = Sample(at=world.now - 60, metrics=EngineMetrics())
        workers = workers_of(world.model, ready_at=0.0)
        world.now += 5
        samples = {
            one.id: (first, Sample(at=world.now, metrics=world.metrics[one.plan.role]))
            for one in workers
        }
        snapshot = a_snapshot(models=[world.model], workers=workers)
        assert world.autoscaler.look(snapshot, (), samples, world.now) == ()


def test_nobody_goes_during_a_rollout_nor_soon_after_somebody_changed_the_model():
    world = World(pair(prefill=1, decode=4))
    rollout = Rollout(
        model="m",
        from_revision=1,
        to_revision=2,
        base=world.model.spec,
        policy=RolloutPolicy(),
        state=RolloutState.PROGRESSING,
        step=0,
        percent=0,
        step_at=0.0,
        reason="",
        created_at=0.0,
        ended_at=None,
    )
    steady = world.model
    world.model = msgspec.structs.replace(steady, rollout=rollout)
    assert world.look(100) == {}
    world.model = msgspec.structs.replace(steady, updated_at=world.now - 100)
    assert world.look(30) == {}
    assert world.look(20)


@pytest.mark.parametrize("phase", [Phase.FALLING_ASLEEP, Phase.ASLEEP, Phase.WAKING])
def test_a_sleeping_model_is_left_alone_and_so_for_a_while_when_it_wakes(phase):
    world = World(pair(prefill=1, decode=4))
    world.unready, world.unready_phase = 1, phase
    assert world.look(100) == {}
    world.unready = 0

    assert world.look(int(STABLE_S / 5)) == {}
    assert world.look()


def test_a_quick_target_lets_workers_go_though_idle_ones_are_not_much_quicker():
    world = World(pair(prefill=1, decode=2), slo={"tpot_s": 0.05})
    world.tpot_s = 0.035

    world.look(int(STABLE_S / 5))

    assert world.look()[Role.DECODE].workers == 1


def test_a_unified_worker_is_asked_for_by_either():
    bounds = {"workers_max": 8, "stable_s": STABLE_S}
    world = World({"type": "aggregated", "workers": 2, "autoscale": bounds})
    world.metrics["unified"] = full(0.9)
    assert world.look()[Role.UNIFIED].workers == 3
    world.metrics["unified"] = EngineMetrics(requests_running=1, requests_waiting=30)
    world.ttft_s = 0.1
    assert world.look()[Role.UNIFIED].workers == 4


def test_unified_workers_that_answer_all_the_time_are_not_short_of_workers_for_that():
    bounds = {"workers_max": 8, "stable_s": STABLE_S}
    world = World({"type": "aggregated", "workers": 4, "autoscale": bounds})
    world.ttft_s = 0.1
    tokens = iter(range(0, 10**9, 5_000))
    for _ in range(int(STABLE_S / 5) + 1):
        counts = EngineMetrics(requests_running=3, prompt_tokens=next(tokens), kv_cache_usage=0.1)
        world.metrics["unified"] = counts
        found = world.look()
        assert not found or found[Role.UNIFIED].workers == 3

    assert found[Role.UNIFIED].workers == 3, "one goes, though all of them always have answers"


def test_the_other_role_grows_along_where_the_ratio_asks_for_it():
    world = World(pair(prefill=2, decode=1, ratio={"min": 2, "max": 2}))
    world.metrics["decode"] = full(0.9)

    found = world.look()

    assert {role: one.workers for role, one in found.items()} == {Role.PREFILL: 4, Role.DECODE: 2}
    assert found[Role.PREFILL].reason == "each decode worker has at least 2 for prefill"


def test_a_role_that_cannot_grow_holds_the_other_one_back():
    world = World(pair(prefill=8, decode=4, ratio={"min": 2}))
    world.metrics["decode"] = full(0.9)

    assert world.look() == {}


def test_neither_shrinks_out_of_the_ratio_alone():
    world = World(pair(prefill=4, decode=2, ratio={"min": 2, "max": 2}))
    world.look(int(STABLE_S / 5))

    found = world.look()

    assert {role: one.workers for role, one in found.items()} == {Role.PREFILL: 2, Role.DECODE: 1}


def test_models_that_went_are_forgotten():
    world = World(pair(prefill=1, decode=4))
    world.look(100)
    world.autoscaler.look(a_snapshot(), (), {}, world.now)

    assert world.look() == {}
