"""What those see who look: worked out once for all of them, and read only when it is new."""

import asyncio
from collections import Counter

import msgspec
import pytest
from fleets import a_device, a_node, a_snapshot, disaggregated, rolling_out, unified, workers_of

from gateway.admin.live.flow import traffic_percents
from gateway.admin.live.look import changes
from gateway.admin.live.past import Past
from gateway.admin.live.rates import summed, window_end
from gateway.admin.live.seen import EngineWatch, Seen
from gateway.admin.live.standing import standing
from gateway.snapshots import Snapshots
from pipelines.engines.base import EngineMetrics
from registry.errors import NotFoundError
from registry.state import Claim, Phase
from registry.traffic import SLOT_S, TRAFFIC_KEPT_S, Demand, Traffic

NOW = 1_000_003.0
change = msgspec.structs.replace


def told(at, model="m", **facts) -> Traffic:
    return Traffic(at=at, gateway="g", model=model, variant="default", revision=1, **facts)


class Registry:
    """A store that counts how often it is read."""

    def __init__(self, *models):
        self.reads = Counter()
        self.rows = []
        self.waits = ()
        self.put(*models)

    def put(self, *models, version=1, **parts):
        workers = [worker for model in models for worker in workers_of(model)]
        self.state = a_snapshot(models=models, workers=workers, version=version, **parts)

    async def version(self):
        return self.state.version

    async def snapshot(self):
        self.reads["snapshot"] += 1
        await asyncio.sleep(0)
        return self.state

    async def proposals(self):
        return ()

    async def lease(self):
        return None

    async def demand(self):
        self.reads["demand"] += 1
        return self.waits

    async def traffic(self, since, *, until=float("inf")):
        self.reads["traffic"] += 1
        self.reads["rows"] += len(rows := [r for r in self.rows if since <= r.at < until])
        return tuple(rows)


@pytest.fixture
def registry():
    return Registry(unified("m"), unified("n"))


class Clock:
    now = NOW

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def seen(registry, clock):
    return Seen(registry, Snapshots(registry, clock), clock)


async def test_all_who_look_at_once_share_one_look(registry, seen):
    looks = await asyncio.gather(*(seen.look() for _ in range(20)))
    assert all(look is looks[0] for look in looks)
    assert registry.reads == {"snapshot": 1, "demand": 1, "traffic": 1, "rows": 0}


async def test_what_was_written_is_seen_at_once(registry, seen):
    await seen.look()
    registry.put(unified("other"), version=2)
    assert list((await seen.look()).summaries) == ["other"]
    assert (await seen.look()).standing.snapshot.version == 2
    assert registry.reads["snapshot"] == 2


async def test_what_moves_no_version_is_read_again_after_a_while(registry, seen, clock):
    registry.put(unified("m"), devices=[a_device("a", 0, used_bytes=1)])
    assert (await seen.look()).overview.fleet.used_bytes == 1
    registry.put(unified("m"), devices=[a_device("a", 0, used_bytes=2)])
    clock.now += 5
    assert (await seen.look()).overview.fleet.used_bytes == 1
    clock.now += 5
    assert (await seen.look()).overview.fleet.used_bytes == 2


async def test_traffic_is_read_once_a_slot_and_demand_every_second(registry, seen, clock):
    end = window_end(NOW)
    registry.rows = [told(end - SLOT_S, requests=30), told(end - SLOT_S, "gone", requests=9)]
    registry.waits = (Demand(at=NOW, gateway="g", model="m", queued=2, in_flight=1),)
    look = await seen.look()
    assert look.summaries["m"].rates.requests_per_s == 1.0
    assert look.summaries["m"].rates.queued == 2
    assert look.summaries["n"].rates.in_flight == 0
    assert look.overview.rates.requests_per_s == 1.0, "of models that are there"
    assert look.overview.rates.in_flight == 1
    registry.waits = ()
    clock.now += 1
    assert (await seen.look()).summaries["m"].rates.queued == 0
    assert (registry.reads["demand"], registry.reads["traffic"]) == (2, 1)
    clock.now += SLOT_S
    await seen.look()
    assert registry.reads["traffic"] == 2


async def test_summaries_that_stay_the_same_are_the_same(registry, seen, clock):
    before = (await seen.look()).summaries
    clock.now += 2
    registry.waits = (Demand(at=clock.now, gateway="g", model="m", in_flight=1),)
    now = (await seen.look()).summaries
    assert now["n"] is before["n"]
    event = changes(before, now)
    assert ([one.name for one in event.items], event.removed, event.whole) == (["m"], (), False)
    assert changes(now, now) is None
    assert changes(before, {"n": now["n"]}).removed == ("m",)
    first = changes(None, now)
    assert ([one.name for one in first.items], first.whole) == (["m", "n"], True)


def test_only_the_models_that_changed_are_planned_again():
    one, two = unified("m"), unified("n")
    workers = [*workers_of(one), *workers_of(two)]
    before = standing(a_snapshot(models=[one, two], workers=workers), ())
    lost = standing(a_snapshot(models=[one, two], workers=workers[:1]), (), before)
    assert lost.statuses["m"] is before.statuses["m"]
    assert (lost.states["n"], before.states["n"]) == ("unavailable", "ready")
    changed = change(one, condition="why")
    assert standing(a_snapshot(models=[changed], workers=workers), (), before).models == {
        "m": changed
    }


