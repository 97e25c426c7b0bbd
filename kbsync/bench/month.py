"""A made-up month of Wikidata: honest changes, six kinds of vandalism, and two kinds that no filter can tell.

Everything follows from the seed. docs/trust.md says what is assumed. The bounds of the named kinds lie within the
filter's own windows, so a zero is a promise kept, not a finding about real vandals. Times are hours since the month
began.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from kbsync.facts import References

DAYS = 30
PEOPLE, PLACES = 50_000, 90_000  # ids from here on are people, and from there on places
RELATIONS = ("P6", "P35", "P169", "P286", "P488", "P1037", "P1308", "P54", "P463")
_SHARES = (6, 4, 12, 14, 12, 10, 8, 22, 12)  # how often each changes
MANY = frozenset({"P54", "P463"})


class Kind(StrEnum):
    """What a change is, in truth."""

    HONEST = "honest"
    FLIP = "value flip"
    LABEL = "nonsense label"
    MASS = "mass edit"
    SLOW = "slow, unreferenced"
    WAR = "edit war"
    TYPE = "type violation"
    HOAX = "hoax with a reference"  # right class, a reference, and nobody looks
    INSULT = "lasting insult as a label"  # plain words that look like a name, and nobody looks


NAMED = (Kind.FLIP, Kind.LABEL, Kind.MASS, Kind.SLOW, Kind.WAR, Kind.TYPE)
BEYOND = (Kind.HOAX, Kind.INSULT)


@dataclass(frozen=True, slots=True)
class Edit:
    """One edit: `value` of (subject, relation) comes or goes; without a relation, the subject's label changes."""

    at: float
    subject: str
    relation: str
    value: str
    present: bool = True
    references: References = References.SOURCED


@dataclass(frozen=True, slots=True)
class Made:
    """One change as the truth has it. `undone`: when its author or somebody else took it back, or changed it."""

    kind: Kind
    at: float
    subject: str
    relation: str
    value: str
    present: bool
    undone: float | None


@dataclass
class Month:
    """All edits in order, what they were, and how things stood before."""

    edits: list[Edit] = field(default_factory=list)
    made: list[Made] = field(default_factory=list)
    baseline: dict[tuple[str, str], str] = field(default_factory=dict)


def make_month(seed: int, honest: int = 4800, never_referenced: float = 0.02) -> Month:
    """The month of this seed. `never_referenced` is the share of honest changes that never get a reference."""
    return _Maker(random.Random(seed), honest, never_referenced).make()  # noqa: S311  (a simulation)


