"""A model's way from one revision to the next, in `registry.store` on a real database."""

from collections.abc import Iterable
from typing import Any

import pytest
from registry_world import ME, Clock, spec
from sqlalchemy.exc import IntegrityError

from registry import tables as t
from registry.errors import ConflictError, NotFoundError, PlanConflictError
from registry.spec import ModelSpec, Promote, RolloutPolicy
from registry.state import EventKind, Model, Rollout, RolloutState
from registry.store import Store
from registry.traffic import SLOT_S, TRAFFIC_KEPT_S, Latencies, StepTraffic, Traffic


def changed(source: str = "hf://org/other", **changes: Any) -> ModelSpec:
    return spec(source=source, **changes)


async def begun(store: Store, **policy: Any) -> Rollout:
    """A rollout of "m" from revision 1 to 2."""
    await store.apply_model(spec(), by=ME)
    model, _ = await store.apply_model(changed(), by=ME, policy=RolloutPolicy(**policy))
    assert model.rollout is not None
    return model.rollout


async def only(store: Store) -> Model:
    (model,) = (await store.snapshot()).models
    return model


async def sentences(store: Store) -> list[str]:
    return [e.message for e in await store.events() if e.kind is EventKind.ROLLOUT]


async def test_a_new_model_gets_there_without_a_rollout_and_a_revived_one_too(store: Store) -> None:
    model, _ = await store.apply_model(spec(), by=ME)
    assert model.rollout is None
    await store.delete_model("m", by=ME)
    model, _ = await store.apply_model(changed(), by=ME)
    assert (model.revision, model.rollout) == (2, None)


async def test_a_changed_spec_begins_one_in_its_own_transaction(store: Store, clock: Clock) -> None:
    rollout = await begun(store)
    assert (rollout.from_revision, rollout.to_revision) == (1, 2)
    assert (rollout.step, rollout.percent, rollout.state) == (0, 0, RolloutState.PROGRESSING)
    assert rollout.base == spec()
    assert rollout.step_at == rollout.created_at == clock.now
    assert (await only(store)).rollout == rollout
    assert await store.rollouts("m") == (rollout,)
    assert await sentences(store) == ["rollout to revision 2 from revision 1 begins"]


async def test_its_policy_is_the_spec_s_unless_one_is_given(store: Store) -> None:
    own = {"canary": [25, 100]}
    await store.apply_model(spec(), by=ME)
    model, _ = await store.apply_model(changed(rollout=own), by=ME)
    assert model.rollout is not None
    assert model.rollout.policy.canary == (25, 100)
    now = RolloutPolicy()
    model, _ = await store.apply_model(spec(rollout=own), by=ME, policy=now)
    assert model.rollout is not None
    assert model.rollout.policy == now
    assert model.spec.rollout.canary == (25, 100)


async def test_a_newer_one_takes_its_place_and_comes_from_where_it_came(store: Store) -> None:
    await begun(store)
    model, _ = await store.apply_model(changed("hf://org/third"), by=ME)
    assert model.rollout is not None
    assert (model.rollout.from_revision, model.rollout.to_revision) == (1, 3)
    newest, before = await store.rollouts("m")
    assert newest == model.rollout
    assert before.state is RolloutState.SUPERSEDED
    assert before.ended_at is not None
    assert "revision 3" in before.reason


async def test_one_that_had_all_the_traffic_is_where_the_newer_one_comes_from(store: Store) -> None:
    """The workers from before it leave: nobody else could serve meanwhile."""
    await begun(store)
    await store.enter_step("m", 2, step=1, percent=100, reason="its workers are ready")
    model, _ = await store.apply_model(changed("hf://org/third"), by=ME)
    assert model.rollout is not None
    assert (model.rollout.from_revision, model.rollout.to_revision) == (2, 3)
    assert model.rollout.base == changed()


async def test_steps_are_entered_one_after_the_other_and_once(store: Store, clock: Clock) -> None:
    await begun(store, canary=(25, 100))
    clock.now += 10
    entered = await store.enter_step("m", 2, step=1, percent=25, reason="1 of 4 ready")
    assert (entered.step, entered.percent, entered.step_at) == (1, 25, clock.now)
    version = await store.version()
    clock.now += 1
    assert await store.enter_step("m", 2, step=1, percent=25, reason="again") == entered
    assert await store.version() == version
    for step, to in ((3, 2), (2, 3)):
        with pytest.raises(PlanConflictError):
            await store.enter_step("m", to, step=step, percent=100, reason="")
    assert (await store.enter_step("m", 2, step=2, percent=100, reason="")).percent == 100


