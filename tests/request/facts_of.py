"""Short ways to write known facts in tests, and one small world of them."""

from __future__ import annotations

import functools
from datetime import UTC, datetime
from pathlib import Path

from kbsync.facts import Fact, KnownFact, Value, ValueKind
from kbsync.request.catalogue import Catalogue, load_catalogue
from kbsync.settings import WatchSettings

SHIPPED = Path(__file__).resolve().parents[2] / "config" / "relations.toml"
NOW = datetime(2024, 6, 1, tzinfo=UTC)
PULLED = datetime(2024, 1, 1, tzinfo=UTC)


@functools.cache
def shipped() -> Catalogue:
    """The catalogue that ships with kbsync."""
    return load_catalogue(SHIPPED)


def item(entity: str) -> Value:
    return Value(ValueKind.ITEM, entity)


def year(number: int) -> datetime:
    return datetime(number, 1, 1, tzinfo=UTC)


def known(
    subject: str,
    relation: str,
    value: str | Value,
    *,
    baseline: bool = False,
    preferred: bool = False,
    start: int | None = None,
    end: int | None = None,
    seen: datetime = PULLED,
) -> KnownFact:
    """A known fact; `value` is an item id or a Value, `start` and `end` are years."""
    return KnownFact(
        fact=Fact(subject, relation, value if isinstance(value, Value) else item(value)),
        baseline=baseline,
        preferred=preferred,
        start=year(start) if start is not None else None,
        end=year(end) if end is not None else None,
        seen=seen,
    )


def watch(*relations: str, baseline: str = "adopt", max_live: int = 1000) -> WatchSettings:
    return WatchSettings.model_validate({"relations": relations, "baseline": baseline, "max_live": max_live})
