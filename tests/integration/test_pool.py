"""Three models of a pool on a device that fits two of them awake, under a whole controller."""

import pytest
from sleep_world import DEVICE, ME, OneNode, World, a_spec

from registry.spec import ModelSpec, from_data
from registry.state import Phase, Pool, Snapshot
from registry.store import Store

NAMES = ("one", "two", "three")
UP = {Phase.ASSIGNED, Phase.PREPARING, Phase.STARTING, Phase.WAKING, Phase.READY}


def pooled(name: str, then: str) -> ModelSpec:
    """Awake it takes 448 of 1,024 MiB, and 64 where it sleeps lightly."""
    topology = {"type": "aggregated", "memory": "448MiB"}
    return a_spec(
        name,
        pool="tail",
        idle={"then": then},
        variants=[{"engine": "emulator", "topology": topology}],
    )


def of(snapshot: Snapshot) -> dict[str, Phase]:
    return {worker.plan.model: worker.phase for worker in snapshot.workers}


def held(until):
    """The same, while it holds at every turn that nothing is oversold and at most two are up."""

    def look(snapshot: Snapshot) -> bool:
        assert sum(claim.memory_bytes for claim in snapshot.claims) <= DEVICE.memory_bytes
        assert sum(phase in UP for phase in of(snapshot).values()) <= 2
        return until(of(snapshot))

    return look


@pytest.mark.parametrize("then", ["stop", "sleep"])
async def test_all_three_are_served_in_turn_and_never_more_than_two_are_awake(
    live_store: Store, node: OneNode, then: str
) -> None:
    await live_store.put_pool(Pool(name="tail", overcommit=2.0, awake_min_s=0.0), by=ME)
    for name in NAMES:
        await live_store.apply_model(pooled(name, then), by=ME)
    world = World(live_store, node)

    first = await world.turns(
        held(lambda phases: sorted(phases.values()) == ["asleep", "ready", "ready"])
    )

    (sleeper,) = (name for name, phase in of(first).items() if phase is Phase.ASLEEP)
    assert len(node.starts) == 2, "who is placed asleep is not started"
    for name in (sleeper, *NAMES, *NAMES):
        await world.ask(name, queued=3)
        await world.turns(held(lambda phases, name=name: phases[name] is Phase.READY))
        await world.ask(name, queued=0)
    assert {worker.id for worker in (await live_store.snapshot()).workers} == {
        worker.id for worker in first.workers
    }, "they wake where they lie"


async def test_one_that_finds_no_place_asleep_says_so(live_store: Store, node: OneNode) -> None:
    await live_store.put_pool(Pool(name="tail", overcommit=1.0), by=ME)
    for name in NAMES:
        await live_store.apply_model(pooled(name, "stop"), by=ME)

    snapshot = await World(live_store, node).turns(
        lambda snapshot: sorted(of(snapshot).values()) == ["ready", "ready"]
    )

    conditions = [model.condition for model in snapshot.models if model.condition]
    assert len(conditions) == 1
    assert "no place" in conditions[0]


async def test_one_of_no_pool_takes_the_room_of_sleepers(live_store: Store, node: OneNode) -> None:
    await live_store.put_pool(Pool(name="tail", overcommit=2.0, awake_min_s=0.0), by=ME)
    for name in NAMES:
        await live_store.apply_model(pooled(name, "stop"), by=ME)
    world = World(live_store, node)
    await world.turns(lambda s: sorted(of(s).values()) == ["asleep", "ready", "ready"])

    topology = {"type": "aggregated", "memory": "576MiB"}
    spec = {
        "name": "other",
        "source": "file:///x",
        "priority": 200,
        "variants": [{"engine": "emulator", "topology": topology}],
    }
    await live_store.apply_model(from_data(spec), by=ME)
    await world.turns(lambda s: of(s).get("other") is Phase.READY)

    for name in NAMES:
        await world.ask(name)
        await world.turns(lambda s, name=name: of(s).get(name) is Phase.READY)
        await world.ask(name, queued=0)


async def test_room_made_for_a_waiter_is_not_taken_by_who_was_refused_before(
    live_store: Store, node: OneNode
) -> None:
    await live_store.put_pool(Pool(name="tail", overcommit=2.0, awake_min_s=0.0), by=ME)
    for name in NAMES:
        await live_store.apply_model(pooled(name, "stop"), by=ME)
    world = World(live_store, node)
    first = await world.turns(lambda s: sorted(of(s).values()) == ["asleep", "ready", "ready"])
    (sleeper,) = (name for name, phase in of(first).items() if phase is Phase.ASLEEP)
    topology = {"type": "aggregated", "memory": "448MiB"}
    other = a_spec("other", variants=[{"engine": "emulator", "topology": topology}])
    await live_store.apply_model(other, by=ME)
    await world.turns(lambda s: any("no place" in m.condition for m in s.models))

    await world.ask(sleeper)
    last = await world.turns(lambda s: Phase.READY is of(s)[sleeper] or "other" in of(s))

    assert "other" not in of(last)
    assert sorted(of(last).values()) == ["asleep", "ready", "ready"], "one has slept for it"
