"""What is remembered of the sources: request budget and circuit breaker of each endpoint, streams."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True).with_variant(sa.String(27), "sqlite")
TABLES = ("endpoints", "streams", "stream_outcomes", "touches")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "endpoints",
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("refusals", sa.Integer(), nullable=False),
        sa.Column("trips", sa.Integer(), nullable=False),
        sa.Column("open_until", TIME, nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("seconds_left", sa.Float(53), nullable=True),
        sa.Column("errors_left", sa.Float(53), nullable=True),
        sa.Column("budget_at", TIME, nullable=True),
        sa.Column("page_size", sa.Integer(), nullable=True),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("refused", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("host", name="pk_endpoints"),
    )
    op.create_table(
        "streams",
        sa.Column("stream", sa.Text(), nullable=False),
        sa.Column("last_event_id", sa.Text(), nullable=True),
        sa.Column("event_at", TIME, nullable=True),
        sa.Column("updated_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("stream", name="pk_streams"),
    )
    op.create_table(
        "stream_outcomes",
        sa.Column("stream", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("events", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("stream", "outcome", name="pk_stream_outcomes"),
    )
    op.create_table(
        "touches",
        sa.Column("relation", sa.Text(), nullable=False),
        sa.Column("item", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("operation", sa.Text(), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("seen_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("relation", "item", name="pk_touches"),
    )
    op.create_index("ix_touches_item", "touches", ["item"])


def downgrade() -> None:
    """Drop the tables."""
    for table in reversed(TABLES):
        op.drop_table(table)
