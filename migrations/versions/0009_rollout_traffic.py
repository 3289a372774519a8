"""What both revisions of a rollout did since its step began.

Revision ID: 0009
Revises: 0008
Create Date: 2026-11-26
"""

from alembic import op
import sqlalchemy as sa

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "rollout_traffic",
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("to_revision", sa.Integer(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("variant", sa.String(64), nullable=False),
        sa.Column("percent", sa.Integer(), nullable=False),
        sa.Column("since", sa.Double(), nullable=False),
        sa.Column("until", sa.Double(), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("errors", sa.BigInteger(), nullable=False),
        sa.Column("ttft", sa.Text(), nullable=False),
        sa.Column("tpot", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["model", "to_revision"],
            ["rollouts.model", "rollouts.to_revision"],
            name="fk_rollout_traffic_rollouts",
        ),
        sa.PrimaryKeyConstraint(
            "model", "to_revision", "revision", "variant", name=op.f("pk_rollout_traffic")
        ),
    )


def downgrade() -> None:
    """What a gate has seen so far is forgotten: it looks again."""
    op.drop_table("rollout_traffic")
