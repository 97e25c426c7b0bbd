"""How much a relation that a command has added matters where not all facts fit."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Give each the priority that it had: none above the others."""
    op.add_column("watches", sa.Column("priority", sa.Integer(), nullable=False, server_default="0"))


def downgrade() -> None:
    """Drop the column: all matter alike again."""
    op.drop_column("watches", "priority")
