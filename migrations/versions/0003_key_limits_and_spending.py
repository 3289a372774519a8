"""Keys have limits and can be rotated; usage knows what was asked for and what it cost.

Revision ID: 0003
Revises: 0002
Create Date: 2026-11-26
"""

from collections.abc import Iterator
import json

from alembic import op
import sqlalchemy as sa

from migrations import going_back

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # With defaults, so that the gateway of before can go on writing rows.
    op.add_column("keys", sa.Column("limits", sa.Text(), nullable=False, server_default="{}"))
    op.add_column("keys", sa.Column("old_digest", sa.LargeBinary(32)))
    op.add_column("keys", sa.Column("old_expires_at", sa.Double()))
    op.create_index(op.f("ix_keys_old_digest"), "keys", ["old_digest"])
    op.add_column(
        "usage", sa.Column("operation", sa.String(32), nullable=False, server_default="")
    )
    op.add_column(
        "usage", sa.Column("cost_nano", sa.BigInteger, nullable=False, server_default="0")
    )
    op.create_index(op.f("ix_usage_closed_at"), "usage", ["closed_at"])
    # Instead of the one by key and model, which made sums slower: they read the rows as they lie.
    op.create_index(op.f("ix_usage_key_id_closed_at"), "usage", ["key_id", "closed_at"])
    op.drop_index(op.f("ix_usage_key_id_model"), "usage")
    op.create_table(
        "spending",
        sa.Column("key_id", sa.String(32), primary_key=True),
        sa.Column("period", sa.String(16), primary_key=True),
        sa.Column("cost_nano", sa.BigInteger, nullable=False),
    )


def losses(connection: sa.Connection) -> Iterator[str]:
    limits = connection.execute(sa.text("SELECT limits FROM keys WHERE revoked_at IS NULL"))
    limited = sum(
        any(value for value in json.loads(text).values() if isinstance(value, int))
        for text in limits.scalars()
    )
    if limited:
        yield f"limits and budgets of keys, which then may use what there is ({limited})"
    for what, query in (
        ("secrets of before that overlap", "SELECT count(*) FROM keys WHERE old_digest NOTNULL"),
        ("sums of what keys spent", "SELECT count(*) FROM spending"),
    ):
        yield from going_back.counted(connection, what, query)


def downgrade() -> None:
    going_back.tell_events_as(op.get_bind(), "key-created", "key-changed", "key-rotated")
    op.drop_table("spending")
    op.create_index(op.f("ix_usage_key_id_model"), "usage", ["key_id", "model"])
    op.drop_index(op.f("ix_usage_key_id_closed_at"), "usage")
    op.drop_index(op.f("ix_usage_closed_at"), "usage")
    op.drop_column("usage", "cost_nano")
    op.drop_column("usage", "operation")
    op.drop_index(op.f("ix_keys_old_digest"), "keys")
    op.drop_column("keys", "old_expires_at")
    op.drop_column("keys", "old_digest")
    op.drop_column("keys", "limits")
