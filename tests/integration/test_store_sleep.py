"""Workers that sleep, in `registry.store`: what they hold, and what brings them back."""

import asyncio

import msgspec
import pytest
from registry_world import DEVICE_BYTES, ME, Clock, device, gang, planned, report, serving, spec

from registry.errors import NotFoundError, PlanConflictError
from registry.state import NodeState, Phase, Quota, SleepMode, Worker
from registry.store import Store

LIGHTLY = SleepMode.WEIGHTS_ON_HOST


async def ready(store: Store, worker: Worker) -> Worker:
    return await store.set_worker(worker.id, Phase.READY, url="http://127.0.0.1:9", kv_port=7)


async def asleep(store: Store, worker: Worker, mode=SleepMode.STOPPED, held=0) -> Worker:
    await ready(store, worker)
    await store.sleep_worker(worker.id, mode, reason="no request for 60 s")
    return await store.worker_sleeps(worker.id, {"n/cpu0": held} if held else {})


async def claimed(store: Store) -> list[tuple[str, int]]:
    """What each device says, held against the claims themselves."""
    snapshot = await store.snapshot()
    sums = {device.id: 0 for device in snapshot.devices}
    for claim in snapshot.claims:
        sums[claim.device_id] += claim.memory_bytes
    return sorted(sums.items())


@pytest.mark.parametrize(("mode", "held"), [(SleepMode.STOPPED, 0), (LIGHTLY, 30)])
async def test_asleep_it_holds_less_and_awake_what_it_had(
    store: Store, clock: Clock, mode: SleepMode, held: int
) -> None:
    worker = await serving(store)
    await ready(store, worker)
    version = await store.version()

    falling = await store.sleep_worker(worker.id, mode, reason="idle")
    assert (falling.phase, falling.sleep_mode, falling.url) == (
        Phase.FALLING_ASLEEP,
        mode,
        "http://127.0.0.1:9",
    )
    assert await claimed(store) == [("n/cpu0", DEVICE_BYTES), ("n/cpu1", 0)], "it runs still"

    clock.now = 1500.0
    sleeper = await store.worker_sleeps(worker.id, {"n/cpu0": held})
    assert (sleeper.phase, sleeper.reason, sleeper.turned_at) == (Phase.ASLEEP, "idle", 1500.0)
    assert (sleeper.url == "", sleeper.kv_port) == (
        mode is SleepMode.STOPPED,
        0 if mode is SleepMode.STOPPED else 7,
    )
    assert sleeper.has_process is (mode is LIGHTLY)
    assert await claimed(store) == [("n/cpu0", held), ("n/cpu1", 0)]

    clock.now = 1600.0
    woken = await store.wake_worker(worker.id, reason="asked for")
    assert (woken.phase, woken.sleep_mode, woken.begun_at) == (
        (Phase.ASSIGNED, SleepMode.AWAKE, 1600.0)
        if mode is SleepMode.STOPPED
        else (Phase.WAKING, LIGHTLY, 1600.0)
    )
    assert await claimed(store) == [("n/cpu0", DEVICE_BYTES), ("n/cpu1", 0)]

    awake = await ready(store, worker)
    assert (awake.phase, awake.sleep_mode, awake.ready_at) == (
        Phase.READY,
        SleepMode.AWAKE,
        1600.0,
    )
    assert [event.message for event in await store.events(after=version)] == [
        "falling-asleep: idle",
        "asleep: idle",
        f"{woken.phase}: asked for",
        "ready",
    ]


async def test_each_step_is_taken_from_where_it_leads_and_nowhere_else(store: Store) -> None:
    worker = await serving(store)
    for step in (
        store.sleep_worker(worker.id, LIGHTLY, reason="x"),
        store.worker_sleeps(worker.id, {}),
        store.wake_worker(worker.id, reason="x"),
    ):
        assert (await step).phase is Phase.ASSIGNED
    await ready(store, worker)
    assert (await store.worker_sleeps(worker.id, {})).phase is Phase.READY
    await store.sleep_worker(worker.id, LIGHTLY, reason="x")
    assert (await store.wake_worker(worker.id, reason="x")).phase is Phase.FALLING_ASLEEP
    await store.depart_worker(worker.id, reason="its node is drained")
    for call in (
        store.sleep_worker("nobody", LIGHTLY, reason="x"),
        store.worker_sleeps("nobody", {}),
        store.wake_worker("nobody", reason="x"),
    ):
        with pytest.raises(NotFoundError):
            await call