async def test_traffic_shifts_upwards_between_two_steps(store: Store, clock: Clock) -> None:
    await begun(store)
    clock.now += 5
    shifted = await store.shift_traffic("m", 2, percent=34, reason="1 of 3 ready")
    assert (shifted.step, shifted.percent, shifted.step_at) == (0, 34, clock.now)
    version = await store.version()
    await store.shift_traffic("m", 2, percent=34, reason="1 of 3 ready")
    assert await store.version() == version
    with pytest.raises(PlanConflictError):
        await store.shift_traffic("m", 2, percent=33, reason="")


async def test_by_hand_each_step_below_the_whole_waits_for_somebody(store: Store) -> None:
    await begun(store, canary=(25, 100), promote=Promote.MANUAL)
    entered = await store.enter_step("m", 2, step=1, percent=25, reason="takes 25 %")
    assert entered.state is RolloutState.PAUSED
    assert entered.reason == "takes 25 %; resume to go on"
    with pytest.raises(PlanConflictError, match="paused"):
        await store.enter_step("m", 2, step=2, percent=100, reason="")
    await store.resume_rollout("m", by=ME)
    last = await store.enter_step("m", 2, step=2, percent=100, reason="")
    assert last.state is RolloutState.PROGRESSING


async def test_pause_and_resume_are_somebody_s_and_begin_the_step_anew(
    store: Store, clock: Clock
) -> None:
    await begun(store)
    paused = await store.pause_rollout("m", by=ME)
    assert (paused.state, paused.reason) == (RolloutState.PAUSED, "was paused: resume to go on")
    with pytest.raises(PlanConflictError):
        await store.enter_step("m", 2, step=1, percent=100, reason="")
    clock.now += 60
    resumed = await store.resume_rollout("m", by=ME)
    assert (resumed.state, resumed.step_at) == (RolloutState.PROGRESSING, clock.now)
    assert [entry.action for entry in await store.audit()][-2:] == [
        "rollout.pause",
        "rollout.resume",
    ]


async def test_one_that_stands_still_can_be_resumed_but_not_paused(store: Store) -> None:
    await begun(store)
    stalled = await store.stall_rollout("m", 2, reason="the gate failed")
    assert (stalled.state, stalled.is_active) == (RolloutState.STALLED, True)
    with pytest.raises(ConflictError, match="the gate failed"):
        await store.pause_rollout("m", by=ME)
    resumed = await store.resume_rollout("m", by=ME)
    assert resumed.state is RolloutState.PROGRESSING


async def test_what_it_waits_for_is_news_once(store: Store) -> None:
    await begun(store)
    await store.say_rollout("m", 2, "0 of 2 ready")
    version = await store.version()
    await store.say_rollout("m", 2, "0 of 2 ready")
    assert await store.version() == version
    assert (await sentences(store))[-1] == "rollout to revision 2 waits: 0 of 2 ready"


async def test_finished_it_is_history(store: Store) -> None:
    await begun(store)
    done = await store.finish_rollout("m", 2, reason="the new revision serves")
    assert (done.state, done.percent) == (RolloutState.DONE, 100)
    assert (await only(store)).rollout is None
    for write in (
        store.finish_rollout("m", 2, reason=""),
        store.roll_back("m", 2, reason=""),
        store.say_rollout("m", 2, ""),
        store.stall_rollout("m", 2, reason=""),
    ):
        with pytest.raises(PlanConflictError):
            await write
    for asked in (
        store.pause_rollout("m", by=ME),
        store.resume_rollout("m", by=ME),
        store.abort_rollout("m", by=ME),
    ):
        with pytest.raises(NotFoundError):
            await asked


async def test_rolled_back_the_old_content_is_the_newest_revision(store: Store) -> None:
    await begun(store)
    model = await store.roll_back("m", 2, reason="the gate failed: 12 % errors")
    assert (model.revision, model.spec, model.rollout) == (3, spec(), None)
    assert (await only(store)).spec == spec()
    (ended,) = await store.rollouts("m")
    assert (ended.state, ended.percent) == (RolloutState.ROLLED_BACK, 0)
    assert ended.ended_at is not None
    entry = (await store.audit())[-1]
    assert (entry.actor, entry.before_revision, entry.after_revision) == ("controller", 2, 3)
    assert "12 % errors" in (await sentences(store))[-1]
    assert (await store.revisions("m"))[-1].created_by == "controller"


async def test_aborted_it_is_rolled_back_in_somebody_s_name(store: Store) -> None:
    await begun(store)
    model = await store.abort_rollout("m", by=ME)
    assert (model.revision, model.spec, model.rollout) == (3, spec(), None)
    actions = [(entry.actor, entry.action) for entry in await store.audit()]
    assert (ME.actor, "rollout.abort") in actions
    assert (await store.rollouts("m"))[0].reason == "was aborted"


