"""What a value node adds: the precision of a time, the unit of a quantity."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TABLES = ("statements", "facts")


def upgrade() -> None:
    """Rows that are there say nothing of it until they are read again."""
    for table in TABLES:
        op.add_column(table, sa.Column("detail", sa.Text(), nullable=True))


def downgrade() -> None:
    """Times are said as before: 1 January is a year."""
    for table in reversed(TABLES):
        op.drop_column(table, "detail")
