"""Traffic says how long whole answers took.

Revision ID: 0008
Revises: 0007
Create Date: 2026-11-26
"""

from alembic import op
import sqlalchemy as sa

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("traffic", sa.Column("e2e", sa.Text(), server_default="{}", nullable=False))


def downgrade() -> None:
    op.drop_column("traffic", "e2e")
