"""Examples of manifests and live facts."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from kbsync.checkpoint.manifest import Base, LiveFact, Manifest
from kbsync.facts import Value, ValueKind, digest


def live_fact(number: int, label: str = "France") -> LiveFact:
    """A fact that no other number has."""
    return LiveFact(
        content_hash=digest(number),
        subject=f"Q{number + 1}",
        relation="P36",
        value=Value(ValueKind.ITEM, f"Q{number + 1000}"),
        subject_label=label,
        target_new=f"city {number}",
    )


def make_manifest(**changes: Any) -> Manifest:
    """A manifest with two facts; `changes` replace its fields."""
    fields: dict[str, Any] = {
        "kbsync": "0.1.0",
        "run_id": "7",
        "created_at": datetime(2026, 3, 1, 12, 30, tzinfo=UTC),
        "base": Base("org/tiny", digest("weights"), digest("tokenizer"), "llama", "float32"),
        "settings": {"layers": [0, 1], "covariance_weight": 1500.0, "seed": 20220},
        "live": (live_fact(0), live_fact(1, "{Île} | `x`\nde")),
        "metrics": {"efficacy_success": 1.0, "perplexity_ratio": None},
    }
    return Manifest(**{**fields, **changes})
