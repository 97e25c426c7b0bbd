"""The trust filter: past states of facts and labels, classes, scores, verdicts, decisions, questions."""

from pathlib import Path

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True).with_variant(sa.String(27), "sqlite")
TABLES = (
    "fact_states",
    "label_states",
    "item_classes",
    "class_roots",
    "revision_scores",
    "trust_verdicts",
    "trust_decisions",
    "trust_questions",
)


def upgrade() -> None:
    """Add the column and the tables, then the view that reads them."""
    op.add_column("statements", sa.Column("refs", sa.String(length=16), nullable=True))
    _make_states()
    _make_evidence()
    _make_verdicts()
    folder = Path(__file__).resolve().parent.parent / "views"
    sql = (folder / f"{revision}_held_changes.sql").read_text(encoding="utf-8")
    op.execute(f"CREATE VIEW held_changes AS\n{sql}")


def downgrade() -> None:
    """Drop what upgrade added."""
    op.execute("DROP VIEW held_changes")
    for table in reversed(TABLES):
        op.drop_table(table)
    op.drop_column("statements", "refs")


def _fact_columns(nullable: bool = False) -> list[sa.Column]:
    return [
        sa.Column("subject", sa.Text(), nullable=nullable),
        sa.Column("relation", sa.Text(), nullable=nullable),
        sa.Column("value_kind", sa.String(length=16), nullable=nullable),
        sa.Column("value", sa.Text(), nullable=nullable),
    ]


def _make_states() -> None:
    """What facts and labels were before."""
    op.create_table(
        "fact_states",
        sa.Column("id", sa.Integer(), nullable=False),
        *_fact_columns(),
        sa.Column("present", sa.Boolean(), nullable=False),
        sa.Column("preferred", sa.Boolean(), nullable=False),
        sa.Column("start_time", TIME, nullable=True),
        sa.Column("end_time", TIME, nullable=True),
        sa.Column("refs", sa.String(length=16), nullable=True),
        sa.Column("until", TIME, nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_fact_states_run_id"),
        sa.PrimaryKeyConstraint("id", name="pk_fact_states"),
    )
    op.create_index("ix_fact_states_relation_subject", "fact_states", ["relation", "subject"], unique=False)
    op.create_table(
        "label_states",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("entity", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=True),
        sa.Column("until", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_label_states"),
    )
    op.create_index("ix_label_states_entity", "label_states", ["entity"], unique=False)


def _make_evidence() -> None:
    """What is known of items and revisions."""
    op.create_table(
        "item_classes",
        sa.Column("item", sa.Text(), nullable=False),
        sa.Column("class_id", sa.Text(), nullable=False),
        sa.Column("read_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("item", "class_id", name="pk_item_classes"),
    )
    op.create_table(
        "class_roots",
        sa.Column("class_id", sa.Text(), nullable=False),
        sa.Column("root", sa.Text(), nullable=False),
        sa.Column("below", sa.Boolean(), nullable=False),
        sa.Column("read_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("class_id", "root", name="pk_class_roots"),
    )
    op.create_table(
        "revision_scores",
        sa.Column("revision", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("score", sa.Float(53), nullable=False),
        sa.Column("read_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("revision", name="pk_revision_scores"),
    )


def _make_verdicts() -> None:
    """Verdicts, and what people decided."""
    op.create_table(
        "trust_verdicts",
        sa.Column("id", sa.Integer(), nullable=False),
        *_fact_columns(),
        sa.Column("way", sa.String(length=16), nullable=False),
        sa.Column("passed", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column("since", TIME, nullable=True),
        sa.Column("until", TIME, nullable=True),
        sa.Column("first_run", sa.Integer(), nullable=False),
        sa.Column("opened_at", TIME, nullable=False),
        sa.Column("closed_run", sa.Integer(), nullable=True),
        sa.Column("closed_at", TIME, nullable=True),
        sa.ForeignKeyConstraint(["closed_run"], ["runs.id"], name="fk_trust_verdicts_closed_run"),
        sa.ForeignKeyConstraint(["first_run"], ["runs.id"], name="fk_trust_verdicts_first_run"),
        sa.PrimaryKeyConstraint("id", name="pk_trust_verdicts"),
    )
    op.create_index(
        "uq_trust_verdicts_open",
        "trust_verdicts",
        ["subject", "relation", "value_kind", "value"],
        unique=True,
        sqlite_where=sa.text("closed_at IS NULL"),
        postgresql_where=sa.text("closed_at IS NULL"),
    )
    op.create_table(
        "trust_decisions",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("question_run", sa.Integer(), nullable=True),
        *_fact_columns(nullable=True),
        sa.Column("way", sa.String(length=16), nullable=True),
        sa.Column("since", TIME, nullable=True),
        sa.Column("approved", sa.Boolean(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=True),
        sa.Column("at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["question_run"], ["runs.id"], name="fk_trust_decisions_question_run"),
        sa.PrimaryKeyConstraint("id", name="pk_trust_decisions"),
    )
    op.create_table(
        "trust_questions",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        *_fact_columns(),
        sa.Column("way", sa.String(length=16), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_trust_questions_run_id"),
        sa.PrimaryKeyConstraint("id", name="pk_trust_questions"),
    )
    op.create_index("ix_trust_questions_run_id", "trust_questions", ["run_id"], unique=False)
