"""Relations that a command has added, and how far each first pull has come."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True).with_variant(sa.String(27), "sqlite")


def upgrade() -> None:
    """Make the tables. First pulls that are complete have no row: they were of all subjects."""
    op.create_table(
        "watches",
        sa.Column("relation", sa.Text(), nullable=False),
        sa.Column("filter", sa.JSON(), nullable=False),
        sa.Column("added_at", TIME, nullable=False),
        sa.Column("added_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("relation", name="pk_watches"),
    )
    op.create_table(
        "backfills",
        sa.Column("relation", sa.Text(), nullable=False),
        sa.Column("filter_key", sa.Text(), nullable=False),
        sa.Column("after", sa.Text(), nullable=False),
        sa.Column("subjects", sa.Integer(), nullable=False),
        sa.Column("pages", sa.Integer(), nullable=False),
        sa.Column("begun_at", TIME, nullable=False),
        sa.Column("done_at", TIME, nullable=True),
        sa.Column("updated_run", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["updated_run"], ["runs.id"], name="fk_backfills_updated_run_runs"),
        sa.PrimaryKeyConstraint("relation", name="pk_backfills"),
    )


def downgrade() -> None:
    """Drop the tables. A first pull that is under way begins again."""
    op.drop_table("backfills")
    op.drop_table("watches")
