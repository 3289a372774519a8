"""The schema's form: which tables, columns and indexes there are, and which there should be.

What a database says of its version is one row. Whether it is so is looked at before anybody works
with it: migrations are one transaction each way, but a copy that was cut off, or a change by hand,
are not.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import Script, ScriptDirectory
from sqlalchemy import Connection, create_engine, text

import migrations
from registry.tables import Base

Form = Mapping[str, frozenset[str]]  # columns and named indexes, by table

_NAMED_MAX = 5
_SQLITE = """
SELECT m.name, c.name FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table'
UNION ALL SELECT tbl_name, name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL
"""
_POSTGRESQL = """
SELECT t.relname::text, c.attname::text FROM pg_class t JOIN pg_attribute c ON c.attrelid = t.oid
WHERE t.relnamespace = current_schema()::regnamespace AND t.relkind IN ('r', 'p')
AND c.attnum > 0 AND NOT c.attisdropped
UNION ALL SELECT tablename::text, indexname::text FROM pg_indexes
WHERE schemaname = current_schema()
"""


def config() -> Config:
    """Alembic's configuration, without a file: the scripts travel inside the package."""
    folder = Path(migrations.__file__).parent
    made = Config()
    made.set_main_option("script_location", str(folder).replace("%", "%%"))
    made.set_main_option("path_separator", "os")
    return made


def scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(config())


def head() -> str:
    """The schema version this code was written for."""
    revision = scripts().get_current_head()
    assert revision is not None, "there is no migration"
    return revision


def known_versions() -> tuple[str, ...]:
    """Oldest first."""
    return tuple(script.revision for script in scripts().walk_revisions())[::-1]


def between(lower: str | None, upper: str | None) -> tuple[Script, ...]:
    """The migrations above *lower* up to *upper*, oldest first; None is the empty database."""
    return tuple(scripts().iterate_revisions(upper or "base", lower or "base"))[::-1]


def found(connection: Connection) -> Form:
    """What there is, by one query."""
    query = _SQLITE if connection.dialect.name == "sqlite" else _POSTGRESQL
    form: dict[str, set[str]] = {}
    for table, part in connection.execute(text(query)):
        form.setdefault(table, set()).add(part)
    return {table: frozenset(parts) for table, parts in form.items()}


@lru_cache(1)
def declared() -> Form:
    """What this code works with."""
    return {
        table.name: frozenset(column.name for column in table.columns)
        | frozenset(str(index.name) for index in table.indexes)
        for table in Base.metadata.tables.values()
    }


def of_version(version: str | None) -> Form:
    """What the migrations up to *version* make, tried on a database in memory."""
    if version is None:
        return {}
    engine = create_engine("sqlite://")
    try:
        with engine.begin() as connection:
            made = config()
            made.attributes["connection"] = connection
            command.upgrade(made, version)
            form = dict(found(connection))
    finally:
        engine.dispose()
    del form["alembic_version"]
    return form


def missing(there: Form, wanted: Form) -> tuple[str, ...]:
    """What *wanted* has and *there* lacks, as in ``workers.sleep_mode``; whole tables by name."""
    return tuple(_missing(there, wanted))


def _missing(there: Form, wanted: Form) -> Iterator[str]:
    for table, parts in sorted(wanted.items()):
        if table not in there:
            yield table
        else:
            yield from (f"{table}.{part}" for part in sorted(parts - there[table]))


def mismatch(version: str | None, there: Form) -> str:
    """Says what of the schema is not as *version* has it; "" where all is. Where it is at `head`,
    what is there in addition is nobody's business.
    """
    wanted = declared() if version == head() else of_version(version)
    lacks = missing(there, wanted)
    surplus = set(missing(wanted, there)) & set(missing(wanted, declared()))
    parts = []
    if lacks:
        parts.append(f"it lacks {_named(lacks)}")
    if surplus:
        parts.append(f"it has {_named(sorted(surplus))} already")
    return " and ".join(parts)


def _named(names: Sequence[str]) -> str:
    more = len(names) - _NAMED_MAX
    return ", ".join(names[:_NAMED_MAX]) + (f" and {more} more" if more > 0 else "")
