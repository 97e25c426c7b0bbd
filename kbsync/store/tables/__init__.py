"""All tables, by room: the mirror of Wikidata, runs, edits, models, quarantines, asides, trust, watches, access."""

from kbsync.store.tables.access import TokenRow
from kbsync.store.tables.asides import AsideRow
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
from kbsync.store.tables.quarantines import KeptOut, QuarantineRow, TrialRequestRow, TrialRow, TrialVerdictRow
from kbsync.store.tables.reconciles import DivergenceRow, DivergentRow, ReconcileRow
from kbsync.store.tables.runs import DaemonRow, LeaseRow, PauseRow, RunRow, RunStatus, StageRow, TriggerRow, Wants
from kbsync.store.tables.sources import EndpointRow, StreamOutcomeRow, StreamRow, TouchRow
from kbsync.store.tables.trust import (
    ClassRootRow,
    FactStateRow,
    ItemClassRow,
    LabelStateRow,
    RevisionScoreRow,
    TrustDecisionRow,
    TrustQuestionRow,
    TrustVerdictRow,
    Way,
)
from kbsync.store.tables.upkeep import PruneRow
from kbsync.store.tables.watches import BackfillRow, WatchRow

__all__ = [
    "Action",
    "AsideRow",
    "BackfillRow",
    "Base",
    "ChangeRow",
    "CheckpointRequestRow",
    "CheckpointRow",
    "CheckpointStatus",
    "ClassRootRow",
    "CovarianceTextRow",
    "CursorRow",
    "DaemonRow",
    "DivergenceRow",
    "DivergentRow",
    "EndpointRow",
    "EntityRow",
    "FactRow",
    "FactStateRow",
    "HoldRow",
    "ItemClassRow",
    "KeptOut",
    "LabelStateRow",
    "LeaseRow",
    "MetricRow",
    "OutcomeRow",
    "PauseRow",
    "PruneRow",
    "PublicationRow",
    "QuarantineRow",
    "ReadingRow",
    "ReconcileRow",
    "RequestRow",
    "RequestStatus",
    "RevisionScoreRow",
    "RunRow",
    "RunStatus",
    "StageRow",
    "StatementRow",
    "StreamOutcomeRow",
    "StreamRow",
    "TargetRow",
    "TokenRow",
    "TouchRow",
    "TrialRequestRow",
    "TrialRow",
    "TrialVerdictRow",
    "TriggerRow",
    "TrustDecisionRow",
    "TrustQuestionRow",
    "TrustVerdictRow",
    "VerdictRow",
    "Wants",
    "WatchRow",
    "Way",
]
