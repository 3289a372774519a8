"""What `registry.store` promises, on real databases."""

import asyncio
import math
from pathlib import Path

import pytest
from registry_world import (
    ME,
    device,
    report,
    serving,
    spec,
)
from sqlalchemy import Executable, text

from registry import db, tables
from registry.errors import (
    ConflictError,
    NotFoundError,
    SpecError,
    UnavailableError,
)
from registry.keys import digest
from registry.state import EventKind, KeyKind, NodeState, Phase, Principal, Priority
from registry.store import Store, history
from registry.usage import UsageRecord, UsageStatus

# --- models


async def test_apply_makes_gap_free_revisions_and_an_unchanged_spec_none(store: Store) -> None:
    first, changed = await store.apply_model(spec(), by=ME)
    assert (first.generation, first.revision, changed) == (1, 1, True)
    again, changed = await store.apply_model(spec(), by=ME)
    assert (again, changed) == (first, False)
    assert len(await store.events()) == 1

    second, _ = await store.apply_model(spec(source="hf://org/other"), by=ME)
    third, _ = await store.apply_model(spec(), by=ME)

    assert (second.revision, third.revision, third.generation) == (2, 3, 3)
    assert [(r.number, r.spec.source) for r in await store.revisions("m")] == [
        (1, "hf://org/m"),
        (2, "hf://org/other"),
        (3, "hf://org/m"),
    ]
    assert await store.model("m") == third


async def test_a_stale_if_match_is_refused_and_writes_nothing(store: Store) -> None:
    await store.apply_model(spec(), by=ME)
    await store.apply_model(spec(source="hf://org/b"), by=ME, if_match=1)
    version = await store.version()

    with pytest.raises(ConflictError, match="generation 2, not 1"):
        await store.apply_model(spec(source="hf://org/c"), by=ME, if_match=1)
    with pytest.raises(ConflictError):
        await store.delete_model("m", by=ME, if_match=1)
    with pytest.raises(ConflictError, match="not there"):
        await store.apply_model(spec("other"), by=ME, if_match=1)
    with pytest.raises(ConflictError, match="exists already"):
        await store.apply_model(spec(), by=ME, create_only=True)

    assert await store.version() == version
    assert len(await store.revisions("m")) == 2


async def test_a_deleted_model_is_not_found_and_its_revival_goes_on_counting(
    store: Store,
) -> None:
    await store.apply_model(spec(), by=ME)
    deleted = await store.delete_model("m", by=ME)
    assert deleted.deleted
    for call in (store.model("m"), store.revisions("m"), store.delete_model("m", by=ME)):
        with pytest.raises(NotFoundError):
            await call
    assert await store.models() == ()

    revived, changed = await store.apply_model(spec(), by=ME, create_only=True)

    assert (revived.revision, revived.generation, changed) == (2, 3, True)
    assert [r.number for r in await store.revisions("m")] == [1, 2]


async def test_a_deleted_model_stays_in_the_snapshot_until_its_last_worker_ended(
    store: Store,
) -> None:
    worker = await serving(store)
    await store.delete_model("m", by=ME)
    assert [(m.name, m.deleted) for m in (await store.snapshot()).models] == [("m", True)]

    await store.set_worker(worker.id, Phase.STOPPED)

    assert (await store.snapshot()).models == ()


async def test_a_condition_is_written_once_and_cut(store: Store) -> None:
    await store.apply_model(spec(), by=ME)
    await store.set_condition("m", "no device is free")
    version = await store.version()
    await store.set_condition("m", "no device is free")
    assert await store.version() == version

    await store.set_condition("m", "x" * 10_000)
    assert len((await store.model("m")).condition) == 2000
    await store.set_condition("m", "")

    kinds = [e.kind for e in await store.events(after=1)]
    assert kinds == [EventKind.MODEL_CONDITION] * 3
    assert all(len(e.message) <= 500 for e in await store.events())
    with pytest.raises(NotFoundError):
        await store.set_condition("nobody", "x")


# --- audit and events