async def test_a_deleted_model_s_ends(store: Store) -> None:
    await begun(store)
    await store.delete_model("m", by=ME)
    (ended,) = await store.rollouts("m")
    assert (ended.state, ended.reason) == (RolloutState.SUPERSEDED, "the model was deleted")


async def test_two_at_once_are_refused_by_the_database(store: Store) -> None:
    await begun(store)
    await store.roll_back("m", 2, reason="leaves a revision that no rollout led to")
    await store.apply_model(changed(), by=ME)
    second = t.RolloutRow(
        model="m",
        to_revision=3,
        from_revision=1,
        policy="{}",
        state=RolloutState.PAUSED,
        step=0,
        percent=0,
        step_at=0.0,
        reason="",
        created_at=0.0,
        ended_at=None,
    )
    with pytest.raises(IntegrityError, match=r"(?i)unique"):  # noqa: PT012 - past the checks
        async with store._scopes.write() as write:
            write.session.add(second)
            await write.session.flush()


def told(at: float, revision: int, **changes: Any) -> Traffic:
    facts = {"gateway": "gw/000", "model": "m", "variant": "default", "requests": 4, "errors": 1}
    return Traffic(at=at, revision=revision, **(facts | changes))


async def at_a_quarter(store: Store) -> Rollout:
    await begun(store, canary=(25, 50, 100))
    return await store.enter_step("m", 2, step=1, percent=25, reason="")


def sums(found: Iterable[StepTraffic]) -> dict[int, tuple[int, int]]:
    return {row.revision: (row.requests, row.errors) for row in found}


async def test_what_both_revisions_did_at_a_step_is_added_up_as_it_is_told(store: Store) -> None:
    at = (await at_a_quarter(store)).step_at
    ttft = Latencies.of((0.1, 0.2))
    await store.record_traffic([told(at - SLOT_S, 1), told(at, 1, ttft=ttft), told(at, 7)])
    await store.record_traffic([told(at, 2), told(at + SLOT_S, 1, ttft=ttft)])
    await store.record_traffic([told(at, 1, gateway="gw/001"), told(at, 1, model="other")])
    old, new = await store.rollout_traffic("m", 2)
    assert sums((old, new)) == {1: (12, 3), 2: (4, 1)}
    assert (old.ttft, new.ttft) == (ttft + ttft, Latencies())
    assert (old.percent, old.since, old.until) == (25, at, at + 2 * SLOT_S)


async def test_what_is_told_again_is_not_added_again(store: Store) -> None:
    at = (await at_a_quarter(store)).step_at
    await store.record_traffic([told(at, 1)])
    await store.record_traffic([told(at, 1), told(at, 2)])
    assert sums(await store.rollout_traffic("m", 2)) == {1: (4, 1), 2: (4, 1)}


async def test_what_was_added_up_outlives_the_traffic_and_a_new_step_begins_anew(
    store: Store, clock: Clock
) -> None:
    at = (await at_a_quarter(store)).step_at
    await store.record_traffic([told(at, 1), told(at, 2)])
    clock.now += 2 * TRAFFIC_KEPT_S
    await store.forget_ended()
    await store.record_traffic([told(clock.now, 2)])
    assert await store.traffic(since=0.0) == (told(clock.now, 2),)
    assert sums(await store.rollout_traffic("m", 2)) == {1: (4, 1), 2: (8, 2)}
    clock.now += 60
    await store.enter_step("m", 2, step=2, percent=50, reason="")
    await store.record_traffic([told(clock.now, 2)])
    assert sums(await store.rollout_traffic("m", 2)) == {2: (4, 1)}


@pytest.mark.parametrize("end", ["done", "rolled back"])
async def test_the_last_step_s_sums_stay_when_it_is_over(store: Store, end: str) -> None:
    at = (await at_a_quarter(store)).step_at
    await store.record_traffic([told(at, 1), told(at, 2)])
    if end == "done":
        await store.enter_step("m", 2, step=2, percent=100, reason="")
        await store.record_traffic([told(at + SLOT_S, 2)])
        await store.finish_rollout("m", 2, reason="")
    else:
        await store.roll_back("m", 2, reason="")
    await store.record_traffic([told(at + 2 * SLOT_S, 2)])
    found = await store.rollout_traffic("m", 2)
    assert sums(found) == {1: (4, 1), 2: (4, 1)}
    assert {row.percent for row in found} == {25}
