"""All tables and views of the first schema.

The views' SQL lies in `migrations/views/`, its names begin with this revision's number. In it
`SECONDS(a, b)` is the time between two columns and `TIME('…')` a time: both dialects have their own way.
"""

import re
from pathlib import Path

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True).with_variant(sa.String(27), "sqlite")
VIEWS = ("fact_changes", "held_facts", "edit_history", "live_facts", "publication_at", "run_summary")
TABLES = (
    "runs",
    "run_stages",
    "triggers",
    "daemons",
    "entities",
    "statements",
    "readings",
    "facts",
    "changes",
    "cursors",
    "holds",
    "edit_requests",
    "targets",
    "covariance_texts",
    "outcomes",
    "metrics",
    "gate_verdicts",
    "checkpoints",
    "checkpoint_requests",
    "publications",
)


def upgrade() -> None:
    """Make the tables, then the views that read them."""
    _make_runs()
    _make_mirror()
    _make_edits()
    _make_solves()
    _make_models()
    for view in VIEWS:
        op.execute(f"CREATE VIEW {view} AS\n{_view_sql(view)}")


def downgrade() -> None:
    """Drop the views, then the tables, those first that point at others."""
    for view in VIEWS:
        op.execute(f"DROP VIEW {view}")
    for table in reversed(TABLES):
        op.drop_table(table)


def _view_sql(view: str) -> str:
    """The view's query in the words of the dialect at hand."""
    folder = Path(__file__).resolve().parent.parent / "views"
    sql = (folder / f"{revision}_{view}.sql").read_text(encoding="utf-8")
    if op.get_bind().dialect.name == "sqlite":
        seconds, time = r"ROUND((JULIANDAY(\2) - JULIANDAY(\1)) * 86400, 3)", r"\1"
    else:
        seconds = r"ROUND(EXTRACT(EPOCH FROM \2 - \1)::numeric, 3)::double precision"
        time = r"TIMESTAMPTZ \1"
    sql = re.sub(r"SECONDS\(([\w.]+), ([\w.]+)\)", seconds, sql)
    return re.sub(r"\bTIME\(('[^']*')\)", time, sql)