async def test_each_admin_write_has_its_audit_row_and_event_and_a_no_op_has_neither(
    store: Store,
) -> None:
    await store.report_nodes((report(device()),))
    await store.apply_model(spec(), by=ME)
    await store.apply_model(spec(source="hf://org/b"), by=ME)
    await store.apply_model(spec(source="hf://org/b"), by=ME)
    await store.delete_model("m", by=ME)
    key, _ = await store.create_key(name="ci", kind=KeyKind.INFERENCE, by=ME)
    await store.revoke_key(key.id, by=ME)
    await store.revoke_key(key.id, by=ME)
    await store.set_node_state("n", NodeState.CORDONED, by=ME)
    await store.set_node_state("n", NodeState.CORDONED, by=ME)
    await store.set_node_state("n", NodeState.READY, by=ME)

    entries = await store.audit()

    assert [(e.action, e.object, e.before_revision, e.after_revision) for e in entries] == [
        ("model.apply", "m", None, 1),
        ("model.apply", "m", 1, 2),
        ("model.delete", "m", 2, None),
        ("key.create", key.id, None, None),
        ("key.revoke", key.id, None, None),
        ("node.cordon", "n", None, None),
        ("node.uncordon", "n", None, None),
    ]
    assert {(e.actor, e.request_id, e.client_ip) for e in entries} == {
        ("key_0", "r-1", "127.0.0.1")
    }
    said = [event for event in await store.events() if event.kind is not EventKind.ROLLOUT]
    assert len(said) == 1 + len(entries)
    assert await store.audit(after=entries[-2].id) == entries[-1:]


async def test_a_change_without_its_event_or_audit_row_does_not_commit(store: Store) -> None:
    await store.apply_model(spec(), by=ME)
    forgetful = text("UPDATE models SET condition = 'x'")
    silent = tables.ModelRow.__table__.update().values(condition="x")

    async def write(by: Principal | None, statement: Executable, said: str = "") -> None:
        async with store._scopes.write(by) as write:
            await write.session.execute(statement)
            if said:
                write.event(EventKind.MODEL_APPLIED, said)

    with pytest.raises(AssertionError, match="without an event"):
        await write(None, silent)
    with pytest.raises(AssertionError, match="without an audit row"):
        await write(ME, silent, "said")
    with pytest.raises(AssertionError, match="textual"):
        await write(None, forgetful, "said")

    assert (await store.model("m")).condition == ""
    assert len(await store.events()) == 1


async def test_events_are_read_in_order_by_model_and_from_the_end(store: Store) -> None:
    for name in ("a", "b", "a2"):
        await store.apply_model(spec(name), by=ME)
    await store.delete_model("a", by=ME)

    everything = await store.events()
    assert [e.id for e in everything] == [1, 2, 3, 4]
    assert await store.version() == 4
    assert await store.events(after=1, limit=2) == everything[1:3]
    assert await store.events(limit=2, newest=True) == everything[2:]
    assert await store.events(model="a") == (everything[0], everything[3])
    assert len(await store.events(limit=-5)) == 1


async def test_old_events_are_pruned_and_the_version_never_goes_back(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "EVENTS_KEPT", 3)
    for number in range(6):
        await store.apply_model(spec(f"m{number}"), by=ME)

    await store.forget_ended()

    assert [e.id for e in await store.events()] == [4, 5, 6]
    assert await store.version() == 6


# --- keys


async def test_a_key_is_shown_once_and_kept_as_a_digest(store: Store, tmp_path: Path) -> None:
    key, secret = await store.create_key(
        name="ci", kind=KeyKind.INFERENCE, models=("m",), expires_at=2000.0, by=ME
    )

    assert key.priority is Priority.NORMAL
    assert await store.keys() == (key,)
    assert (key.digest, key.models, key.expires_at) == (digest(secret), ("m",), 2000.0)
    told = [e.message for e in await store.events()] + [e.object for e in await store.audit()]
    assert not any(secret in line for line in told)
    await store.aclose()
    for file in tmp_path.glob("modelyard.db"):  # noqa: ASYNC240 - where it is SQLite's
        assert secret.encode() not in file.read_bytes()


async def test_a_keys_priority_is_kept(store: Store) -> None:
    key, _ = await store.create_key(
        name="batch", kind=KeyKind.INFERENCE, priority=Priority.LOW, by=ME
    )
    assert key.priority is Priority.LOW
    assert (await store.keys(), (await store.snapshot()).keys) == ((key,), (key,))


