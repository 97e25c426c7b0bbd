"""Events of the public RDF mutation stream → touches: which items must be read again, and for which relations.

The schema is Wikimedia's mediawiki/wikibase/entity/rdf_change. An event tells that an entity has a new revision
and which triples came and went, perhaps in several chunks. It is taken at its word only in this: that the entity
was touched, at which revision, and which properties were named. The statements themselves are read with the same
query, parsed and compared by the same functions as in every other pull. So chunks need not be put together, and
events may come late, twice, or in any order: the result is what the endpoint says once it has got as far.

Pure: what the store knows comes in as arguments. Every event ends in one named outcome.
"""

from __future__ import annotations

import json
import re
from collections.abc import Container, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from kbsync.facts import Touch, is_entity_id

OPERATIONS = ("import", "diff", "delete", "reconcile")
_FIELDS = ("rdf_added_data", "rdf_deleted_data", "rdf_linked_shared_data", "rdf_unlinked_shared_data")
_PROPERTY = re.compile(r"(?<![A-Za-z0-9_])P[1-9][0-9]*(?![A-Za-z0-9_])")


@dataclass(frozen=True, slots=True)
class Mutation:
    """One event. `properties` are all that its RDF names, in any role: more than what changed, never less."""

    item: str
    revision: int
    operation: str
    at: datetime
    properties: frozenset[str]


@dataclass(frozen=True, slots=True)
class Known:
    """What the store knows of the items that some events name.

    `tracked`: the relations that an item has live statements of. `read`: the revision at which (relation, item)
    was last read. `pending`: touches of (relation, item) that wait to be read.
    """

    tracked: Mapping[str, frozenset[str]]
    read: Mapping[tuple[str, str], int]
    pending: Mapping[tuple[str, str], Touch]


def decode(data: str) -> Mutation | str:
    """The event behind the data of a message, or the outcome `filtered: …` that it ends in."""
    try:
        event = json.loads(data)
        meta = event["meta"]
        if meta.get("domain") == "canary":
            return "filtered: canary"
        item, revision, operation = event["entity_id"], event["rev_id"], event["operation"]
        at = _utc(event.get("dt") or event.get("event_time") or meta["dt"])
        texts = [event[name]["data"] for name in _FIELDS if event.get(name)]
        if not all(isinstance(text, str) for text in (item, operation, *texts)) or type(revision) is not int:
            return "filtered: malformed event"
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
        return "filtered: malformed event"
    if not is_entity_id(item) or not 0 <= revision < 2**63:
        return "filtered: malformed event"
    if not item.startswith("Q"):
        return "filtered: not an item"
    if operation not in OPERATIONS:
        return "filtered: unknown operation"
    named = frozenset(one for text in texts for one in _PROPERTY.findall(text))
    return Mutation(item, revision, operation, at, named)


def _utc(text: str) -> datetime:
    """A time in UTC, which is meant where there is no zone. One that leaves the calendar is an OverflowError."""
    time = datetime.fromisoformat(text)
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def judge(mutation: Mutation, watched: Container[str], known: Known, seen_at: datetime) -> tuple[str, list[Touch]]:
    """The event's outcome, and the touches to keep.

    An item with live statements of a relation, or a touch that waits, is touched by each of its events (a rank
    or an end time changes without naming the property); any other only by one that names the property.
    """
    tracked = known.tracked.get(mutation.item, frozenset())
    waiting = {relation for relation, item in known.pending if item == mutation.item}
    relations = sorted(one for one in {*tracked, *waiting, *mutation.properties} if one in watched)
    if not relations:
        return "filtered: not watched", []
    touches, outcomes = [], set()
    for relation in relations:
        outcome = _compare(mutation, relation, relation in tracked, known)
        outcomes.add(outcome)
        if outcome == "touched":
            touches.append(
                Touch(relation, mutation.item, mutation.revision, mutation.operation, mutation.at, seen_at)
            )
    return next(one for one in ("touched", "duplicate", "older") if one in outcomes), touches


def _compare(mutation: Mutation, relation: str, tracked: bool, known: Known) -> str:
    """`touched`, or `duplicate` or `older` where nothing new is to be read.

    A deletion has the revision of the edit before it, and a restored item that of the edit before the deletion.
    So events of one revision are ordered by their own time, and against what was read by their operation.
    """
    pending = known.pending.get((relation, mutation.item))
    if pending is not None:
        held, mine = (pending.revision, pending.at), (mutation.revision, mutation.at)
        if mine <= held:
            return "duplicate" if mine == held and pending.operation == mutation.operation else "older"
        return "touched"
    read = known.read.get((relation, mutation.item), -1)
    if read > mutation.revision:
        return "older"
    known_already = mutation.operation == "diff" or (mutation.operation == "import" and tracked)
    return "duplicate" if read == mutation.revision and known_already else "touched"


def is_settled(touch: Touch, revision: int | None, fate: str | None) -> bool:
    """Whether what the endpoint shows of an item is not from before the event.

    `revision` is the item's at the endpoint, None where it has none; `fate` says what became of one that is gone.
    """
    if fate is not None and fate.startswith("redirected"):
        return True
    if touch.operation == "delete":
        return revision is None or revision > touch.revision
    return revision is not None and revision >= touch.revision
