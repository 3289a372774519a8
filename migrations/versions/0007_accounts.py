"""Accounts of people, browsers that are signed in, and what an admin key may do.

Revision ID: 0007
Revises: 0006
Create Date: 2026-11-27
"""

from collections.abc import Iterator

from alembic import op
import sqlalchemy as sa

from migrations import going_back

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_VIEWERS = "SELECT id FROM keys WHERE role = 'viewer' AND revoked_at IS NULL ORDER BY id"


def upgrade() -> None:
    op.add_column("keys", sa.Column("role", sa.String(16), server_default="admin", nullable=False))
    op.create_table(
        "accounts",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_accounts")),
    )
    op.create_table(
        "sessions",
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("actor", sa.String(96), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("account", sa.String(64), nullable=False),
        sa.Column("key_id", sa.String(32), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("seen_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_sessions")),
    )
    op.create_index("ix_sessions_actor", "sessions", ["actor"])


def obstacles(connection: sa.Connection) -> Iterator[str]:
    if viewers := going_back.ids(connection, _VIEWERS):
        yield (
            f"admin keys may only look, and would open everything ({going_back.named(viewers)}): "
            "revoke them"
        )


def losses(connection: sa.Connection) -> Iterator[str]:
    yield from going_back.counted(
        connection, "accounts of people", "SELECT count(*) FROM accounts"
    )


def downgrade() -> None:
    going_back.tell_events_as(op.get_bind(), "key-created", "account-changed", "sign-in")
    op.drop_table("sessions")
    op.drop_table("accounts")
    op.drop_column("keys", "role")
