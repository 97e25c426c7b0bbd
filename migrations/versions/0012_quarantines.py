"""Requests that the gate's bisection keeps out, with its trials; what rollbacks set aside; the view of both."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True).with_variant(sa.String(27), "sqlite")
TRIALS = ("bisection_trials", "bisection_requests", "bisection_verdicts")


def upgrade() -> None:
    """Make the tables, then the view that reads them. Nothing is kept out yet."""
    _make_quarantines()
    _make_trials()
    _make_asides()
    folder = Path(__file__).resolve().parent.parent / "views"
    sql = (folder / f"{revision}_kept_out_facts.sql").read_text(encoding="utf-8")
    op.execute(f"CREATE VIEW kept_out_facts AS\n{sql}")


def downgrade() -> None:
    """Drop them: what was kept out is tried again."""
    op.execute("DROP VIEW kept_out_facts")
    op.drop_table("asides")
    for table in reversed(TRIALS):
        op.drop_table(table)
    op.drop_table("quarantines")


def _make_quarantines() -> None:
    op.create_table(
        "quarantines",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("request_id", sa.Integer(), nullable=False),
        sa.Column("content_hash", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("relation", sa.Text(), nullable=False),
        sa.Column("value_kind", sa.String(length=16), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("base_hash", sa.Text(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("metric", sa.Text(), nullable=True),
        sa.Column("value_with", sa.Float(53), nullable=True),
        sa.Column("value_without", sa.Float(53), nullable=True),
        sa.Column("comparison", sa.Text(), nullable=True),
        sa.Column("threshold", sa.Float(53), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("released_at", TIME, nullable=True),
        sa.Column("released_by", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["request_id"], ["edit_requests.id"], name="fk_quarantines_request_id"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_quarantines_run_id"),
        sa.PrimaryKeyConstraint("id", name="pk_quarantines"),
    )
    op.create_index("ix_quarantines_run_id", "quarantines", ["run_id"])
    op.create_index(
        "uq_quarantines_open",
        "quarantines",
        ["request_id", "base_hash"],
        unique=True,
        sqlite_where=sa.text("released_at IS NULL"),
        postgresql_where=sa.text("released_at IS NULL"),
    )


def _make_asides() -> None:
    op.create_table(
        "asides",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("relation", sa.Text(), nullable=False),
        sa.Column("value_kind", sa.String(length=16), nullable=True),
        sa.Column("value", sa.Text(), nullable=True),
        sa.Column("disliked_request", sa.Integer(), nullable=True),
        sa.Column("kept_request", sa.Integer(), nullable=True),
        sa.Column("publication_id", sa.Integer(), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("ended_at", TIME, nullable=True),
        sa.Column("ended_by", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["disliked_request"], ["edit_requests.id"], name="fk_asides_disliked_request"),
        sa.ForeignKeyConstraint(["kept_request"], ["edit_requests.id"], name="fk_asides_kept_request"),
        sa.ForeignKeyConstraint(["publication_id"], ["publications.id"], name="fk_asides_publication_id"),
        sa.PrimaryKeyConstraint("id", name="pk_asides"),
    )
    op.create_index(
        "uq_asides_open",
        "asides",
        ["subject", "relation"],
        unique=True,
        sqlite_where=sa.text("ended_at IS NULL"),
        postgresql_where=sa.text("ended_at IS NULL"),
    )


def _make_trials() -> None:
    def key(table: str) -> list[sa.Column | sa.ForeignKeyConstraint]:
        return [
            sa.Column("run_id", sa.Integer(), nullable=False),
            sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
            sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=f"fk_{table}_run_id"),
        ]

    op.create_table(
        "bisection_trials",
        *key("bisection_trials"),
        sa.Column("facts", sa.Integer(), nullable=False),
        sa.Column("new", sa.Integer(), nullable=False),
        sa.Column("passed", sa.Boolean(), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("seconds", sa.Float(53), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "number", name="pk_bisection_trials"),
    )
    op.create_table(
        "bisection_requests",
        *key("bisection_requests"),
        sa.Column("request_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["request_id"], ["edit_requests.id"], name="fk_bisection_requests_request_id"),
        sa.PrimaryKeyConstraint("run_id", "number", "request_id", name="pk_bisection_requests"),
    )
    op.create_index("ix_bisection_requests_request_id", "bisection_requests", ["request_id"])
    op.create_table(
        "bisection_verdicts",
        *key("bisection_verdicts"),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("value", sa.Float(53), nullable=True),
        sa.Column("comparison", sa.Text(), nullable=False),
        sa.Column("threshold", sa.Float(53), nullable=True),
        sa.Column("passed", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "number", "metric", name="pk_bisection_verdicts"),
    )
