"""PostgreSQL's own faults: a server that goes, a lock that is held, errors that tell too much."""

import asyncio
import traceback

import pytest
from postgres_server import PASSWORD, PostgresServer
from registry_world import ME, serving, spec
from sqlalchemy import func, select, update
from sqlalchemy.exc import DBAPIError, IntegrityError

from registry import db
from registry import postgres as pg
from registry.errors import UnavailableError
from registry.store import Store
from registry.tables import WorkerRow

pytestmark = pytest.mark.parametrize("url", ["postgresql"], indirect=True)


async def test_a_server_that_is_away_is_told_so_and_is_found_again(
    store: Store, url: str, postgres: PostgresServer
) -> None:
    await store.apply_model(spec(), by=ME)
    await asyncio.to_thread(postgres.stop)
    try:
        for call in (store.version(), store.apply_model(spec("b"), by=ME), Store.open(url)):
            with pytest.raises(UnavailableError) as told:
                await call
            assert PASSWORD not in "".join(traceback.format_exception(told.value))
    finally:
        postgres.start()
    assert [model.name for model in await store.models()] == ["m"]
    await store.apply_model(spec("b"), by=ME)


async def test_a_session_that_ends_in_the_midst_of_a_write_leaves_nothing(store: Store) -> None:
    async def write_on() -> None:
        async with store._scopes.write() as write:
            write.quiet("a test")
            pid = await write.session.scalar(select(func.pg_backend_pid()))
            async with store._scopes.read() as other:
                await other.execute(select(func.pg_terminate_backend(pid)))
            await asyncio.sleep(0.1)
            await write.session.execute(select(1))

    with pytest.raises(UnavailableError):
        await write_on()
    await store.apply_model(spec(), by=ME)


async def test_who_stands_still_in_a_write_loses_it_to_the_others(
    store: Store, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pg, "IDLE_IN_TRANSACTION_S_MAX", 1)
    still = await Store.open(url)

    async def stand_still() -> None:
        async with still._scopes.write() as write:
            write.quiet("a test")
            await write.session.execute(select(1))
            async with asyncio.timeout(5):
                await store.apply_model(spec(), by=ME)
            await write.session.execute(select(1))

    try:
        with pytest.raises(UnavailableError):
            await stand_still()
    finally:
        await still.aclose()


async def test_an_error_quotes_no_row(store: Store) -> None:
    worker = await serving(store)

    async def break_a_check() -> None:
        async with store._scopes.write() as write:
            write.quiet("a test")
            await write.session.execute(update(WorkerRow).values(ended_at=1.0))

    with pytest.raises(IntegrityError) as told:
        await break_a_check()
    assert worker.token not in "".join(traceback.format_exception(told.value))


async def test_a_wrong_password_is_refused_without_being_told(url: str) -> None:
    wrong = PASSWORD[::-1]
    with pytest.raises(DBAPIError, match="password authentication failed") as told:
        await db.current(url.replace(PASSWORD, wrong))
    assert wrong not in "".join(traceback.format_exception(told.value))