async def test_an_engine_that_falls_asleep_too_late_is_stopped_all_the_same(store: Store) -> None:
    worker = await serving(store)
    await ready(store, worker)
    await store.sleep_worker(worker.id, LIGHTLY, reason="idle")
    await store.sleep_worker(worker.id, SleepMode.STOPPED, reason="idle; it does not fall asleep")

    late = await store.worker_sleeps(worker.id, {"n/cpu0": 30}, mode=LIGHTLY)

    assert (late.phase, late.sleep_mode) == (Phase.FALLING_ASLEEP, SleepMode.STOPPED)
    assert await claimed(store) == [("n/cpu0", DEVICE_BYTES), ("n/cpu1", 0)], "its process is there"


async def test_who_is_started_to_wake_is_started_so_that_it_can_sleep_as_its_spec_says_now(
    store: Store,
) -> None:
    worker = await serving(store)
    assert not worker.plan.sleeps
    await asleep(store, worker)
    for idle, sleeps in (({"after_s": 60}, True), ({"after_s": 60, "then": "stop"}, False)):
        await store.apply_model(spec(idle=idle), by=ME)
        woken = await store.wake_worker(worker.id, reason="asked for")
        assert woken.plan.sleeps is sleeps
        assert woken.plan.fingerprint == worker.plan.fingerprint
        await asleep(store, worker)


async def test_who_is_told_to_wake_stays_as_it_was_started(store: Store) -> None:
    worker = await serving(store)
    await asleep(store, worker, LIGHTLY, held=30)
    await store.apply_model(spec(idle={"after_s": 60}), by=ME)
    assert (await store.wake_worker(worker.id, reason="asked for")).plan == worker.plan


async def test_one_that_sleeps_lightly_sleeps_on_without_a_process(store: Store) -> None:
    worker = await serving(store)
    await asleep(store, worker, LIGHTLY, held=30)

    falling = await store.sleep_worker(worker.id, SleepMode.STOPPED, reason="idle")
    assert (falling.phase, falling.sleep_mode) == (Phase.FALLING_ASLEEP, SleepMode.STOPPED)
    assert await claimed(store) == [("n/cpu0", 30), ("n/cpu1", 0)], "its process is there"

    sleeper = await store.worker_sleeps(worker.id, {}, mode=SleepMode.STOPPED)
    assert (sleeper.phase, sleeper.has_process) == (Phase.ASLEEP, False)
    assert await claimed(store) == [("n/cpu0", 0), ("n/cpu1", 0)]
    deaf = await store.sleep_worker(worker.id, LIGHTLY, reason="idle")
    assert (deaf.phase, deaf.sleep_mode) == (Phase.ASLEEP, SleepMode.STOPPED), "nobody to be told"
    assert (await store.wake_worker(worker.id, reason="asked for")).phase is Phase.ASSIGNED
    assert await claimed(store) == [("n/cpu0", DEVICE_BYTES), ("n/cpu1", 0)]


async def test_one_that_is_to_go_does_not_fall_asleep(store: Store) -> None:
    worker = await serving(store)
    await ready(store, worker)
    await store.depart_worker(worker.id, reason="its node is drained")
    told = await store.sleep_worker(worker.id, LIGHTLY, reason="idle")
    assert told.phase is Phase.READY


@pytest.mark.parametrize("phase", [Phase.ASSIGNED, Phase.STARTING, Phase.READY, Phase.WAKING])
@pytest.mark.parametrize("sleeps", [False, True])
async def test_a_probe_that_ends_late_wakes_nobody(
    store: Store, phase: Phase, sleeps: bool
) -> None:
    worker = await serving(store)
    await ready(store, worker)
    await store.sleep_worker(worker.id, LIGHTLY, reason="idle")
    if sleeps:
        await store.worker_sleeps(worker.id, {})
    before = await store.worker(worker.id)
    assert await store.set_worker(worker.id, phase) == before


async def test_nothing_that_is_seen_ends_a_sleeper_without_a_process(store: Store) -> None:
    worker = await asleep(store, await serving(store))
    for phase in (Phase.STOPPED, Phase.FAILED):
        assert await store.set_worker(worker.id, phase, reason="seen") == worker
    lost = await store.set_worker(worker.id, Phase.LOST, reason="its node is")
    assert lost.phase is Phase.LOST


@pytest.mark.parametrize("asked", [Phase.DRAINING, Phase.STOPPING])
async def test_a_sleeper_without_a_process_ends_at_once_when_it_is_to_go(
    store: Store, asked: Phase
) -> None:
    worker = await asleep(store, await serving(store))
    ended = await store.set_worker(worker.id, asked, reason="no longer wanted")
    assert (ended.phase, ended.reason) == (Phase.STOPPED, "no longer wanted")
    assert ended.ended_at is not None
    assert (await store.snapshot()).claims == ()


async def test_an_engine_that_sleeps_and_crashes_has_failed(store: Store) -> None:
    worker = await asleep(store, await serving(store), LIGHTLY, held=30)
    assert (await store.set_worker(worker.id, Phase.FAILED, reason="exit 9")).ended_at is not None
    assert await claimed(store) == [("n/cpu0", 0), ("n/cpu1", 0)]


