"""`kbsync bench trust`: a made-up month of changes, replayed through the trust filter on a clock of its own.

The filter is the one that a sync asks (`kbsync.trust`); only the mirror is kept in memory. A sync sees what the
source has at that moment and when each item was edited last, as a pull does.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from kbsync.bench.month import BEYOND, DAYS, MANY, NAMED, PLACES, RELATIONS, Edit, Kind, Month, label_of
from kbsync.facts import ABSENT, Fact, Past, Signal, State, Value, ValueKind
from kbsync.settings import TrustSettings, duration
from kbsync.trust.judge import Case, bursts, judge
from kbsync.trust.labels import believed_label
from kbsync.trust.policy import policy_of, rules_of
from kbsync.trust.verdicts import Evidence, Moment, Verdict

START = datetime(2024, 1, 1, tzinfo=UTC)
AFTER_DAYS = 9  # days after the month in which what was held may still pass
HUMAN = "Q5"

Pair = tuple[str, str]

# What is changed for each row of the table, by what is left out.
ABLATIONS: Mapping[str, Mapping[str, object]] = {
    "all checks": {},
    "no settling time": {"settling": "0"},
    "no reference needed": {"references": "optional"},
    "no types": {"types": "off"},
    "no edit wars": {"war_flips": 0},
    "no blast radius": {"max_per_subject": 0, "max_per_relation": 0},
    "no settling of labels": {"label_settling": "0"},
    "no look at labels": {"label_checks": False},
    "no check at all": {
        "settling": "0", "references": "optional", "types": "off", "war_flips": 0, "max_per_subject": 0,
        "max_per_relation": 0, "label_settling": "0", "label_checks": False,
    },
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Share:
    """So many of so many."""

    hits: int
    count: int

    @property
    def share(self) -> float:
        """The share; 0 of nothing."""
        return self.hits / self.count if self.count else 0.0


@dataclass(frozen=True, slots=True)
class Replay:
    """What the filter made of a month. `leaked` by kind; `through` of the honest changes that nobody took back;
    `hours` are the median and the 95th percentile of what these waited; `held` by reason, at the end."""

    leaked: dict[Kind, Share]
    through: Share
    undone: int
    hours: tuple[float, float]
    held: dict[str, int]
    syncs: int


@dataclass
class _Mirror:
    """What a store would hold: past states, present ones, labels."""

    now: dict[Pair, dict[str, State]] = field(default_factory=dict)
    past: dict[Pair, dict[str, list[Past]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    labels: dict[str, str] = field(default_factory=dict)
    past_labels: dict[str, list[tuple[str | None, datetime]]] = field(default_factory=lambda: defaultdict(list))
    baseline: dict[Pair, str] = field(default_factory=dict)
    made: dict[Pair, list[Signal]] = field(default_factory=dict)  # signals, until the next change of the pair

    def signals(self, pair: Pair) -> list[Signal]:
        """The facts of one subject and relation over time."""
        if pair in self.made:
            return self.made[pair]
        now, past = self.now[pair], self.past[pair]
        self.made[pair] = [
            Signal(
                Fact(*pair, Value(ValueKind.ITEM, value)),
                now.get(value, ABSENT),
                tuple(past.get(value, ())),
                self.baseline[pair] == value,
                START,
            )
            for value in sorted({*now, *past})
        ]
        return self.made[pair]


def at_hour(hour: float) -> datetime:
    """The moment of the month."""
    return START + timedelta(hours=hour)


def replay(month: Month, settings: TrustSettings, every_h: float) -> Replay:
    """Sync every `every_h` hours through the month and some days more, and see what gets through."""
    return _Replay(month, settings, every_h).run()


class _Replay:
    def __init__(self, month: Month, settings: TrustSettings, every_h: float) -> None:
        self.month, self.every_h, self.settings = month, every_h, settings
        self.rules = rules_of(settings)
        self.policies = {one: policy_of(settings, many=one in MANY, object_classes=(HUMAN,)) for one in RELATIONS}
        self.mirror = _Mirror(
            {pair: {value: State(True)} for pair, value in month.baseline.items()}, baseline=month.baseline
        )
        items = {value for edit in month.edits for value in (edit.value,) if edit.relation}
        self.kinds = {
            one: frozenset({HUMAN}) if int(one[1:]) < PLACES else frozenset({"Q515"}) for one in sorted(items)
        }
        self.watched: dict[Pair, list[int]] = defaultdict(list)
        for index, made in enumerate(month.made):
            self.watched[made.subject, made.relation].append(index)
        self.first_seen: dict[int, datetime] = {}
        self.changed: dict[Pair, datetime] = {}
        self.due: dict[Pair, datetime] = {}
        self.told: dict[Pair, list[Verdict]] = {}
        self.crowds: dict[str, list[Moment]] = {}  # bursts of relations, of which old ones never change any more
        self.subjects: dict[str, list[Moment]] = {}

    def run(self) -> Replay:
        """All syncs, and the count."""
        edits, hour, syncs, index = self.month.edits, 0.0, 0, 0
        while hour < (DAYS + AFTER_DAYS) * 24:
            hour, syncs, begin = hour + self.every_h, syncs + 1, index
            while index < len(edits) and edits[index].at <= hour:
                index += 1
            touched = self._pull(edits[begin:index])
            self._judge(touched, at_hour(hour))
        return self._count(syncs)

    def _pull(self, edits: Sequence[Edit]) -> set[Pair]:
        """What a pull after `edits` finds: the last state of each subject, and the time of its last edit."""
        pairs: dict[Pair, list[Edit]] = defaultdict(list)
        modified: dict[str, datetime] = {}
        for edit in edits:
            pairs[edit.subject, edit.relation].append(edit)
            modified[edit.subject] = at_hour(edit.at)
        for (subject, relation), group in pairs.items():
            if relation:
                self._states((subject, relation), group, modified[subject])
                continue
            old, new = self.mirror.labels.get(subject, label_of(subject)), group[-1].value
            if new != old:
                self.mirror.past_labels[subject].append((old, modified[subject]))
                self.mirror.labels[subject] = new
        return set(pairs)

    def _states(self, pair: Pair, edits: Sequence[Edit], modified: datetime) -> None:
        now = self.mirror.now[pair]
        self.mirror.made.pop(pair, None)
        self.changed[pair] = modified
        after = dict(now)
        for edit in edits:
            if edit.present:
                after[edit.value] = State(True, references=edit.references)
            else:
                after.pop(edit.value, None)
        for value in now.keys() | after.keys():
            old, new = now.get(value, ABSENT), after.get(value, ABSENT)
            if old != new:
                self.mirror.past[pair][value].append(Past(old, modified))
        self.mirror.now[pair] = after

    def _judge(self, touched: set[Pair], now: datetime) -> None:
        """Judge again what can have changed: what was edited, what is due by now, what is in a burst."""
        crowds, subjects = self.crowds, self.subjects
        before = {relation: list(found) for relation, found in crowds.items()}
        recent = [pair for pair, at in self.changed.items() if now - at < 3 * self.rules.burst_window]
        lines = [one for pair in recent for one in self.mirror.signals(pair)]
        for known, found in zip((crowds, subjects), bursts(lines, self.policies, self.rules), strict=True):
            for key, moments in found.items():
                known[key] = _joined([*known.get(key, ()), *moments])
        moved = {relation for relation, found in crowds.items() if before.get(relation) != found}
        open_pairs = touched | {pair for pair, at in self.due.items() if at <= now}
        open_pairs |= {pair for pair in self.told if pair[1] in moved}
        evidence = Evidence(kinds=self.kinds, relation_bursts=crowds, subject_bursts=subjects)
        for pair in sorted(open_pairs):
            self.due.pop(pair, None)
            if pair[1]:
                self._judge_facts(pair, evidence, now)
            else:
                self._judge_label(pair, now)

    def _judge_facts(self, pair: Pair, evidence: Evidence, now: datetime) -> None:
        case = Case(self.policies[pair[1]], self.rules, evidence, now)
        believed, self.told[pair] = judge(self.mirror.signals(pair), case)
        waits = [one.until for one in self.told[pair] if not one.passed and one.until is not None]
        if waits:
            self.due[pair] = min(waits)
        there = {one.fact.value.text for one in believed}
        self._see(pair, now, there)

    def _judge_label(self, pair: Pair, now: datetime) -> None:
        past = self.mirror.past_labels[pair[0]]
        label = self.mirror.labels.get(pair[0], label_of(pair[0]))
        settling = duration(self.settings.label_settling)
        length = self.settings.label_length if self.settings.label_checks else None
        named = believed_label(past, label, settling, now, length)
        if named.until is not None:
            self.due[pair] = named.until
        there = {named.label} if named.label is not None else set()
        self._see(pair, now, there)

    def _see(self, pair: Pair, now: datetime, there: set[str]) -> None:
        """Note the changes that the model would have made by now: `there` is what it would say."""
        for index in self.watched[pair]:
            made = self.month.made[index]
            if index not in self.first_seen and at_hour(made.at) <= now and (made.value in there) == made.present:
                self.first_seen[index] = now

    def _count(self, syncs: int) -> Replay:
        made = self.month.made
        leaked = {
            kind: Share(
                sum(index in self.first_seen for index, one in enumerate(made) if one.kind is kind),
                sum(one.kind is kind for one in made),
            )
            for kind in (*NAMED, *BEYOND)
        }
        honest = [(index, one) for index, one in enumerate(made) if one.kind is Kind.HONEST]
        stood = [(index, one) for index, one in honest if one.undone is None]
        waited = sorted(
            (self.first_seen[index] - at_hour(one.at)) / timedelta(hours=1)
            for index, one in stood
            if index in self.first_seen
        )
        held: dict[str, int] = defaultdict(int)
        for verdicts in self.told.values():
            for verdict in verdicts:
                if not verdict.passed:
                    held[verdict.reason] += 1
        middle, late = (waited[len(waited) // 2], waited[int(len(waited) * 0.95)]) if waited else (0.0, 0.0)
        return Replay(
            leaked, Share(len(waited), len(stood)), len(honest) - len(stood), (middle, late),
            dict(sorted(held.items())), syncs,
        )  # fmt: skip


def _joined(moments: list[Moment]) -> list[Moment]:
    """The stretches of time in order, those that overlap as one."""
    found: list[Moment] = []
    for start, last in sorted(moments):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(last, found[-1][1])
        else:
            found.append((start, last))
    return found


def settings_without(name: str) -> TrustSettings:
    """The default settings, less what a row of the table leaves out."""
    return TrustSettings.model_validate(dict(ABLATIONS[name]))