def _make_runs() -> None:
    """Runs and what starts them."""
    op.create_table(
        "runs",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("trigger", sa.Text(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("stage", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column("beat_at", TIME, nullable=False),
        sa.Column("ended_at", TIME, nullable=True),
        sa.Column("base_hash", sa.Text(), nullable=True),
        sa.Column("settings_hash", sa.Text(), nullable=True),
        sa.Column("settings", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_runs"),
    )
    op.create_index(
        "uq_runs_running",
        "runs",
        ["status"],
        unique=True,
        sqlite_where=sa.text("status = 'running'"),
        postgresql_where=sa.text("status = 'running'"),
    )
    op.create_table(
        "run_stages",
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column("ended_at", TIME, nullable=True),
        sa.Column("counts", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_run_stages_run_id"),
        sa.PrimaryKeyConstraint("run_id", "stage", name="pk_run_stages"),
    )
    op.create_table(
        "triggers",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("requested_at", TIME, nullable=False),
        sa.Column("requested_by", sa.Text(), nullable=False),
        sa.Column("taken_run", sa.Integer(), nullable=True),
        sa.Column("done_at", TIME, nullable=True),
        sa.ForeignKeyConstraint(["taken_run"], ["runs.id"], name="fk_triggers_taken_run"),
        sa.PrimaryKeyConstraint("id", name="pk_triggers"),
    )
    op.create_table(
        "daemons",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column("beat_at", TIME, nullable=False),
        sa.Column("next_run_at", TIME, nullable=True),
        sa.Column("stopped_at", TIME, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_daemons"),
    )


def _make_mirror() -> None:
    """The mirror of Wikidata."""
    op.create_table(
        "entities",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=True),
        sa.Column("language", sa.Text(), nullable=True),
        sa.Column("revision", sa.BigInteger(), nullable=True),
        sa.Column("modified", TIME, nullable=True),
        sa.Column("seen_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_entities"),
    )
    op.create_table(
        "statements",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("relation", sa.Text(), nullable=False),
        sa.Column("value_kind", sa.String(length=16), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("rank", sa.String(length=16), nullable=False),
        sa.Column("best", sa.Boolean(), nullable=False),
        sa.Column("start_time", TIME, nullable=True),
        sa.Column("end_time", TIME, nullable=True),
        sa.Column("seen_run", sa.Integer(), nullable=False),
        sa.Column("seen_at", TIME, nullable=False),
        sa.Column("changed_at", TIME, nullable=True),
        sa.Column("retired_at", TIME, nullable=True),
        sa.Column("retired_reason", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["seen_run"], ["runs.id"], name="fk_statements_seen_run"),
        sa.PrimaryKeyConstraint("id", name="pk_statements"),
    )
    op.create_index("ix_statements_relation_subject", "statements", ["relation", "subject"], unique=False)
    op.create_table(
        "readings",
        sa.Column("relation", sa.Text(), nullable=False),
        sa.Column("item", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("relation", "item", name="pk_readings"),
    )
    op.create_table(
        "facts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("relation", sa.Text(), nullable=False),
        sa.Column("value_kind", sa.String(length=16), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("baseline", sa.Boolean(), nullable=False),
        sa.Column("seen_run", sa.Integer(), nullable=False),
        sa.Column("seen_at", TIME, nullable=False),
        sa.Column("retired_run", sa.Integer(), nullable=True),
        sa.Column("retired_at", TIME, nullable=True),
        sa.Column("retired_reason", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["retired_run"], ["runs.id"], name="fk_facts_retired_run"),
        sa.ForeignKeyConstraint(["seen_run"], ["runs.id"], name="fk_facts_seen_run"),
        sa.PrimaryKeyConstraint("id", name="pk_facts"),
    )
    op.create_index("ix_facts_relation_value", "facts", ["relation", "value"], unique=False)
    op.create_index(
        "uq_facts_live",
        "facts",
        ["subject", "relation", "value_kind", "value"],
        unique=True,
        sqlite_where=sa.text("retired_at IS NULL"),
        postgresql_where=sa.text("retired_at IS NULL"),
    )
    op.create_table(
        "changes",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("relation", sa.Text(), nullable=False),
        sa.Column("old_kind", sa.String(length=16), nullable=True),
        sa.Column("old_value", sa.Text(), nullable=True),
        sa.Column("new_kind", sa.String(length=16), nullable=True),
        sa.Column("new_value", sa.Text(), nullable=True),
        sa.Column("statement_id", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_changes_run_id"),
        sa.PrimaryKeyConstraint("id", name="pk_changes"),
    )
    op.create_index("ix_changes_run_id", "changes", ["run_id"], unique=False)
    op.create_index("ix_changes_subject_relation", "changes", ["subject", "relation"], unique=False)
    op.create_table(
        "cursors",
        sa.Column("relation", sa.Text(), nullable=False),
        sa.Column("modified", TIME, nullable=True),
        sa.Column("item", sa.Text(), nullable=True),
        sa.Column("complete_at", TIME, nullable=True),
        sa.Column("updated_run", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["updated_run"], ["runs.id"], name="fk_cursors_updated_run"),
        sa.PrimaryKeyConstraint("relation", name="pk_cursors"),
    )


def _make_edits() -> None:
    """Holds and edit requests."""
    op.create_table(
        "holds",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("relation", sa.Text(), nullable=False),
        sa.Column("value_kind", sa.String(length=16), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("first_run", sa.Integer(), nullable=False),
        sa.Column("held_at", TIME, nullable=False),
        sa.Column("released_run", sa.Integer(), nullable=True),
        sa.Column("released_at", TIME, nullable=True),
        sa.ForeignKeyConstraint(["first_run"], ["runs.id"], name="fk_holds_first_run"),
        sa.ForeignKeyConstraint(["released_run"], ["runs.id"], name="fk_holds_released_run"),
        sa.PrimaryKeyConstraint("id", name="pk_holds"),
    )
    op.create_index(
        "uq_holds_open",
        "holds",
        ["subject", "relation", "value_kind", "value"],
        unique=True,
        sqlite_where=sa.text("released_at IS NULL"),
        postgresql_where=sa.text("released_at IS NULL"),
    )
    op.create_table(
        "edit_requests",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("content_hash", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("relation", sa.Text(), nullable=False),
        sa.Column("value_kind", sa.String(length=16), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("subject_label", sa.Text(), nullable=False),
        sa.Column("relation_label", sa.Text(), nullable=False),
        sa.Column("target_new", sa.Text(), nullable=False),
        sa.Column("target_old", sa.Text(), nullable=True),
        sa.Column("prompts", sa.JSON(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("solve_batch", sa.Text(), nullable=True),
        sa.Column("first_run", sa.Integer(), nullable=False),
        sa.Column("last_run", sa.Integer(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["first_run"], ["runs.id"], name="fk_edit_requests_first_run"),
        sa.ForeignKeyConstraint(["last_run"], ["runs.id"], name="fk_edit_requests_last_run"),
        sa.PrimaryKeyConstraint("id", name="pk_edit_requests"),
        sa.UniqueConstraint(
            "subject",
            "relation",
            "value_kind",
            "value",
            "content_hash",
            name="uq_edit_requests_subject_relation_value_kind_value_content_hash",
        ),
    )
    op.create_index("ix_edit_requests_content_hash", "edit_requests", ["content_hash"], unique=False)
    op.create_index("ix_edit_requests_solve_batch", "edit_requests", ["solve_batch"], unique=False)
    op.create_index("ix_edit_requests_status", "edit_requests", ["status"], unique=False)


def _make_solves() -> None:
    """Solved targets and what was measured."""
    op.create_table(
        "targets",
        sa.Column("z_hash", sa.Text(), nullable=False),
        sa.Column("content_hash", sa.Text(), nullable=False),
        sa.Column("base_hash", sa.Text(), nullable=False),
        sa.Column("settings_hash", sa.Text(), nullable=False),
        sa.Column("layer", sa.Integer(), nullable=False),
        sa.Column("dim", sa.Integer(), nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        sa.Column("loss", sa.Float(53), nullable=False),
        sa.Column("steps", sa.Integer(), nullable=False),
        sa.Column("delta_norm", sa.Float(53), nullable=False),
        sa.Column("hidden_norm", sa.Float(53), nullable=False),
        sa.Column("seconds", sa.Float(53), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_targets_run_id"),
        sa.PrimaryKeyConstraint("z_hash", name="pk_targets"),
    )
    op.create_index("ix_targets_content_hash", "targets", ["content_hash"], unique=False)
    op.create_table(
        "covariance_texts",
        sa.Column("wanted", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("sentences", sa.Text(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("wanted", name="pk_covariance_texts"),
    )
    op.create_table(
        "outcomes",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("request_id", sa.Integer(), nullable=False),
        sa.Column("phase", sa.String(length=16), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("idx", sa.Integer(), nullable=False),
        sa.Column("prompt", sa.Text(), nullable=False),
        sa.Column("target_new", sa.Text(), nullable=False),
        sa.Column("target_old", sa.Text(), nullable=True),
        sa.Column("logp_new", sa.Float(53), nullable=True),
        sa.Column("logp_old", sa.Float(53), nullable=True),
        sa.Column("p_new", sa.Float(53), nullable=True),
        sa.Column("p_old", sa.Float(53), nullable=True),
        sa.Column("success", sa.Boolean(), nullable=False),
        sa.Column("accuracy", sa.Boolean(), nullable=False),
        sa.Column("said", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["request_id"], ["edit_requests.id"], name="fk_outcomes_request_id"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_outcomes_run_id"),
        sa.PrimaryKeyConstraint("id", name="pk_outcomes"),
        sa.UniqueConstraint(
            "request_id", "phase", "kind", "idx", "run_id", name="uq_outcomes_request_id_phase_kind_idx_run_id"
        ),
    )
    op.create_index("ix_outcomes_run_id_phase", "outcomes", ["run_id", "phase"], unique=False)
    op.create_table(
        "metrics",
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("phase", sa.Text(), nullable=False),
        sa.Column("value", sa.Float(53), nullable=True),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_metrics_run_id"),
        sa.PrimaryKeyConstraint("run_id", "name", "phase", name="pk_metrics"),
    )
    op.create_table(
        "gate_verdicts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("value", sa.Float(53), nullable=True),
        sa.Column("threshold", sa.Float(53), nullable=True),
        sa.Column("comparison", sa.Text(), nullable=False),
        sa.Column("passed", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_gate_verdicts_run_id"),
        sa.PrimaryKeyConstraint("id", name="pk_gate_verdicts"),
        sa.UniqueConstraint("run_id", "metric", name="uq_gate_verdicts_run_id_metric"),
    )


def _make_models() -> None:
    """Checkpoints and publications."""
    op.create_table(
        "checkpoints",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("weights_hash", sa.Text(), nullable=False),
        sa.Column("manifest_sha256", sa.Text(), nullable=False),
        sa.Column("base_hash", sa.Text(), nullable=False),
        sa.Column("settings_hash", sa.Text(), nullable=False),
        sa.Column("live_hash", sa.Text(), nullable=False),
        sa.Column("facts", sa.Integer(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_checkpoints_run_id"),
        sa.PrimaryKeyConstraint("id", name="pk_checkpoints"),
        sa.UniqueConstraint("name", name="uq_checkpoints_name"),
    )
    op.create_table(
        "checkpoint_requests",
        sa.Column("checkpoint_id", sa.Integer(), nullable=False),
        sa.Column("request_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["checkpoint_id"], ["checkpoints.id"], name="fk_checkpoint_requests_checkpoint_id"),
        sa.ForeignKeyConstraint(["request_id"], ["edit_requests.id"], name="fk_checkpoint_requests_request_id"),
        sa.PrimaryKeyConstraint("checkpoint_id", "request_id", name="pk_checkpoint_requests"),
    )
    op.create_index("ix_checkpoint_requests_request_id", "checkpoint_requests", ["request_id"], unique=False)
    op.create_table(
        "publications",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("checkpoint_id", sa.Integer(), nullable=True),
        sa.Column("run_id", sa.Integer(), nullable=True),
        sa.Column("action", sa.String(length=16), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("ended_at", TIME, nullable=True),
        sa.Column("live", sa.Boolean(), nullable=False),
        sa.CheckConstraint("live = (ended_at IS NULL)", name="ck_publications_live_until_ended"),
        sa.ForeignKeyConstraint(["checkpoint_id"], ["checkpoints.id"], name="fk_publications_checkpoint_id"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_publications_run_id"),
        sa.PrimaryKeyConstraint("id", name="pk_publications"),
    )
    op.create_index(
        "uq_publications_live",
        "publications",
        ["live"],
        unique=True,
        sqlite_where=sa.text("live"),
        postgresql_where=sa.text("live"),
    )
