"""Rollouts, scales, pools, proposals, traffic and demand; workers sleep.

Revision ID: 0006
Revises: 0005
Create Date: 2026-11-26
"""

from collections.abc import Iterator
from typing import Any

from alembic import op
import sqlalchemy as sa

from migrations import going_back

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_ACTIVE = "ended_at IS NULL"
_SPEC_FIELDS = frozenset(
    {"slo", "rollout", "idle", "pool", "fallback", "sticky", "shadow_percent", "ratio"}
    | {"max_surge", "max_unavailable", "autoscale"}
)
_SLEEPING = """
SELECT id FROM workers w WHERE ended_at IS NULL AND (
phase IN ('falling-asleep', 'asleep', 'waking') OR EXISTS (
SELECT 1 FROM claims c WHERE c.worker_id = w.id AND c.memory_bytes = 0)) ORDER BY id
"""
_TABLES = ("demand", "traffic", "proposals", "scales", "rollouts", "pools")


def _text(name: str, length: int | None = None) -> sa.Column[Any]:
    return sa.Column(name, sa.String(length) if length else sa.Text(), nullable=False)


def _integers(*names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, sa.Integer(), nullable=False) for name in names]


def _bigs(*names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, sa.BigInteger(), nullable=False) for name in names]


def _times(*names: str, nullable: bool = False) -> list[sa.Column[Any]]:
    return [sa.Column(name, sa.Double(), nullable=nullable) for name in names]


def _check_claims(condition: str) -> None:
    """SQLite changes no constraint: there the table is made anew, and nothing refers to it."""
    if op.get_bind().dialect.name != "sqlite":
        op.drop_constraint(op.f("ck_claims_memory"), "claims", type_="check")
        op.create_check_constraint(op.f("ck_claims_memory"), "claims", condition)
        return
    op.drop_index("ix_claims_device_id", "claims")
    op.rename_table("claims", "claims_before")
    op.create_table(
        "claims",
        sa.Column("worker_id", sa.String(96), nullable=False),
        sa.Column("device_id", sa.String(192), nullable=False),
        sa.Column("memory_bytes", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(condition, name=op.f("ck_claims_memory")),
        sa.ForeignKeyConstraint(
            ["worker_id"], ["workers.id"], name=op.f("fk_claims_worker_id_workers")
        ),
        sa.ForeignKeyConstraint(
            ["device_id"], ["devices.id"], name=op.f("fk_claims_device_id_devices")
        ),
        sa.PrimaryKeyConstraint("worker_id", "device_id", name=op.f("pk_claims")),
    )
    op.execute(
        "INSERT INTO claims (worker_id, device_id, memory_bytes) "
        "SELECT worker_id, device_id, memory_bytes FROM claims_before"
    )
    op.drop_table("claims_before")
    op.create_index("ix_claims_device_id", "claims", ["device_id"])


def upgrade() -> None:
    op.add_column(
        "workers", sa.Column("sleep_mode", sa.String(32), server_default="", nullable=False)
    )
    _check_claims("memory_bytes >= 0")
    op.create_table(
        "pools",
        _text("name", 64),
        *_times("overcommit", "awake_min_s"),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_pools")),
    )
    _create_rollouts()
    op.create_table(
        "scales",
        *(_text("model", 64), _text("variant", 64), _text("role", 16)),
        *_integers("workers"),
        _text("reason"),
        *_times("at"),
        sa.CheckConstraint("workers >= 1", name=op.f("ck_scales_workers")),
        sa.ForeignKeyConstraint(["model"], ["models.name"], name=op.f("fk_scales_model_models")),
        sa.PrimaryKeyConstraint("model", "variant", "role", name=op.f("pk_scales")),
    )
    op.create_table(
        "proposals",
        *(_text("id", 32), _text("model", 64)),
        *_integers("base_revision"),
        *(_text("spec"), _text("reason")),
        *_times("created_at"),
        _text("created_by"),
        sa.Column("taken", sa.Boolean(), nullable=True),
        *_times("decided_at", nullable=True),
        sa.ForeignKeyConstraint(
            ["model"], ["models.name"], name=op.f("fk_proposals_model_models")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_proposals")),
    )
    op.create_index("ix_proposals_model", "proposals", ["model"])
    op.create_table(
        "traffic",
        *_times("at"),
        *(_text("gateway", 64), _text("model", 64), _text("variant", 64)),
        *_integers("revision", "requests", "errors", "paired"),
        *_bigs("prompt_tokens", "completion_tokens"),
        *(_text("ttft"), _text("tpot")),
        sa.PrimaryKeyConstraint(
            "at", "gateway", "model", "variant", "revision", name=op.f("pk_traffic")
        ),
    )
    op.create_table(
        "demand",
        *(_text("gateway", 64), _text("model", 64)),
        *_times("at"),
        *_integers("queued"),
        *_bigs("queued_prompt_tokens"),
        *_times("oldest_at"),
        *_integers("in_flight"),
        *_times("asked_at"),
        sa.PrimaryKeyConstraint("gateway", "model", name=op.f("pk_demand")),
    )


def _create_rollouts() -> None:
    revisions = ["revisions.model", "revisions.number"]
    op.create_table(
        "rollouts",
        _text("model", 64),
        *_integers("to_revision", "from_revision"),
        *(_text("policy"), _text("state", 16)),
        *_integers("step", "percent"),
        *_times("step_at"),
        _text("reason"),
        *_times("created_at"),
        *_times("ended_at", nullable=True),
        sa.CheckConstraint("from_revision < to_revision", name=op.f("ck_rollouts_forward")),
        sa.CheckConstraint(
            "percent >= 0 AND percent <= 100 AND step >= 0", name=op.f("ck_rollouts_step")
        ),
        sa.ForeignKeyConstraint(
            ["model", "from_revision"], revisions, name="fk_rollouts_from_revisions"
        ),
        sa.ForeignKeyConstraint(
            ["model", "to_revision"], revisions, name="fk_rollouts_to_revisions"
        ),
        sa.PrimaryKeyConstraint("model", "to_revision", name=op.f("pk_rollouts")),
    )
    op.create_index(
        "uq_rollouts_active",
        "rollouts",
        ["model"],
        unique=True,
        sqlite_where=sa.text(_ACTIVE),
        postgresql_where=sa.text(_ACTIVE),
    )


def obstacles(connection: sa.Connection) -> Iterator[str]:
    if sleeping := going_back.ids(connection, _SLEEPING):
        yield (
            f"workers sleep, which the older version does not know ({going_back.named(sleeping)}): "
            "wake them with a request to their models, or delete these"
        )
    yield from going_back.specs_that_use(connection, _SPEC_FIELDS)


def losses(connection: sa.Connection) -> Iterator[str]:
    rolling = going_back.ids(
        connection, f"SELECT model FROM rollouts WHERE {_ACTIVE} ORDER BY model"
    )
    if rolling:
        yield (
            f"the rollouts under way ({going_back.named(rolling)}): all traffic goes to the newest "
            "revisions"
        )
    for what, query in (
        ("pools' settings", "SELECT count(*) FROM pools"),
        ("sizes that roles have by their load", "SELECT count(*) FROM scales"),
        ("proposals that nobody decided", "SELECT count(*) FROM proposals WHERE taken IS NULL"),
    ):
        yield from going_back.counted(connection, what, query)


def downgrade() -> None:
    going_back.tell_events_as(
        op.get_bind(), "model-condition", "pool-changed", "rollout", "model-scaled", "proposal"
    )
    for table in _TABLES:
        op.drop_table(table)
    _check_claims("memory_bytes > 0")
    op.drop_column("workers", "sleep_mode")