async def two_sleepers(store: Store) -> tuple[Worker, Worker]:
    """Of two models, on one device that has room for one of them."""
    first = await asleep(store, await serving(store))
    await store.apply_model(spec("other"), by=ME)
    (second,) = await store.commit_gang(gang(planned("other")))
    return first, await asleep(store, second)


async def test_only_one_of_two_that_share_a_device_wakes(store: Store) -> None:
    first, second = await two_sleepers(store)
    await store.wake_worker(second.id, reason="asked for")
    with pytest.raises(PlanConflictError, match="0 bytes free, not 100"):
        await store.wake_worker(first.id, reason="asked for")
    assert (await store.worker(first.id)).phase is Phase.ASLEEP


async def test_two_that_race_for_a_device_never_oversell_it(store: Store, url: str) -> None:
    sleepers = await two_sleepers(store)
    other = await Store.open(url)
    try:
        for _ in range(5):
            outcomes = await asyncio.gather(
                *(
                    each.wake_worker(worker.id, reason="asked for")
                    for each, worker in zip((store, other), sleepers, strict=True)
                ),
                return_exceptions=True,
            )
            refused = [one for one in outcomes if isinstance(one, PlanConflictError)]
            woken = [one for one in outcomes if isinstance(one, Worker)]
            assert (len(refused), len(woken)) == (1, 1), outcomes
            assert await claimed(store) == [("n/cpu0", DEVICE_BYTES), ("n/cpu1", 0)]
            await asleep(store, woken[0])
    finally:
        await other.aclose()


async def test_waking_is_verified_as_a_plan_is(store: Store) -> None:
    worker = await asleep(store, await serving(store))

    async def refused(why: str) -> None:
        with pytest.raises(PlanConflictError, match=why):
            await store.wake_worker(worker.id, reason="asked for")

    await store.put_quota(Quota(owner="default", devices=0), by=ME)
    await refused("may hold 0 devices, not 1")
    await store.put_quota(Quota(owner="default", memory_bytes=99), by=ME)
    await refused("may hold 99 bytes, not 100")
    await store.delete_quota("default", by=ME)
    await store.mark_nodes_unknown(("n",), why="silent")
    await refused("'n' is unknown")
    await store.set_node_state("n", NodeState.DRAINING, by=ME)
    broken = msgspec.structs.replace(device(), quarantine="Xid 79")
    await store.report_nodes((report(broken, device(1)),))
    await refused("'n' is draining")
    await store.set_node_state("n", NodeState.CORDONED, by=ME)
    await refused("Xid 79")
    await store.report_nodes((report(device(1)),))
    await refused("'n/cpu0' is gone")
    await store.report_nodes((report(device(), device(1)),))
    assert (await store.wake_worker(worker.id, reason="x")).phase is Phase.ASSIGNED, (
        "a cordoned node keeps the workers it has"
    )


async def test_no_worker_of_a_deleted_model_wakes(store: Store) -> None:
    worker = await asleep(store, await serving(store))
    await store.delete_model("m", by=ME)
    with pytest.raises(PlanConflictError, match="was deleted"):
        await store.wake_worker(worker.id, reason="x")


async def test_a_device_of_which_a_sleeper_holds_nothing_counts_for_no_quota(
    store: Store,
) -> None:
    worker = await asleep(store, await serving(store))
    await store.put_quota(Quota(owner="default", devices=1, memory_bytes=DEVICE_BYTES), by=ME)
    await store.commit_gang(gang(planned(ordinal=1, claims={"n/cpu1": DEVICE_BYTES})))
    with pytest.raises(PlanConflictError, match="may hold 1 devices, not 2"):
        await store.wake_worker(worker.id, reason="x")


async def test_a_model_is_put_to_sleep_and_woken_by_hand_and_it_is_audited(store: Store) -> None:
    worker = await serving(store)
    await ready(store, worker)
    before = len(await store.audit())
    modes = {worker.id: SleepMode.STOPPED}
    for _ in range(2):
        await store.sleep_model("m", modes, reason="by hand", by=ME)
    await store.worker_sleeps(worker.id, {})
    (woken,) = await store.wake_model("m", reason="by hand", by=ME)
    assert woken.phase is Phase.ASSIGNED
    assert await store.wake_model("m", reason="by hand", by=ME) == ()
    entries = (await store.audit())[before:]
    assert [(entry.action, entry.object) for entry in entries] == [
        ("model.sleep", "m"),
        ("model.wake", "m"),
    ]
    with pytest.raises(NotFoundError):
        await store.wake_model("nobody", reason="x", by=ME)