async def test_a_given_secret_is_taken_once(store: Store) -> None:
    ask = {"name": "env", "by": ME, "secret": "s3cret-from-the-environment"}
    key, secret = await store.create_key(kind=KeyKind.INFERENCE, **ask)
    assert secret == ask["secret"]
    assert await store.create_key(kind=KeyKind.INFERENCE, **ask) == (key, secret)
    revoked = await store.revoke_key(key.id, by=ME)
    assert revoked.revoked_at == 1000.0
    assert await store.create_key(kind=KeyKind.INFERENCE, **ask) == (revoked, secret)
    with pytest.raises(ConflictError, match="inference key"):
        await store.create_key(kind=KeyKind.ADMIN, **ask)
    assert len(await store.keys()) == 1
    with pytest.raises(NotFoundError):
        await store.revoke_key("key_none", by=ME)


@pytest.mark.parametrize(
    ("wish", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"models": ("a/b",)}, "models[0]"),
        ({"models": ("ok",) * 1001}, "models"),
        ({"expires_at": 999.0}, "expires_at"),
        ({"expires_at": math.inf}, "expires_at"),
        ({"expires_at": math.nan}, "expires_at"),
        ({"secret": "short"}, "secret"),
        ({"secret": "with spaces in it"}, "secret"),
    ],
)
async def test_an_impossible_key_is_refused_by_field(store: Store, wish: dict, field: str) -> None:
    with pytest.raises(SpecError) as refused:
        await store.create_key(**({"name": "ci", "kind": KeyKind.ADMIN, "by": ME} | wish))
    assert refused.value.field == field
    assert await store.keys() == ()


# --- usage


def used(request_id: str, **changes: object) -> UsageRecord:
    facts = {
        "key_id": "key_1",
        "model": "m",
        "variant": "default",
        "revision": 1,
        "mode": "aggregated",
        "status": UsageStatus.OK,
        "prompt_tokens": 3,
        "completion_tokens": 5,
        "opened_at": 1.0,
        "closed_at": 2.0,
    }
    return UsageRecord(request_id=request_id, **(facts | changes))


async def test_usage_is_summed_by_key_and_model_and_a_repeated_batch_counts_once(
    store: Store,
) -> None:
    batch = [used(f"r{n}") for n in range(450)]
    batch.append(used("e", status=UsageStatus.ERROR, completion_tokens=0))
    batch.append(used("c", status=UsageStatus.CANCELLED, model="other"))
    await store.record_usage(batch)
    await store.record_usage(batch)
    await store.record_usage(batch[:1] * 2 + [used("r0", opened_at=9.0)])
    await store.record_usage([])

    first, second = await store.usage()

    assert (first.requests, first.errors, first.prompt_tokens) == (452, 1, 452 * 3)
    assert first.completion_tokens == 451 * 5
    assert (second.model, second.requests, second.errors) == ("other", 1, 0)
    assert await store.version() == 0


# --- failure


async def test_a_cancelled_write_leaves_nothing_and_blocks_nobody(store: Store) -> None:
    async def hang() -> None:
        async with store._scopes.write(ME) as write:
            write.event(EventKind.MODEL_APPLIED, "never")
            await write.session.flush()
            await asyncio.sleep(60)

    task = asyncio.create_task(hang())
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    async with asyncio.timeout(2):
        await store.apply_model(spec(), by=ME)
    assert [e.message for e in await store.events()] == ["revision 1"]


async def test_a_busy_database_is_unavailable_and_not_an_sql_error(
    store: Store, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(db, "BUSY_TIMEOUT_S", 0.05)
    impatient = await Store.open(url)
    try:
        async with store._scopes.write(ME) as write:
            await history.version(write.session)
            with pytest.raises(UnavailableError, match="lock"):
                await impatient.apply_model(spec(), by=ME)
            assert await impatient.models() == ()  # readers are never blocked
    finally:
        await impatient.aclose()


async def test_a_snapshot_is_of_one_moment(store: Store) -> None:
    """A write that commits between two of its queries is not seen by the later ones."""
    await store.apply_model(spec(), by=ME)
    async with store._scopes.read() as session:
        before = await history.version(session)
        await store.apply_model(spec("later"), by=ME)
        assert await history.version(session) == before
    assert await store.version() == before + 1