class _Maker:
    def __init__(self, rng: random.Random, honest: int, never_referenced: float) -> None:
        self.rng, self.honest, self.never_referenced = rng, honest, never_referenced
        self.month = Month()
        self.values: dict[tuple[str, str], str] = {}
        self.busy: dict[str, float] = {}  # a subject is left to one story at a time
        for number in range(1, 2 * honest + 9000):
            relation = rng.choices(RELATIONS, _SHARES)[0]
            self.values[f"Q{number}", relation] = self.person()
        self.month.baseline = dict(self.values)
        self.free = sorted(self.values)
        rng.shuffle(self.free)

    def make(self) -> Month:
        """Honest changes, then the vandals', each on subjects of their own."""
        for _ in range(self.honest):
            self._honest()
        self._election("P1308", 45)
        self._election("P54", 40)
        for _ in range(120):
            self._flip()
        for _ in range(80):
            self._label()
        for _ in range(4):
            self._mass()
        for _ in range(60):
            self._slow()
        for _ in range(15):
            self._war()
        for _ in range(50):
            self._type()
        for _ in range(15):
            self._hoax()
        for _ in range(10):
            self._insult()
        self.month.edits.sort(key=lambda one: one.at)
        self.month.made.sort(key=lambda one: one.at)
        return self.month

    def person(self) -> str:
        return f"Q{PEOPLE + self.rng.randrange(30_000)}"

    def place(self) -> str:
        return f"Q{PLACES + self.rng.randrange(5_000)}"

    def moment(self) -> float:
        """Some time in the month, more by day than by night."""
        day, hour = self.rng.randrange(DAYS), self.rng.triangular(0, 24, 15)
        return day * 24 + hour

    def hours(self, median: float, spread: float, most: float) -> float:
        """A waiting time: log-normal, drawn again while it is over `most`."""
        while True:
            drawn: float = median * 2.718281828 ** self.rng.gauss(0, spread)
            if drawn <= most:
                return drawn

    def take(self, relation: str | None = None) -> tuple[str, str]:
        """A subject that no story has had yet."""
        for index in range(len(self.free) - 1, -1, -1):
            if relation is None or self.free[index][1] == relation:
                return self.free.pop(index)
        raise ValueError("the month has more stories than subjects")

    def edit(self, at: float, pair: tuple[str, str], value: str, *more: bool | References) -> None:
        self.month.edits.append(Edit(at, *pair, value, *more))  # type: ignore[arg-type]

    def note(
        self, kind: Kind, at: float, pair: tuple[str, str], value: str, undone: float | None, there: bool = True
    ) -> None:
        self.month.made.append(Made(kind, at, *pair, value, there, undone))

    def swap(self, at: float, pair: tuple[str, str], old: str, new: str, references: References) -> None:
        """One value in another's place."""
        self.edit(at, pair, old, False)
        self.edit(at, pair, new, True, references)

    def _honest(self) -> None:
        at, pair, draw = self.moment(), self.take(), self.rng.random()
        if draw < 0.08:
            self.edit(at, pair, self.values[pair], False)
            self.note(Kind.HONEST, at, pair, self.values[pair], None, there=False)
        elif draw < 0.12:
            self.edit(at, (pair[0], ""), f"{_name(self.rng)} {_name(self.rng)}")
            self.note(Kind.HONEST, at, (pair[0], ""), self.month.edits[-1].value, None)
        else:
            self._new_value(at, pair)

    def _new_value(self, at: float, pair: tuple[str, str]) -> None:
        """A new value, with a reference sooner or later; some are put right within hours, some get dates later."""
        old, new, rng = self.values[pair], self.person(), self.rng
        kept = pair[1] in MANY
        if rng.random() < 0.05:  # a slip, which its author puts right
            slip, later = self.person(), at + self.hours(0.5, 1.2, 12)
            self.edit(at, pair, slip)
            self.edit(later, pair, slip, False)
            self.note(Kind.HONEST, at, pair, slip, later)
            at = later
        draw = rng.random()
        never, late, imported = self.never_referenced, self.never_referenced + 0.07, self.never_referenced + 0.10
        first = References.NONE if draw < late else References.IMPORTED if draw < imported else References.SOURCED
        if not kept:
            self.edit(at, pair, old, False)
        self.edit(at, pair, new, True, first)
        if never <= draw < late:
            self.edit(at + self.hours(12, 1.0, 120), pair, new, True, References.SOURCED)
        self.note(Kind.HONEST, at, pair, new, None)

    def _election(self, relation: str, count: int) -> None:
        """A day on which a relation changes for many subjects, honestly."""
        day = self.rng.randrange(2, DAYS - 2) * 24
        for _ in range(count):
            self._new_value(day + self.rng.uniform(6, 22), self.take(relation))

    def _flip(self) -> None:
        """A value replaced or removed on a whim, and reverted within hours. Statements that are edited in place
        keep their references."""
        at, pair = self.moment(), self.take()
        old, back = self.values[pair], at + self.hours(1.5, 1.2, 23)
        if self.rng.random() < 0.2:
            self.edit(at, pair, old, False)
            self.note(Kind.FLIP, at, pair, old, back, there=False)
        else:
            new = self.person()
            self.swap(at, pair, old, new, self._kept(0.6))
            self.edit(back, pair, new, False)
            self.note(Kind.FLIP, at, pair, new, back)
        self.edit(back, pair, old)

    def _kept(self, share: float) -> References:
        return References.SOURCED if self.rng.random() < share else References.NONE

    def _label(self) -> None:
        """A nonsense label: reverted within hours whatever it is, or lasting for days and of a look no name has."""
        at, pair = self.moment(), self.take()
        lasting = self.rng.random() < 0.15
        makers: list[Callable[[random.Random], str]] = [_repeated, _markup, _address] if lasting else _NONSENSE
        text = self.rng.choice(makers)(self.rng)
        back = at + (self.rng.uniform(24, 150) if lasting else self.hours(2, 1.2, 23))
        self.edit(at, (pair[0], ""), text)
        self.edit(back, (pair[0], ""), label_of(pair[0]))
        self.note(Kind.LABEL, at, (pair[0], ""), text, back)

    def _insult(self) -> None:
        at, pair = self.moment(), self.take()
        text, back = f"{_name(self.rng)} is a liar", at + self.rng.uniform(30, 150)
        self.edit(at, (pair[0], ""), text)
        self.edit(back, (pair[0], ""), label_of(pair[0]))
        self.note(Kind.INSULT, at, (pair[0], ""), text, back)

    def _mass(self) -> None:
        """One hand changes many subjects of one relation within hours, half of them with a reference; all of it is
        rolled back days later."""
        begun, relation = self.rng.uniform(24, (DAYS - 6) * 24), self.rng.choice(RELATIONS)
        length, back = self.rng.uniform(1, 4), begun + self.rng.uniform(48, 120)
        for _ in range(self.rng.randrange(70, 130)):
            pair, new, at = self.take(relation), self.person(), begun + self.rng.uniform(0, length)
            self.swap(at, pair, self.values[pair], new, self._kept(0.5))
            self.swap(back, pair, new, self.values[pair], References.SOURCED)
            self.note(Kind.MASS, at, pair, new, back)

    def _slow(self) -> None:
        """A false value without a reference, which nobody notices for days or weeks."""
        at, pair, new = self.moment(), self.take(), self.person()
        back = at + max(26.0, self.hours(96, 0.7, 600))
        self.swap(at, pair, self.values[pair], new, References.NONE)
        self.swap(back, pair, new, self.values[pair], References.SOURCED)
        self.note(Kind.SLOW, at, pair, new, back)

    def _war(self) -> None:
        """Two sides with references revert one another, first within hours, later with lulls, until the page is
        protected as it was."""
        at, pair, theirs = self.moment(), self.take(), self.person()
        ours = self.values[pair]
        for number in range(self.rng.randrange(4, 12)):
            lull = number >= 3 and self.rng.random() < 0.2
            back = at + (self.rng.uniform(25, 60) if lull else self.hours(3, 0.8, 20))
            self.swap(at, pair, ours, theirs, References.SOURCED)
            self.swap(back, pair, theirs, ours, References.SOURCED)
            self.note(Kind.WAR, at, pair, theirs, back)
            at = back + (self.rng.uniform(25, 60) if lull else self.hours(3, 0.8, 20))

    def _type(self) -> None:
        """A place where a person belongs; half keep the reference, and one in three is never noticed."""
        at, pair, new = self.moment(), self.take(), self.place()
        back = None if self.rng.random() < 1 / 3 else at + self.rng.uniform(24, 240)
        self.swap(at, pair, self.values[pair], new, self._kept(0.5))
        if back is not None:
            self.swap(back, pair, new, self.values[pair], References.SOURCED)
        self.note(Kind.TYPE, at, pair, new, back)

    def _hoax(self) -> None:
        at, pair, new = self.moment(), self.take(), self.person()
        back = at + self.rng.uniform(48, 150)
        self.swap(at, pair, self.values[pair], new, References.SOURCED)
        self.swap(back, pair, new, self.values[pair], References.SOURCED)
        self.note(Kind.HOAX, at, pair, new, back)


