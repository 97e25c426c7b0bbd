"""Pauses of what starts by itself."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True).with_variant(sa.String(27), "sqlite")


def upgrade() -> None:
    """Make the table: nothing is paused."""
    op.create_table(
        "pauses",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("paused_at", TIME, nullable=False),
        sa.Column("paused_by", sa.Text(), nullable=False),
        sa.Column("until", TIME, nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("resumed_at", TIME, nullable=True),
        sa.Column("resumed_by", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_pauses"),
    )


def downgrade() -> None:
    """Drop it. What is paused starts again."""
    op.drop_table("pauses")