def test_counts_say_who_answers_sleeps_and_fails():
    models = [unified(name) for name in ("ready", "asleep", "failing", "deleted")]
    models[3] = change(models[3], deleted=True)
    workers = [*workers_of(models[0]), *workers_of(models[1], Phase.ASLEEP)]
    claims = [Claim(worker_id=workers[0].id, device_id="a/cpu0", memory_bytes=5)]
    stands = standing(
        a_snapshot(
            models=models,
            workers=workers,
            nodes=[a_node("a")],
            devices=[a_device("a", n, memory_bytes=10, used_bytes=3) for n in range(2)],
            claims=claims,
        ),
        (),
    )
    counts, fleet = stands.counts, stands.fleet
    assert (counts.models, counts.answering, counts.asleep, counts.failing) == (3, 1, 1, 1)
    assert (counts.workers_live, counts.workers_ready, counts.nodes_ready) == (2, 1, 1)
    assert (fleet.devices, fleet.devices_claimed, fleet.claimed_bytes) == (2, 1, 5)
    assert (fleet.memory_bytes, fleet.used_bytes) == (20, 6)
    assert stands.devices == {workers[0].id: ("a/cpu0",)}


# --- flow


def test_the_shown_share_of_the_traffic_is_the_one_that_is_routed():
    old, new = unified("m"), unified("m", args={"seed": 1})
    rolling = rolling_out(old, new, 25)
    both = [*workers_of(old), *workers_of(change(new, revision=2))]
    assert traffic_percents(rolling, both) == {"default": 100.0}
    (variant,) = old.spec.variants
    variants = (change(variant, name="a", weight=90), change(variant, name="b", weight=10))
    split = change(old, spec=change(old.spec, variants=variants))
    workers = workers_of(split)
    assert traffic_percents(split, workers) == {"a": 90.0, "b": 10.0}
    assert traffic_percents(split, workers[1:]) == {"b": 100.0}, "who cannot serve takes none"
    assert traffic_percents(split, []) == {}


async def test_a_flow_has_what_its_workers_engines_count(clock):
    registry = Registry(disaggregated("m", decode=2))
    end = window_end(NOW)
    registry.rows = [told(end - SLOT_S, requests=60, paired=30)]
    seen = Seen(registry, Snapshots(registry, clock), clock)
    counts = {}

    async def ask(workers):
        return {worker.id: counts[worker.id] for worker in workers if worker.id in counts}

    watch = EngineWatch(ask, clock)
    look = await seen.look()
    prefill, first, silent = look.standing.workers["m"]

    async def flow():
        look = await seen.look()
        return look.flow("m", await watch.paces("m", look.standing.workers["m"]))

    counts[prefill.id] = EngineMetrics(prompt_tokens=10, requests_running=3)
    counts[first.id] = EngineMetrics(kv_transfers=1, kv_cache_usage=0.5)
    (variant,) = (await flow()).variants
    assert variant.kv_transfers_per_s is None, "before two looks"
    clock.now += 2
    counts[prefill.id] = EngineMetrics(prompt_tokens=30, requests_running=3)
    counts[first.id] = EngineMetrics(kv_transfers=9, kv_transfer_failures=2, kv_cache_usage=0.5)
    (variant,) = (await flow()).variants
    assert (variant.paired_per_s, variant.percent, variant.rates.queued) == (1.0, 100.0, None)
    assert (variant.kv_transfers_per_s, variant.kv_failures_per_s) == (4.0, 1.0)
    by_id = {worker.id: worker for worker in variant.workers}
    assert (by_id[prefill.id].running, by_id[prefill.id].prompt_tokens_per_s) == (3, 10.0)
    assert by_id[first.id].kv_usage == 0.5
    assert (by_id[silent.id].running, by_id[silent.id].requests_per_s) == (None, None)
    del counts[first.id]
    clock.now += 2
    by_id = {worker.id: worker for worker in (await flow()).variants[0].workers}
    assert by_id[first.id].kv_usage is None, "what it counted before says nothing of now"
    with pytest.raises(NotFoundError):
        look.flow("nobody", {})


async def test_engines_are_asked_once_however_many_look(clock):
    asked = []

    async def ask(workers):
        asked.append(len(workers))
        await asyncio.sleep(0)
        return {worker.id: EngineMetrics() for worker in workers}

    watch = EngineWatch(ask, clock)
    workers = workers_of(unified("m", workers=3))
    seen = await asyncio.gather(*(watch.paces("m", workers) for _ in range(9)))
    assert asked == [3]
    assert all(len(paces) == 3 for paces in seen)
    clock.now += 1
    await watch.paces("m", workers)
    assert asked == [3]
    clock.now += 1
    await watch.paces("m", workers)
    assert asked == [3, 3]


# --- the last hour of all models


async def test_the_past_is_read_once_but_for_its_newest_slots(registry):
    until = window_end(NOW)
    since = until - TRAFFIC_KEPT_S
    registry.rows = [
        told(at, name, requests=1)
        for at in (since, since + 5, until - 600, until - SLOT_S, until)
        for name in ("m", "n", "gone")
    ]
    past = Past(registry)
    models = {model.name: model for model in registry.state.models}
    sums = await past.sums(since, until, models)
    assert len(sums) == TRAFFIC_KEPT_S / SLOT_S
    assert list(sums) == sorted(sums)
    assert summed(tuple(sums.values())).requests == 8
    registry.reads.clear()
    assert await past.sums(since, until, models) == sums
    assert registry.reads["rows"] == 3, "those that may have been told of late"
    assert registry.reads["traffic"] <= 6
    later = await past.sums(since + 60, until + 60, models)
    assert summed(tuple(later.values())).requests == 6
