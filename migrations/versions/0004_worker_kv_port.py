"""Workers have a port where their KV is handed over: SGLang's halves meet at prefill's.

Revision ID: 0004
Revises: 0003
Create Date: 2026-11-26
"""

from alembic import op
import sqlalchemy as sa

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("workers", sa.Column("kv_port", sa.Integer(), server_default="0", nullable=False))


def downgrade() -> None:
    op.drop_column("workers", "kv_port")
