"""The facts in words behind C, kept so that weights can be rebuilt after facts, labels and prompts have changed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy.orm import Session

from kbsync.store.tables import CovarianceTextRow


def covariance_text(tx: Session, wanted: int) -> list[str] | None:
    """The sentences that were kept for this number of sentences asked for, or None before they were chosen."""
    row = tx.get(CovarianceTextRow, wanted)
    return None if row is None else row.sentences.split("\n")


def keep_covariance_text(tx: Session, wanted: int, sentences: Sequence[str], at: datetime) -> None:
    """Keep sentences for good. Raises ValueError for a sentence of more than one line."""
    if any("\n" in one for one in sentences):
        raise ValueError("a sentence of the covariance's text has a line break")
    tx.add(CovarianceTextRow(wanted=wanted, sentences="\n".join(sentences), created_at=at))
