"""Which candidate a run was refused, so that the same one isn't built again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Of earlier refusals it isn't known: such a candidate is built once more."""
    op.add_column("runs", sa.Column("refused_hash", sa.Text(), nullable=True))


def downgrade() -> None:
    """Drop the column: each candidate is built again at each sync."""
    op.drop_column("runs", "refused_hash")