def label_of(item: str) -> str:
    """The label that an item has before anybody touches it: always the same for the same id."""
    rng = random.Random(item)  # noqa: S311  (a simulation)
    return f"{_name(rng)} {_name(rng)}"


def _name(rng: random.Random) -> str:
    syllables = ("ka", "ri", "mon", "te", "sal", "vo", "lin", "dra", "be", "no", "fi", "gar", "ul", "es", "tor")
    return "".join(rng.choices(syllables, k=rng.randrange(2, 4))).capitalize()


def _repeated(rng: random.Random) -> str:
    return rng.choice("aehlox") * rng.randrange(6, 30)


def _markup(rng: random.Random) -> str:
    return rng.choice(("<b>{}</b>", "[[{}]]", "'''{}'''", "{{{{{}}}}}")).format(_name(rng))


def _address(rng: random.Random) -> str:
    return rng.choice(("https://{}.example/win", "www.{}.example", "mail me@{}.example")).format(_name(rng).lower())


def _mashed(rng: random.Random) -> str:
    return "".join(rng.choices("asdfghjkl", k=rng.randrange(4, 12)))


def _insulted(rng: random.Random) -> str:
    return f"{_name(rng)} is stupid"


def _shouted(rng: random.Random) -> str:
    return f"{_name(rng)} RULES!!!".upper()


_NONSENSE: list[Callable[[random.Random], str]] = [_repeated, _markup, _address, _mashed, _insulted, _shouted]
