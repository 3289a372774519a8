"""Workers fall asleep and wake up under a whole controller, in both ways, whatever is killed."""

from collections.abc import Callable

import pytest
from sleep_world import (
    ME,
    Fuse,
    KilledError,
    OneNode,
    World,
    a_spec,
    all_are,
    phases,
)

from pipelines import drains, sleeping
from registry.state import Phase, Quota, SleepMode, Snapshot
from registry.store import Store

LIGHTLY = {"idle": {"after_s": 60, "then": "sleep"}}
STOPPED = {"idle": {"after_s": 60, "then": "stop"}}
BOTH = pytest.mark.parametrize("idle", [LIGHTLY, STOPPED], ids=["told", "stopped"])


async def ready(live_store: Store, node: OneNode, idle: dict) -> World:
    """A model whose worker serves, in a world whose gateways have last asked for it just now."""
    await live_store.apply_model(a_spec(**idle), by=ME)
    world = World(live_store, node)
    await world.turns(all_are(Phase.READY))
    return world


async def fall_asleep(live_store: Store) -> None:
    """As if nobody had asked for long."""
    (worker,) = await live_store.workers()
    then = (await live_store.model("m")).spec.idle.then
    mode = SleepMode.STOPPED if then == "stop" else SleepMode.WEIGHTS_ON_HOST
    await live_store.sleep_worker(worker.id, mode, reason="not asked for")


def claimed(snapshot: Snapshot) -> int:
    return sum(claim.memory_bytes for claim in snapshot.claims)


@BOTH
async def test_a_worker_falls_asleep_holds_less_and_wakes_once_for_all_who_ask(
    live_store: Store, node: OneNode, idle: dict
) -> None:
    world = await ready(live_store, node, idle)
    (before,) = await live_store.workers()
    await fall_asleep(live_store)
    asleep = await world.turns(all_are(Phase.ASLEEP))
    emulated = node.workers.get(before.id)
    if idle is STOPPED:
        assert (emulated, claimed(asleep)) == (None, 0)
    else:
        assert emulated is not None
        assert emulated.engine._rest.refuses("/v1/completions")
        assert claimed(asleep) == 64 * 2**20

    await world.ask(queued=20)
    awake = await world.turns(all_are(Phase.READY))

    assert [worker.id for worker in awake.workers] == [before.id]
    assert node.starts == [before.id] * (2 if idle is STOPPED else 1)
    assert claimed(awake) == 2**30
    assert not node.workers[before.id].engine._rest.refuses("/v1/completions")


@BOTH
async def test_nothing_moves_while_it_is_asleep_and_nobody_asks(
    live_store: Store, node: OneNode, idle: dict
) -> None:
    world = await ready(live_store, node, idle)
    await fall_asleep(live_store)
    await world.turns(all_are(Phase.ASLEEP))
    turns = iter(range(20))
    before = await live_store.version()
    await world.turns(lambda _: next(turns) == 19)
    later = [event for event in await live_store.events(after=before) if event.worker]
    assert later == []


def steps(kills: int) -> list[tuple[int, bool]]:
    return [(left, behind) for left in range(1, kills + 1) for behind in (False, True)]


@BOTH
@pytest.mark.parametrize(("left", "behind"), steps(5))
async def test_a_controller_killed_at_any_step_costs_time_and_nothing_else(
    live_store: Store, node: OneNode, idle: dict, left: int, behind: bool
) -> None:
    """Killed before and behind each of its writes, again and again until none is left."""
    world = await ready(live_store, node, idle)
    (before,) = await live_store.workers()

    async def through(reached: Callable[[Snapshot], bool]) -> None:
        fuse = Fuse(live_store, left, behind=behind)
        try:
            await world.turns(reached, store=fuse)
        except KilledError:
            await world.turns(reached)

    await fall_asleep(live_store)
    await through(all_are(Phase.ASLEEP))
    await world.ask()
    await through(all_are(Phase.READY))
    assert [worker.id for worker in await live_store.workers()] == [before.id]
    assert node.starts == [before.id] * (2 if idle is STOPPED else 1)
    assert claimed(await live_store.snapshot()) == 2**30


