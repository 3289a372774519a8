"""The database's URL: what is taken, and that a refusal quotes no password."""

import pytest

from registry.database_url import with_driver
from registry.settings import SettingsError, load

SECRET = "hunter2"


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+asyncpg"])
@pytest.mark.parametrize(
    "rest",
    [
        "me:hunter2@db.example:5432/yard?sslmode=verify-full",
        "me:p%40ss@[::1]/yard",
        "/yard?host=/run/postgresql",
    ],
)
def test_every_name_of_postgresql_gets_the_driver(scheme: str, rest: str) -> None:
    assert with_driver(f"{scheme}://{rest}") == f"postgresql+asyncpg://{rest}"


def test_sqlite_gets_its_driver_and_is_the_default() -> None:
    assert with_driver("sqlite:////srv/x.db") == "sqlite+aiosqlite:////srv/x.db"
    assert load({"MODELYARD_HOME": "/srv/h"}).database == "sqlite+aiosqlite:////srv/h/modelyard.db"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("mysql://me:hunter2@db/yard", "begins with 'mysql'"),
        ("postgresql+psycopg2://me:hunter2@db/yard", "begins with 'postgresql+psycopg2'"),
        ("me:hunter2@db/yard", "has no scheme"),
        ("postgresql://me:hunter2@db", "cannot be read"),
        ("postgresql://me:hunter2@db:many/yard", "cannot be read"),
        ("postgresql://me:hunter2/x@db:5432/yard", "cannot be read"),
        ("postgresql://me:hunter2#x@db:5432/yard", "cannot be read"),
        ("postgresql:///yard", "names no host"),
        ("postgresql://me:hunter2@db/yard?sslmode=yes", "a wrong sslmode"),
        ("postgresql://me:hunter2@db/yard?passfile=/x", "the option 'passfile'"),
    ],
)
def test_a_wrong_url_is_refused_by_its_variable_without_being_quoted(url: str, why: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load({"MODELYARD_DATABASE_URL": url})
    told = str(refused.value)
    assert told.startswith("MODELYARD_DATABASE_URL: ")
    assert why in told
    assert "allowed" in told
    assert SECRET not in told
