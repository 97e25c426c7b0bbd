"""All tables, by room: the mirror of Wikidata, runs, edits, models."""

from kbsync.store.tables.base import Base
from kbsync.store.tables.edits import (
    CovarianceTextRow,
    HoldRow,
    MetricRow,
    OutcomeRow,
    RequestRow,
    RequestStatus,
    TargetRow,
    VerdictRow,
)
from kbsync.store.tables.mirror import ChangeRow, CursorRow, EntityRow, FactRow, ReadingRow, StatementRow
from kbsync.store.tables.models import (
    Action,
    CheckpointRequestRow,
    CheckpointRow,
    CheckpointStatus,
    PublicationRow,
)
from kbsync.store.tables.reconciles import DivergenceRow, DivergentRow, ReconcileRow
from kbsync.store.tables.runs import DaemonRow, RunRow, RunStatus, StageRow, TriggerRow, Wants

__all__ = [
    "Action",
    "Base",
    "ChangeRow",
    "CheckpointRequestRow",
    "CheckpointRow",
    "CheckpointStatus",
    "CovarianceTextRow",
    "CursorRow",
    "DaemonRow",
    "DivergenceRow",
    "DivergentRow",
    "EntityRow",
    "FactRow",
    "HoldRow",
    "MetricRow",
    "OutcomeRow",
    "PublicationRow",
    "ReadingRow",
    "ReconcileRow",
    "RequestRow",
    "RequestStatus",
    "RunRow",
    "RunStatus",
    "StageRow",
    "StatementRow",
    "TargetRow",
    "TriggerRow",
    "VerdictRow",
    "Wants",
]