@BOTH
async def test_one_that_has_work_finishes_it_first(
    live_store: Store, node: OneNode, idle: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await ready(live_store, node, idle)
    busy = iter([False] * 5)

    async def is_idle(*_: object) -> bool:
        return next(busy, True)

    monkeypatch.setattr(drains, "is_idle", is_idle)
    await fall_asleep(live_store)
    (worker,) = await live_store.workers()
    turns = iter(range(5))
    await world.turns(lambda _: next(turns) == 4)
    assert (await live_store.worker(worker.id)).phase is Phase.FALLING_ASLEEP
    assert node.workers[worker.id].phase is Phase.STARTING, "it runs"
    await world.turns(all_are(Phase.ASLEEP))


async def test_one_that_stays_busy_is_cut_sooner_for_who_has_a_higher_priority(
    live_store: Store, node: OneNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that is evicted is: it could be, if it did not fall asleep already."""
    world = await ready(live_store, node, STOPPED)

    async def is_idle(*_: object) -> bool:
        return False

    monkeypatch.setattr(drains, "is_idle", is_idle)
    monkeypatch.setattr(sleeping, "EVICTION_MAX_S", 0.2)
    await fall_asleep(live_store)
    await live_store.apply_model(a_spec("urgent", priority=200), by=ME)
    await world.turns(lambda seen: sorted(phases(seen)) == ["asleep", "ready"])


async def test_an_engine_that_refuses_to_sleep_is_stopped_instead(
    live_store: Store, node: OneNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await ready(live_store, node, LIGHTLY)
    (worker,) = await live_store.workers()
    monkeypatch.setattr(sleeping, "FALL_S_MAX", 0.2)
    node.workers[worker.id].engine._routes.pop("/sleep")
    await fall_asleep(live_store)
    snapshot = await world.turns(all_are(Phase.ASLEEP))
    (asleep,) = snapshot.workers
    assert asleep.sleep_mode is SleepMode.STOPPED
    assert "stopped, as its engine does not fall asleep" in asleep.reason
    assert "/sleep: 404" in asleep.reason


async def test_one_that_does_not_wake_has_failed_and_its_slot_is_placed_anew(
    live_store: Store, node: OneNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await ready(live_store, node, LIGHTLY)
    (worker,) = await live_store.workers()
    await fall_asleep(live_store)
    await world.turns(all_are(Phase.ASLEEP))
    monkeypatch.setattr(sleeping, "WAKE_S_MAX", 2.0)
    node.workers[worker.id].engine._routes.pop("/wake_up")
    await world.ask()
    snapshot = await world.turns(
        lambda seen: all_are(Phase.READY)(seen) and seen.workers[0].id != worker.id
    )
    gone = next(one for one in snapshot.ended if one.id == worker.id)
    assert gone.phase is Phase.FAILED, "so that back-off holds the next one back"
    assert gone.reason.startswith("did not wake within")
    assert "/wake_up: 404" in gone.reason


async def test_who_cannot_wake_says_why_until_it_can(live_store: Store, node: OneNode) -> None:
    world = await ready(live_store, node, STOPPED)
    await fall_asleep(live_store)
    await world.turns(all_are(Phase.ASLEEP))
    await live_store.put_quota(Quota(owner="default", devices=0), by=ME)
    await world.ask()
    await world.turns(
        lambda seen: "cannot wake now: owner default may hold 0" in seen.models[0].condition
    )
    await live_store.delete_quota("default", by=ME)
    snapshot = await world.turns(all_are(Phase.READY))
    await world.turns(lambda seen: seen.models[0].condition == "")
    assert snapshot.ended == ()


async def test_an_engine_that_dies_asleep_has_failed_and_comes_back(
    live_store: Store, node: OneNode
) -> None:
    world = await ready(live_store, node, LIGHTLY)
    (worker,) = await live_store.workers()
    await fall_asleep(live_store)
    await world.turns(all_are(Phase.ASLEEP))
    await node.workers[worker.id].end(Phase.FAILED, "exited with code 1")
    snapshot = await world.turns(all_are(Phase.READY))
    assert [one.phase for one in snapshot.ended] == [Phase.FAILED]


@BOTH
async def test_a_sleeper_on_a_lost_node_is_lost(
    live_store: Store, node: OneNode, idle: dict
) -> None:
    world = await ready(live_store, node, idle)
    await fall_asleep(live_store)
    await world.turns(all_are(Phase.ASLEEP))
    node.answers = False
    world.node_lost_s = 0.1
    snapshot = await world.turns(lambda seen: not seen.workers)
    assert [one.phase for one in snapshot.ended] == [Phase.LOST]


@BOTH
async def test_a_deleted_models_sleeper_goes(live_store: Store, node: OneNode, idle: dict) -> None:
    world = await ready(live_store, node, idle)
    await fall_asleep(live_store)
    await world.turns(all_are(Phase.ASLEEP))
    await live_store.delete_model("m", by=ME)
    await world.turns(lambda seen: phases(seen) == [] and not node.workers)
