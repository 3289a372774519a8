"""From every earlier schema with rows in it to the newest, back, and there again."""

from pathlib import Path

import pytest
from migration_rows import dump, insert, rows_of
from msgspec.structs import replace
from postgres_server import PostgresServer
from registry_world import ME, gang, planned, spec, url_in

from registry import db, schema, upkeep
from registry.state import NodeState, Priority, Snapshot
from registry.store import Store

HEAD = schema.head()
EARLIER = schema.known_versions()[:-1]


@pytest.fixture(params=["sqlite", "postgresql"])
async def empty(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgres")
        return await server.database(migrated=False)
    return url_in(tmp_path)


async def holding(url: str, version: str) -> None:
    await upkeep.migrate(url, version)
    await insert(url, rows_of(version))


def test_every_table_of_every_version_has_rows():
    for version in (*EARLIER, HEAD):
        tables = set(schema.of_version(version))
        assert set(rows_of(version)) == tables
        for table, rows in rows_of(version).items():
            there = schema.of_version(version)[table]
            assert all(set(row) <= there for row in rows)


@pytest.mark.parametrize("version", EARLIER)
async def test_rows_of_every_earlier_schema_are_read_and_written(empty: str, version: str):
    await holding(empty, version)
    before = await dump(empty)

    await upkeep.migrate(empty)
    first = await read(empty, version)
    await upkeep.migrate(empty, version)
    assert await dump(empty) == before, "the way back keeps what was there"
    await upkeep.migrate(empty)
    assert await read(empty, version) == first
    await serves(empty)


async def read(url: str, version: str) -> Snapshot:
    """Everything there is, through the store."""
    store = await Store.open(url)
    try:
        snapshot = await store.snapshot()
        (model,) = snapshot.models
        assert (model.generation, model.revision, model.condition) == (3, 2, "why not")
        assert [r.spec.source for r in await store.revisions("m")] == ["hf://org/old", "hf://org/m"]
        (worker,) = snapshot.workers
        assert (worker.id, worker.plan.args, worker.departing) == ("m-1", {"seed": 1}, False)
        (claim,) = snapshot.claims
        assert (claim.worker_id, claim.device_id, claim.memory_bytes) == ("m-1", "n/cpu0", 60)
        assert len(await store.workers(include_ended=True)) == 2
        (key,) = snapshot.keys
        assert key.priority is (Priority.LOW if version >= "0002" else Priority.NORMAL)
        assert key.limits.requests_per_minute == (7 if version >= "0003" else 0)
        assert len(await store.events()) == len(rows_of(version)["events"])
        assert [entry.action for entry in await store.audit()] == ["model.apply"]
        (total,) = await store.usage()
        assert (total.prompt_tokens, total.cost_nano) == (5, 12 if version >= "0003" else 0)
        assert [quota.devices for quota in snapshot.quotas] == ([8] if version >= "0005" else [])
        # Their times are told by the reader's clock, which is not read in the same instant twice.
        demand = tuple(replace(d, at=0.0, oldest_at=0.0, asked_at=0.0) for d in snapshot.demand)
        return replace(snapshot, demand=demand)
    finally:
        await store.aclose()


async def serves(url: str) -> None:
    """A gang can be committed beside the worker that was there, and the worker ends."""
    store = await Store.open(url)
    try:
        await store.set_node_state("n", NodeState.READY, by=ME)
        await store.apply_model(spec("other"), by=ME)
        (made,) = await store.commit_gang(gang(planned("other", claims={"n/cpu1": 100})))
        claims = {claim.worker_id: claim.memory_bytes for claim in (await store.snapshot()).claims}
        assert claims == {"m-1": 60, made.id: 100}
    finally:
        await store.aclose()


@pytest.mark.parametrize("version", EARLIER)
async def test_the_newest_goes_back_to_every_earlier_one_and_says_what_is_lost(
    empty: str, version: str
):
    await holding(empty, HEAD)
    before = await dump(empty)
    preflight = await upkeep.look(empty, version)
    assert preflight.problems == ()
    assert [step.version for step in preflight.steps] == sorted(
        (v for v in (*EARLIER, HEAD) if v > version), reverse=True
    )
    told = "; ".join(preflight.losses)
    for words, since in (
        ("accounts of people (1)", "0007"),
        ("the rollouts under way (m)", "0006"),
        ("pools' settings (1)", "0006"),
        ("quotas (1)", "0005"),
        ("started anew (1)", "0004"),
        ("what there is (1)", "0003"),
        ("priorities of keys (1)", "0002"),
    ):
        assert (words in told) == (since > version), told

    await upkeep.migrate(empty, version)
    after = await dump(empty)
    for table, rows in after.items():
        if table in {"alembic_version", "events"}:
            continue
        names = rows[0].keys()
        assert rows == [{name: row[name] for name in names} for row in before[table]], table
    known = {event["kind"] for event in rows_of(version)["events"]} | {
        "model-condition",
        "node-changed",
        "key-created",
    }
    assert {event["kind"] for event in after["events"]} <= known
    await upkeep.migrate(empty)
    await serves(empty)


async def test_what_the_older_version_cannot_hold_stands_in_the_way(empty: str):
    await holding(empty, HEAD)
    await _sql(
        empty,
        "UPDATE workers SET phase = 'asleep' WHERE id = 'm-1'",
        "UPDATE claims SET memory_bytes = 0",
        'UPDATE revisions SET spec = replace(spec, \'"name"\', \'"pool": "tail", "name"\')',
    )
    before = await dump(empty)
    (asleep, unknown) = (await upkeep.look(empty, "0005")).problems
    assert "workers sleep" in asleep
    assert "(m-1)" in asleep
    assert unknown.startswith("model m uses pool, which the older version does not know")
    with pytest.raises(upkeep.SchemaError, match="nothing was changed: workers sleep"):
        await upkeep.migrate(empty, "0005")
    assert await dump(empty) == before


async def test_a_key_that_may_only_look_would_be_an_admins_in_the_older_version(empty: str):
    await holding(empty, HEAD)
    await _sql(empty, "UPDATE keys SET kind = 'admin', role = 'viewer'")
    (problem,) = (await upkeep.look(empty, "0006")).problems
    assert "admin keys may only look, and would open everything (key_1)" in problem
    await _sql(empty, "UPDATE keys SET revoked_at = 5")
    assert (await upkeep.look(empty, "0006")).problems == ()


async def test_a_slot_with_two_workers_stands_in_the_way(empty: str):
    await holding(empty, HEAD)
    departing = next(row for row in rows_of(HEAD)["workers"] if row["id"] == "m-1")
    await insert(empty, {"workers": [departing | {"id": "m-2", "departing": True}]})
    (problem,) = (await upkeep.look(empty, "0004")).problems
    assert "a worker and its successor (m/default unified 0)" in problem
    assert (await upkeep.look(empty, "0005")).problems == ()


async def _sql(url: str, *statements: str) -> None:
    engine = db.connect(url)
    async with db.writer(engine).begin() as connection:
        for statement in statements:
            await connection.exec_driver_sql(statement)
    await engine.dispose()
