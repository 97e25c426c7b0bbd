"""The nouns of kbsync: plain, frozen, free of torch and SQL. Every stage speaks in these.

Ids are Wikidata's (`Q30`, `P36`); times are timezone-aware UTC; text from outside is data and is never
used as a format string: a prompt marks its subject by character positions, not by braces.
"""

from kbsync.facts.hashing import digest
from kbsync.facts.known import ABSENT, Held, KnownFact, Past, Signal, State
from kbsync.facts.pulled import (
    Change,
    ChangeKind,
    Cursor,
    Divergence,
    DivergenceKind,
    EndpointState,
    Pulled,
    Reading,
    Touch,
)
from kbsync.facts.request import EditRequest, Neighbor, Outcome, Phase, Prompt, PromptKind
from kbsync.facts.watch import Subjects, Watch
from kbsync.facts.wikidata import (
    LONG_AGO,
    UNTOLD_UNIT,
    Fact,
    Item,
    Rank,
    References,
    Statement,
    Value,
    ValueKind,
    is_entity_id,
    is_item_id,
    is_property_id,
    truthy_id,
)

__all__ = [
    "ABSENT",
    "LONG_AGO",
    "UNTOLD_UNIT",
    "Change",
    "ChangeKind",
    "Cursor",
    "Divergence",
    "DivergenceKind",
    "EditRequest",
    "EndpointState",
    "Fact",
    "Held",
    "Item",
    "KnownFact",
    "Neighbor",
    "Outcome",
    "Past",
    "Phase",
    "Prompt",
    "PromptKind",
    "Pulled",
    "Rank",
    "Reading",
    "References",
    "Signal",
    "State",
    "Statement",
    "Subjects",
    "Touch",
    "Value",
    "ValueKind",
    "Watch",
    "digest",
    "is_entity_id",
    "is_item_id",
    "is_property_id",
    "truthy_id",
]
