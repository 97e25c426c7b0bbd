"""Growth: what was pruned and when, and which checkpoints have no files any more."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True).with_variant(sa.String(27), "sqlite")


def upgrade() -> None:
    """Make the table; every checkpoint that is there has its files."""
    op.add_column("checkpoints", sa.Column("pruned_at", TIME, nullable=True))
    op.create_table(
        "prunes",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("checkpoints", sa.Integer(), nullable=False),
        sa.Column("outcomes", sa.Integer(), nullable=False),
        sa.Column("targets", sa.Integer(), nullable=False),
        sa.Column("runs", sa.JSON(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_prunes"),
    )


def downgrade() -> None:
    """Drop them. Checkpoints whose files are gone look as if they had been deleted by hand."""
    op.drop_table("prunes")
    op.drop_column("checkpoints", "pruned_at")
