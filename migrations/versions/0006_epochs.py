"""Epochs of the leases, the epoch that a run had, and what was found to be wrong with a checkpoint's files."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Runs that are there had no epoch: 0, which no lease ever has."""
    op.create_table(
        "leases",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_leases"),
    )
    op.add_column("runs", sa.Column("epoch", sa.Integer(), server_default="0", nullable=False))
    op.add_column("checkpoints", sa.Column("damage", sa.Text(), nullable=True))


def downgrade() -> None:
    """Writers are told apart by their rows alone again."""
    op.drop_column("checkpoints", "damage")
    op.drop_column("runs", "epoch")
    op.drop_table("leases")
