"""Workers have a port where their KV is handed over: SGLang's halves meet at prefill's.

Revision ID: 0004
Revises: 0003
Create Date: 2026-11-26
"""

from collections.abc import Iterator

from alembic import op
import sqlalchemy as sa

from migrations import going_back

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("workers", sa.Column("kv_port", sa.Integer(), server_default="0", nullable=False))


def losses(connection: sa.Connection) -> Iterator[str]:
    yield from going_back.counted(
        connection,
        "ports where workers hand KV over, so that SGLang pairs must be started anew",
        "SELECT count(*) FROM workers WHERE ended_at IS NULL AND kv_port <> 0",
    )


def downgrade() -> None:
    op.drop_column("workers", "kv_port")
