"""Values that are read from rows of the same names."""

import msgspec
import pytest

from registry import rows
from registry import tables as t


@pytest.mark.parametrize(
    "convert",
    [
        rows.account,
        rows.audit_entry,
        rows.claim,
        rows.demand,
        rows.device,
        rows.event,
        rows.pool,
        rows.quota,
        rows.scale,
        rows.session,
    ],
)
def test_every_field_has_its_column(convert):
    """One without it would have its default, whatever was written."""
    row, value = convert.__annotations__["row"], convert.__annotations__["return"]
    columns = set(row.__table__.columns.keys())
    assert {field.name for field in msgspec.structs.fields(value)} <= columns


def test_what_is_a_word_in_the_row_is_an_enum_in_the_value():
    event = rows.event(
        t.EventRow(id=1, at=2.0, kind="pool-changed", model="", worker="", node="", message="x")
    )
    assert type(event.kind).__name__ == "EventKind"
