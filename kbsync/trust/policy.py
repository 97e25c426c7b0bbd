"""What the filter goes by: the settings as lengths of time, and what the catalogue says of one relation."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from kbsync.settings import ReferencePolicy, TrustSettings, duration


@dataclass(frozen=True, slots=True)
class Policy:
    """One relation's. `many`: its values don't replace one another. Empty classes are not checked."""

    settling: timedelta
    references: ReferencePolicy
    max_changes: int
    many: bool = False
    subject_classes: frozenset[str] = frozenset()
    object_classes: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Rules:
    """Those of all relations."""

    rank: str
    unreferenced_after: timedelta | None
    untyped_pass: bool
    war_flips: int
    war_window: timedelta
    max_per_subject: int
    burst_window: timedelta
    burst_settling: timedelta
    deny: frozenset[str]
    allow: frozenset[str]
    score_threshold: float | None
    unscored_pass: bool


def rules_of(settings: TrustSettings) -> Rules:
    """The rules that the settings ask for."""
    after = settings.unreferenced_after
    return Rules(
        rank=settings.rank,
        unreferenced_after=None if after is None else duration(after),
        untyped_pass=settings.untyped == "pass",
        war_flips=settings.war_flips,
        war_window=duration(settings.war_window),
        max_per_subject=settings.max_per_subject,
        burst_window=duration(settings.burst_window),
        burst_settling=duration(settings.burst_settling),
        deny=frozenset(settings.deny),
        allow=frozenset(settings.allow),
        score_threshold=settings.score_threshold if settings.score_url else None,
        unscored_pass=settings.score_on_error == "pass",
    )


def policy_of(
    settings: TrustSettings,
    *,
    settling: str | None = None,
    references: ReferencePolicy | None = None,
    max_changes: int | None = None,
    many: bool = False,
    subject_classes: tuple[str, ...] = (),
    object_classes: tuple[str, ...] = (),
) -> Policy:
    """A relation's policy: what is given, else the settings."""
    return Policy(
        settling=duration(settling or settings.settling),
        references=references or settings.references,
        max_changes=settings.max_per_relation if max_changes is None else max_changes,
        many=many,
        subject_classes=frozenset(subject_classes if settings.types == "both" else ()),
        object_classes=frozenset(object_classes if settings.types != "off" else ()),
    )
