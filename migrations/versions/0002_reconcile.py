"""Full passes: what they found, when readings were made, and which triggers ask for one."""

from pathlib import Path

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True).with_variant(sa.String(27), "sqlite")
VIEWS = ("reconcile_divergences", "divergent_facts")


def upgrade() -> None:
    """Make the tables of reconciles and their views; readings and triggers get new columns."""
    op.create_table(
        "reconciles",
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("relation", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("subjects", sa.Integer(), nullable=False),
        sa.Column("statements", sa.Integer(), nullable=False),
        sa.Column("ended_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_reconciles_run_id"),
        sa.PrimaryKeyConstraint("run_id", "relation", name="pk_reconciles"),
    )
    op.create_table(
        "divergences",
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("relation", sa.Text(), nullable=False),
        sa.Column("kind", sa.String(length=24), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_divergences_run_id"),
        sa.PrimaryKeyConstraint("run_id", "relation", "kind", name="pk_divergences"),
    )
    op.create_table(
        "divergent",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("relation", sa.Text(), nullable=False),
        sa.Column("kind", sa.String(length=24), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("statement_id", sa.Text(), nullable=True),
        sa.Column("was", sa.Text(), nullable=True),
        sa.Column("found", sa.Text(), nullable=True),
        sa.Column("at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_divergent_run_id"),
        sa.PrimaryKeyConstraint("id", name="pk_divergent"),
    )
    op.create_index("ix_divergent_relation_run_id", "divergent", ["relation", "run_id"], unique=False)
    with op.batch_alter_table("readings") as readings:
        readings.alter_column("revision", existing_type=sa.BigInteger(), nullable=True)
        readings.add_column(sa.Column("at", TIME, nullable=True))
        readings.add_column(sa.Column("absent_at", TIME, nullable=True))
    op.add_column("triggers", sa.Column("wants", sa.String(length=16), nullable=False, server_default="sync"))
    for view in VIEWS:
        sql = Path(__file__).resolve().parent.parent / "views" / f"{revision}_{view}.sql"
        op.execute(f"CREATE VIEW {view} AS\n{sql.read_text(encoding='utf-8')}")


def downgrade() -> None:
    """Take it all away again. Of readings without a revision the older schema knows nothing."""
    for view in reversed(VIEWS):
        op.execute(f"DROP VIEW {view}")
    op.drop_column("triggers", "wants")
    op.execute("DELETE FROM readings WHERE revision IS NULL")
    with op.batch_alter_table("readings") as readings:
        readings.drop_column("absent_at")
        readings.drop_column("at")
        readings.alter_column("revision", existing_type=sa.BigInteger(), nullable=False)
    op.drop_index("ix_divergent_relation_run_id", table_name="divergent")
    for table in ("divergent", "divergences", "reconciles"):
        op.drop_table(table)
