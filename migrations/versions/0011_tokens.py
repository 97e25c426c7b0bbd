"""Tokens for HTTP, and indexes that count changes and runs for a scrape."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0009"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True).with_variant(sa.String(27), "sqlite")


def upgrade() -> None:
    """Make the table. Nobody has a token yet."""
    op.create_table(
        "tokens",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("may_write", sa.Boolean(), nullable=False),
        sa.Column("made_at", TIME, nullable=False),
        sa.Column("made_by", sa.Text(), nullable=False),
        sa.Column("revoked_at", TIME, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_tokens"),
    )
    op.create_index(
        "uq_tokens_live_name",
        "tokens",
        ["name"],
        unique=True,
        sqlite_where=sa.text("revoked_at IS NULL"),
        postgresql_where=sa.text("revoked_at IS NULL"),
    )
    op.create_index("ix_changes_kind", "changes", ["kind"])
    op.create_index("ix_runs_status_trigger_ended_at", "runs", ["status", "trigger", "ended_at"])


def downgrade() -> None:
    """Drop the table: every token is void."""
    op.drop_index("ix_runs_status_trigger_ended_at", "runs")
    op.drop_index("ix_changes_kind", "changes")
    op.drop_table("tokens")
