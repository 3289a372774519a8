"""What migrations tell of their way back.

A migration may have two functions of the connection beside its `downgrade`: `obstacles`, sentences
that say what the older version cannot hold and what to do about it, and `losses`, a few words on
each thing that it forgets. Both look at the newer schema, and change nothing.
"""

import json
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

_NAMED_MAX = 5
_FREE = frozenset({"args", "labels"})  # whose keys are other people's words
_SPECS = """
SELECT m.name, r.spec FROM models m JOIN revisions r ON r.model = m.name AND r.number = m.revision
WHERE NOT m.deleted OR EXISTS (
SELECT 1 FROM workers w WHERE w.model = m.name AND w.ended_at IS NULL) ORDER BY m.name
"""


def ids(connection: Connection, query: str) -> list[str]:
    return [str(found) for found in connection.execute(sa.text(query)).scalars()]


def named(names: list[str]) -> str:
    more = len(names) - _NAMED_MAX
    return ", ".join(names[:_NAMED_MAX]) + (f" and {more} more" if more > 0 else "")


def counted(connection: Connection, what: str, query: str) -> Iterator[str]:
    """``quotas (3)``, or nothing where *query* counts none."""
    count = connection.execute(sa.text(query)).scalar_one()
    if count:
        yield f"{what} ({count})"


def specs_that_use(connection: Connection, fields: frozenset[str]) -> Iterator[str]:
    """Older code refuses a spec that says what it does not know."""
    for name, spec in connection.execute(sa.text(_SPECS)):
        if used := sorted(set(_keys(json.loads(spec))) & fields):
            yield (
                f"model {name} uses {', '.join(used)}, which the older version does not know: "
                "apply it without, or delete it"
            )


def _keys(data: Any) -> Iterator[str]:
    if isinstance(data, list):
        for item in data:
            yield from _keys(item)
    elif isinstance(data, dict):
        for key, value in data.items():
            yield key
            if key not in _FREE:
                yield from _keys(value)


def tell_events_as(connection: Connection, kind: str, *newer: str) -> None:
    """Events of kinds that older code could not read become ones of *kind*: their messages say what
    they were, and to delete them could take the version back.
    """
    events = sa.table("events", sa.column("kind"))
    connection.execute(events.update().where(events.c.kind.in_(newer)).values(kind=kind))
