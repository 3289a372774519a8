"""Nodes drain, devices have islands and quarantines, workers depart; quotas and leases.

Revision ID: 0005
Revises: 0004
Create Date: 2026-11-26
"""

from collections.abc import Iterator
from typing import Any

from alembic import op
import sqlalchemy as sa

from migrations import going_back

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_SLOT = ("model", "variant", "role", "ordinal", "fingerprint")
_COLUMNS = {
    "nodes": ("draining", "sources"),
    "devices": ("uuid", "island", "used_bytes", "quarantine", "overuse"),
    "workers": ("departing",),
}
_SPEC_FIELDS = frozenset({"priority", "min_available", "locality", "island"})
_TWICE = """
SELECT model || '/' || variant || ' ' || role || ' ' || ordinal FROM workers
WHERE ended_at IS NULL GROUP BY model, variant, role, ordinal, fingerprint HAVING count(*) > 1
"""


def _column(name: str) -> sa.Column[Any]:
    if name in ("draining", "departing"):
        return sa.Column(name, sa.Boolean(), server_default=sa.false(), nullable=False)
    if name == "used_bytes":
        return sa.Column(name, sa.BigInteger(), server_default="0", nullable=False)
    default = "[]" if name == "sources" else ""
    return sa.Column(name, sa.Text(), server_default=default, nullable=False)


def upgrade() -> None:
    for table, names in _COLUMNS.items():
        for name in names:
            op.add_column(table, _column(name))
    # Those that leave already: SET before the index that tells them apart.
    workers = sa.table("workers", sa.column("phase"), sa.column("departing"))
    leaving = workers.c.phase.in_(("draining", "stopping"))
    op.execute(workers.update().where(leaving).values(departing=sa.true()))
    _index_slots("ended_at IS NULL AND NOT departing")
    op.create_table(
        "quotas",
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("devices", sa.Integer(), nullable=True),
        sa.Column("memory_bytes", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("owner", name=op.f("pk_quotas")),
    )
    op.create_table(
        "leases",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leases")),
    )


def _index_slots(where: str) -> None:
    op.drop_index("uq_workers_live_slot", "workers")
    op.create_index(
        "uq_workers_live_slot",
        "workers",
        list(_SLOT),
        unique=True,
        sqlite_where=sa.text(where),
        postgresql_where=sa.text(where),
    )


def obstacles(connection: sa.Connection) -> Iterator[str]:
    if twice := going_back.ids(connection, _TWICE):
        yield (
            f"these places have a worker and its successor ({going_back.named(sorted(twice))}): "
            "wait until the moves have ended (`modelyard get workers`)"
        )
    yield from going_back.specs_that_use(connection, _SPEC_FIELDS)


def losses(connection: sa.Connection) -> Iterator[str]:
    for what, query in (
        ("quotas", "SELECT count(*) FROM quotas"),
        ("drains of nodes, which stay cordoned", "SELECT count(*) FROM nodes WHERE draining"),
        ("quarantines of devices", "SELECT count(*) FROM devices WHERE quarantine <> ''"),
    ):
        yield from going_back.counted(connection, what, query)


def downgrade() -> None:
    going_back.tell_events_as(op.get_bind(), "node-changed", "quota-changed", "leader-changed")
    op.drop_table("leases")
    op.drop_table("quotas")
    _index_slots("ended_at IS NULL")
    for table, names in _COLUMNS.items():
        for name in names:
            op.drop_column(table, name)
