"""Keys have a priority, and workers a place where they publish KV events.

Plain ALTERs where the first migration has batches: a batch copies the table and drops the old one,
which SQLite refuses for `workers` as long as a claim points there.

Revision ID: 0002
Revises: 0001
Create Date: 2026-11-26
"""

from collections.abc import Iterator

from alembic import op
import sqlalchemy as sa

from migrations import going_back

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "keys", sa.Column("priority", sa.String(length=16), server_default="normal", nullable=False)
    )
    op.add_column("workers", sa.Column("events_url", sa.Text(), server_default="", nullable=False))


def losses(connection: sa.Connection) -> Iterator[str]:
    yield from going_back.counted(
        connection, "priorities of keys", "SELECT count(*) FROM keys WHERE priority <> 'normal'"
    )


def downgrade() -> None:
    op.drop_column("workers", "events_url")
    op.drop_column("keys", "priority")
