"""What changed between the statements that the store knows and those that the source has now. Pure.

The facts of (subject, relation) are its truthy values: the set of values of best-rank statements that can be
said. A change is a difference of that set; anything else about a statement is an update of its row.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from kbsync.facts import LONG_AGO, Change, ChangeKind, Rank, Statement, Value, ValueKind

RECORD_KNOWN = "known by its own record now"  # of a bare triple from a dump, which had none

_FAR_FUTURE = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Diff:
    """The difference for one subject and one relation.

    `statements` are new or changed, `gone` is (statement id, reason), `unchanged` counts the rest.
    """

    statements: tuple[Statement, ...]
    gone: tuple[tuple[str, str], ...]
    changes: tuple[Change, ...]
    unchanged: int


def truthy(statements: Iterable[Statement]) -> dict[Value, list[Statement]]:
    """The facts among `statements`: each truthy value that can be said, with its statements by id."""
    facts: dict[Value, list[Statement]] = {}
    for statement in sorted(statements, key=lambda s: s.id):
        if statement.best and statement.value.kind is not ValueKind.UNKNOWN:
            facts.setdefault(statement.value, []).append(statement)
    return facts


def first_seen(seen: Iterable[Statement]) -> Diff:
    """The difference from nothing, at the baseline, where what is there is no change."""
    by_id = {s.id: s for s in seen}
    return Diff(tuple(by_id[key] for key in sorted(by_id)), (), (), 0)


def diff(
    relation: str,
    subject: str,
    known: Sequence[Statement],
    seen: Sequence[Statement],
    now: datetime,
    gone_reason: str = "deleted",
) -> Diff:
    """Compare all statements of (subject, relation) in the store (`known`) with all at the source (`seen`).

    `now` is the source's time: an end time up to it is past. `gone_reason` is recorded for statements that
    the source no longer has, and for facts that went with them. The result does not depend on the order of
    either sequence.
    """
    known_by_id = {s.id: s for s in known}
    seen_by_id = {s.id: s for s in seen}
    updates = tuple(s for key, s in sorted(seen_by_id.items()) if not s.adds_nothing_to(known_by_id.get(key)))
    values = {s.value for s in seen_by_id.values()}
    gone = tuple(
        (
            key,
            RECORD_KNOWN if known_by_id[key].from_truthy_dump and known_by_id[key].value in values else gone_reason,
        )
        for key in sorted(known_by_id.keys() - seen_by_id.keys())
    )
    old, new = truthy(known_by_id.values()), truthy(seen_by_id.values())
    lost = {value: old[value] for value in old.keys() - new.keys()}
    gained = {value: new[value] for value in new.keys() - old.keys()}
    changes = []
    for before, after in _pairs(lost, gained) if lost or gained else ():
        if before is None:
            assert after is not None
            change = Change(
                ChangeKind.ADDED, subject, relation, None, after.value, after.id, _came(after, known_by_id)
            )
        elif after is None:
            reason = _went(before, seen_by_id, now, gone_reason)
            change = Change(ChangeKind.RETIRED, subject, relation, before.value, None, before.id, reason)
        else:
            reason = _went(before, seen_by_id, now, gone_reason)
            change = Change(ChangeKind.REPLACED, subject, relation, before.value, after.value, after.id, reason)
        changes.append(change)
    return Diff(updates, gone, tuple(changes), len(seen_by_id) - len(updates))


def _pairs(
    lost: dict[Value, list[Statement]], gained: dict[Value, list[Statement]]
) -> list[tuple[Statement | None, Statement | None]]:
    """Pair what went with what came: one statement edited in place first, then in the order of time.

    Each value stands in exactly one pair; what is left over has None on the other side.
    """
    lost, gained = dict(lost), dict(gained)
    came_by_id = {s.id: s for group in gained.values() for s in group}
    pairs: list[tuple[Statement | None, Statement | None]] = []
    for before in sorted((s for group in lost.values() for s in group), key=lambda s: s.id):
        after = came_by_id.get(before.id)
        if after is not None and before.value in lost and after.value in gained:
            del lost[before.value], gained[after.value]
            pairs.append((before, after))
    went = sorted((group[0] for group in lost.values()), key=_order)
    came = sorted((group[0] for group in gained.values()), key=_order)
    both = min(len(went), len(came))
    pairs += zip(went[:both], came[:both], strict=True)
    pairs += [(before, None) for before in went[both:]]
    pairs += [(None, after) for after in came[both:]]
    return pairs


def _order(statement: Statement) -> tuple[datetime, datetime, Value]:
    return statement.start or LONG_AGO, statement.end or _FAR_FUTURE, statement.value


def _went(before: Statement, seen: dict[str, Statement], now: datetime, gone_reason: str) -> str:
    """Why the value of `before` is no longer a fact."""
    after = seen.get(before.id)
    if after is None and before.from_truthy_dump:  # its true statement has another id
        after = next((s for _, s in sorted(seen.items()) if s.value == before.value), None)
    if after is None:
        return gone_reason
    if after.value != before.value:
        return "replaced in place"
    if after.rank is Rank.DEPRECATED:
        return "deprecated"
    if after.end is not None and after.end <= now:
        return "ended"
    return "rank"


def _came(after: Statement, known: dict[str, Statement]) -> str:
    """Why the value of `after` is a fact now."""
    before = known.get(after.id)
    if before is None:
        return "new statement"
    return "replaced in place" if before.value != after.value else "rank"
