"""How long steps were measured to take.

Revision ID: 0010
Revises: 0009
Create Date: 2026-11-26
"""

from collections.abc import Iterator

from alembic import op
import sqlalchemy as sa

from migrations import going_back

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "profiles",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("source", sa.String(1024), nullable=False),
        sa.Column("engine", sa.String(32), nullable=False),
        sa.Column("device_model", sa.String(128), nullable=False),
        sa.Column("devices", sa.Integer(), nullable=False),
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("variant", sa.String(64), nullable=False),
        sa.Column("runtime", sa.Text(), nullable=False),
        sa.Column("memory_bytes", sa.BigInteger(), nullable=False),
        sa.Column("batched_tokens", sa.Integer(), nullable=False),
        sa.Column("kv_tokens", sa.BigInteger(), nullable=False),
        sa.Column("is_kv_told", sa.Boolean(), nullable=False),
        sa.Column("points", sa.Text(), nullable=False),
        sa.Column("measured_at", sa.Double(), nullable=False),
        sa.Column("measured_by", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["model"], ["models.name"], name=op.f("fk_profiles_model_models")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_profiles")),
        sa.UniqueConstraint(
            "source", "engine", "device_model", "devices", name="uq_profiles_measured"
        ),
    )


def losses(connection: sa.Connection) -> Iterator[str]:
    yield from going_back.counted(
        connection, "measured step times", "SELECT count(*) FROM profiles"
    )


def downgrade() -> None:
    going_back.tell_events_as(op.get_bind(), "model-condition", "profile")
    op.drop_table("profiles")
