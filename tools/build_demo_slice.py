"""Build data/demo: a slice of Wikidata in the query service's vocabulary, and two windows of changes to it.

    python tools/build_demo_slice.py SHARED_DATA_DIR OUT_DIR

SHARED_DATA_DIR holds wikidata_slice.nt.gz, wikidata_slice-changes-expected.tsv, wikidata_changes.tsv.gz and
wikidata_facts.tsv.gz. The same input gives the same bytes. What is real and what is not stands in
data/demo/README.md.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

ENTITY = "http://www.wikidata.org/entity/"
PROP = "http://www.wikidata.org/prop/"
WIKIBASE = "http://wikiba.se/ontology#"
XSD = "http://www.w3.org/2001/XMLSchema#"
TYPE = "http://www.w3.org/1999/02/22-rdf-syntax-ns#type"
LABEL = "http://www.w3.org/2000/01/rdf-schema#label"
MODIFIED, VERSION = "http://schema.org/dateModified", "http://schema.org/version"
LINE = re.compile(r"^<([^>]*)> <([^>]*)> (.*) \.$")

BASE_END = datetime(2021, 12, 30, tzinfo=UTC)
WINDOW_ENDS = (datetime(2023, 12, 30, tzinfo=UTC), datetime(2024, 4, 1, tzinfo=UTC))
UNDATED = ("2022-06-30", "2022-12-31", "2023-12-30", "2024-03-31")  # "some time before this day"
TOUCHED = (30, 20)  # items per window that are edited without a change of fact
PER_RELATION = 75  # subjects that are kept for each relation, where there are so many
KEPT_WHOLE = ("P6", "P35", "P286", "P488", "P1308", "P54", "P108", "P102", "P127", "P159", "P1037", "P169")
KEPT_WIDE = {"P39": 350}

# Window 1, replaced: from the slice's own change files, or rewound from the current value (wikidata_changes).
REPLACED_1 = {
    "P1308": "Q466956 Q520765 Q853475 Q6296418 Q14784066 Q45758 Q878942 Q2306431 Q13527933 Q9134365 Q531471 "
    "Q107658508 Q29962937 Q29963125 Q3251873 Q6865868 Q11984312 Q105070637 Q4283840 Q955006",
    "P6": "Q34 Q145 Q36 Q408 Q8646 Q64 Q1297 Q1400 Q218",
    "P35": "Q878 Q1033 Q215 Q298",
    "P286": "Q15789 Q483020 Q9616 Q81888 Q704 Q19446 Q132885 Q19628 Q1893 Q833050 Q724832 Q772725",
    "P488": "Q10658 Q49762 Q6867 Q171183 Q739627 Q122880",
    "P54": "Q615 Q11571 Q142794 Q622308 Q22893990 Q447932",
    "P108": "Q14086 Q21714633",
    "P102": "Q181383 Q155979 Q332483",
    "P127": "Q539296 Q196105",
    "P39": "Q58311 Q3702047",
    "P1037": "Q17639127",
}
# Three offices that share the label `Prime Minister`: dated values of wikidata_facts; words can't tell them apart.
DATED_1 = (
    ("Q14211", "P1308", "Q180589", "Q272201", "2022-09-06"),
    ("Q319145", "P1308", "Q7436908", "Q335697", "2022-05-23"),
    ("Q735575", "P1308", "Q155164", "Q2096387", "2022-04-11"),
)
# Window 2, replaced again: the real next holder.
REPLACED_2 = {
    "P1308": "Q107658508 Q29962937 Q29963125 Q3251873 Q6865868 Q11984312 Q105070637 Q4283840 Q955006",
    "P286": "Q19446 Q132885 Q19628 Q833050 Q724832 Q772725 Q204357 Q457163 Q845043 Q175145 Q222861 Q394452",
    "P54": "Q22893990 Q447932",
    "P6": "Q1720 Q230",
}
# Real facts that are left out of the base and come in a window, as when an editor fills a gap.
ADDED = (
    (1, "Q280814", "P159"),
    (1, "Q806651", "P488"),
    (1, "Q107130", "P26"),
    (1, "Q43203", "P69"),
    (1, "Q14647", "P127"),
    (1, "Q151608", "P463"),
    (2, "Q689093", "P749"),
    (2, "Q35572", "P740"),
)
# (window, subject, property, object, style); an end date keeps the statement, `outranked` prefers the others.
RETIRED = (
    (1, "Q22686", "P102", "Q327591", "outranked"),
    (1, "Q503143", "P39", "Q27169", "outranked"),
    (1, "Q57634", "P39", "Q116102", "outranked"),
    (1, "Q881199", "P39", "Q1853549", "outranked"),
    (1, "Q4506396", "P108", "Q49204", "delete"),
    (1, "Q18712384", "P740", "Q23556", "delete"),
    (1, "Q892", "P166", "", "deprecate"),
    (1, "Q10520", "P166", "", "deprecate"),
    (1, "Q923131", "P108", "Q132885", "end"),
    (2, "Q43203", "P69", "", "delete"),
    (2, "Q107130", "P26", "", "delete"),
    (2, "Q878942", "P1308", "", "delete"),
    (2, "Q14784066", "P1308", "", "delete"),
    (2, "Q853475", "P1308", "", "deprecate"),
    (2, "Q151608", "P463", "", "end"),
    (2, "Q155979", "P102", "", "end"),
)
REVERTED_2 = (("Q14086", "P108"), ("Q332483", "P102"))  # window 1's new value is taken back
STYLES = {"Q539296": "replace", "Q196105": "replace", "Q181383": "remove+add", "Q155979": "remove+add"}


@dataclass
class Statement:
    """One statement; `value` is an N-Triples term."""

    id: str
    prop: str
    value: str = ""
    rank: str = "NormalRank"
    start: str | None = None
    end: str | None = None


@dataclass
class Entity:
    """One item with its statements."""

    id: str
    label: str | None = None  # an N-Triples literal
    modified: str = "2021-06-01T00:00:00Z"
    version: int = 1_400_000_000
    statements: list[Statement] = field(default_factory=list)

    def of(self, prop: str) -> list[Statement]:
        """The statements of one property."""
        return [s for s in self.statements if s.prop == prop]

    def truthy(self, prop: str) -> set[str]:
        """The values of best rank."""
        return {s.value for s in best(self.of(prop))}


@dataclass
class Edit:
    """One change of one window."""

    window: int
    subject: str
    prop: str
    old: str
    new: str
    style: str
    on: str  # the day of the change, or empty when nobody recorded it
    origin: str

    @property
    def day(self) -> str:
        """The day of the change, or for an unknown one a synthetic day inside the window."""
        begin, end = (BASE_END, *WINDOW_ENDS)[self.window - 1], WINDOW_ENDS[self.window - 1]
        drawn = begin + timedelta(days=number("day", self.subject, self.window) % (end - begin).days)
        return self.on or drawn.date().isoformat()


Slice = dict[str, Entity]


def best(statements: list[Statement]) -> list[Statement]:
    """Wikibase's rule: the preferred ones if there are any, else the normal ones; never the deprecated."""
    for rank in ("PreferredRank", "NormalRank"):
        if found := [s for s in statements if s.rank == rank]:
            return found
    return []


def number(*parts: object) -> int:
    """A fixed large number for a text: everything synthetic is drawn from it."""
    return int.from_bytes(hashlib.sha256("|".join(map(str, parts)).encode()).digest()[:8])


def item(term: str) -> str:
    """`<…/entity/Q5>` → Q5."""
    return term[1:-1].removeprefix(ENTITY)


def term(item_id: str) -> str:
    """Q5 → `<…/entity/Q5>`."""
    return f"<{ENTITY}{item_id}>"


def typed(text: object, kind: str) -> str:
    """An N-Triples literal."""
    return f'"{text}"^^<{XSD}{kind}>'


def rows(folder: Path, name: str) -> list[dict[str, str]]:
    """A TSV file, plain or gzipped."""
    path = folder / name
    data = gzip.decompress(path.read_bytes()) if name.endswith(".gz") else path.read_bytes()
    return list(csv.DictReader(io.StringIO(data.decode()), delimiter="\t", quoting=csv.QUOTE_NONE))


def load(path: Path) -> tuple[Slice, list[str]]:
    """The full slice as entities, and the lines that describe properties as they are."""
    entities: Slice = {}
    statements: dict[str, Statement] = {}
    properties: list[str] = []
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            match = LINE.match(line.rstrip("\n"))
            assert match is not None, line
            subject, predicate, value = match.groups()
            name = subject.removeprefix(ENTITY)
            if name.startswith("statement/"):
                _read_statement(statements, name.removeprefix("statement/"), predicate, value)
            elif name.startswith("P"):
                properties.append(line.rstrip("\n"))
            elif name.startswith("Q"):
                entity = entities.setdefault(name, Entity(name))
                if predicate == LABEL:
                    entity.label = value
                elif predicate == MODIFIED:
                    entity.modified = value[1 : value.index('"', 1)]
                elif predicate == VERSION:
                    entity.version = int(value[1 : value.index('"', 1)])
                elif re.fullmatch(re.escape(PROP) + r"P\d+", predicate):
                    key = item(value).removeprefix("statement/")
                    statement = statements.setdefault(key, Statement(key, ""))
                    statement.prop = predicate.removeprefix(PROP)
                    entity.statements.append(statement)
    return entities, properties


def _read_statement(statements: dict[str, Statement], key: str, predicate: str, value: str) -> None:
    statement = statements.setdefault(key, Statement(key, ""))
    if predicate.startswith(PROP + "statement/"):
        statement.value = value
    elif predicate == WIKIBASE + "rank":
        statement.rank = value[1:-1].removeprefix(WIKIBASE)
    elif predicate.endswith("/P580"):
        statement.start = value[1 : value.index('"', 1)]
    elif predicate.endswith("/P582"):
        statement.end = value[1 : value.index('"', 1)]


def plan(shared: Path, entities: Slice) -> list[Edit]:
    """Look the chosen changes up in the shared files."""
    planned = {
        (r["subject"], r["property"], r["old_object"]): r
        for r in rows(shared, "wikidata_slice-changes-expected.tsv")
        if r["origin"] == "real"
    }
    known = [r for r in rows(shared, "wikidata_changes.tsv.gz") if r["old_object"] and r["new_object"]]
    edits: list[Edit] = []
    at: dict[tuple[str, str], str] = {}
    for window, chosen in ((1, REPLACED_1), (2, REPLACED_2)):
        for prop, subjects in chosen.items():
            for subject in subjects.split():
                edit = _replaced(window, subject, prop, at.get((subject, prop)), planned, known)
                at[subject, prop] = edit.new
                edits.append(edit)
    for subject, prop, old, new, on in DATED_1:
        edits.append(Edit(1, subject, prop, old, new, "end+add", on, "real"))
    for window, subject, prop in ADDED:
        (statement,) = entities[subject].of(prop)
        edits.append(Edit(window, subject, prop, "", item(statement.value), "add", "", "real, time synthetic"))
    for window, subject, prop, old, style in RETIRED:
        origin = "real" if style == "outranked" else "synthetic"
        edits.append(Edit(window, subject, prop, old, "", style, "", origin))
    edits += [Edit(2, subject, prop, "", "", "revert", "", "synthetic") for subject, prop in REVERTED_2]
    return edits


def _replaced(
    window: int,
    subject: str,
    prop: str,
    old: str | None,
    planned: dict[tuple[str, str, str], dict[str, str]],
    known: list[dict[str, str]],
) -> Edit:
    """The change of (subject, property), which begins at `old` where an earlier window has moved it."""
    mine = [r for key, r in planned.items() if key[:2] == (subject, prop) and old in (None, key[2])]
    if mine:
        first = mine[0]  # the change files are in the order of time
        if old is None and len(mine) > 1:
            first = min(mine, key=lambda r: (r["change_file"], r["real_date_or_window_end"]))
        on, style = first["real_date_or_window_end"], first["edit_style"]
    else:
        found = [
            r for r in known if (r["subject"], r["property"]) == (subject, prop) and old in (None, r["old_object"])
        ]
        first = max(found, key=lambda r: (r["changed_on"] or r["window_to"], r["window_from"]))
        on, style = first["changed_on"], "end+add"
    on = "" if len(on) != 10 or on in UNDATED else on
    return Edit(
        window, subject, prop, first["old_object"], first["new_object"], STYLES.get(subject, style), on, "real"
    )


def choose(entities: Slice, edits: list[Edit]) -> list[str]:
    """The subjects to keep: all that change, all that share an old object with one, and a sample per relation."""
    kept = {edit.subject for edit in edits}
    shared = {(edit.prop, term(edit.old)) for edit in edits if edit.old}
    by_relation: dict[str, list[str]] = defaultdict(list)
    for entity in entities.values():
        for prop in {s.prop for s in entity.statements}:
            by_relation[prop].append(entity.id)
        if any(
            (s.prop, s.value) in shared
            for prop in {s.prop for s in entity.statements}
            for s in best(entity.of(prop))
        ):
            kept.add(entity.id)
    for prop in sorted(by_relation):
        subjects = sorted(by_relation[prop], key=lambda one: number("sample", one))
        wide = len(subjects) if prop in KEPT_WHOLE else KEPT_WIDE.get(prop, PER_RELATION)
        kept.update(subjects[:wide])
    return sorted(kept, key=lambda one: int(one[1:]))


def cut(entities: Slice, subjects: list[str], edits: list[Edit]) -> Slice:
    """The chosen subjects with all their statements; of other entities only what names them."""
    small: Slice = {}
    chosen = set(subjects)
    objects = {
        item(s.value) for one in subjects for s in entities[one].statements if s.value.startswith(f"<{ENTITY}Q")
    }
    objects |= {one for edit in edits for one in (edit.old, edit.new) if one}
    for one in sorted(chosen | objects, key=lambda q: int(q[1:])):
        entity = entities.get(one, Entity(one))
        small[one] = replace(entity, statements=[replace(s) for s in entity.statements] if one in chosen else [])
    return small


def rewind(small: Slice, edits: list[Edit]) -> None:
    """Make the base what it was before window 1: no value that is yet to come, and the old one alone truthy."""
    seen: set[tuple[str, str]] = set()
    for edit in edits:
        if edit.style in ("delete", "deprecate", "end", "outranked", "revert"):
            continue
        entity = small[edit.subject]
        entity.statements = [
            s for s in entity.statements if s.prop != edit.prop or s.value != term(edit.new) or not edit.new
        ]
        if not edit.old or (edit.subject, edit.prop) in seen:
            continue
        seen.add((edit.subject, edit.prop))
        held = [s for s in entity.of(edit.prop) if s.value == term(edit.old)]
        if not held:
            held = [Statement(guid(edit.subject, edit.prop, edit.old, "base"), edit.prop, term(edit.old))]
            entity.statements += held
        for extra in held[1:]:
            entity.statements.remove(extra)
        held[0].end, held[0].rank = None, "NormalRank"
        if entity.truthy(edit.prop) != {term(edit.old)}:
            held[0].rank = "PreferredRank"


def guid(*parts: object) -> str:
    """A synthetic statement id on the subject that is the first part."""
    text = hashlib.sha256("|".join(map(str, parts)).encode()).hexdigest().upper()
    return f"{parts[0]}-{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:32]}"


def apply(small: Slice, edit: Edit) -> None:
    """Edit the statements as an editor of that style would."""
    entity = small[edit.subject]
    mine = entity.of(edit.prop)
    on = f"{edit.day}T00:00:00Z"
    start = on if edit.on else None
    fresh = Statement(guid(edit.subject, edit.prop, edit.new, edit.window), edit.prop, term(edit.new), start=start)
    if edit.style == "add":
        entity.statements.append(fresh)
    elif edit.style == "revert":
        (taken,) = (s for s in mine if s.id == guid(edit.subject, edit.prop, item(s.value), 1))
        entity.statements.remove(taken)
        back = max((s for s in mine if s is not taken), key=lambda s: s.end or "")
        back.end, back.rank = None, "PreferredRank"
    elif edit.new:
        old = next(s for s in best(mine) if s.value == term(edit.old))
        _replace(entity, old, fresh, edit.style, on)
    else:
        held = [s for s in best(mine) if edit.old in ("", item(s.value))]
        for statement in held:
            _retire(entity, statement, edit.style, on)


def _replace(entity: Entity, old: Statement, fresh: Statement, style: str, on: str) -> None:
    if style == "replace":
        old.value, old.start, old.end = fresh.value, fresh.start, None
    elif style == "remove+add":
        entity.statements.remove(old)
        entity.statements.append(replace(fresh, rank=old.rank))
    else:
        old.end, old.rank = on, "NormalRank"
        entity.statements.append(replace(fresh, rank="PreferredRank"))


def _retire(entity: Entity, statement: Statement, style: str, on: str) -> None:
    if style == "delete":
        entity.statements.remove(statement)
    elif style == "deprecate":
        statement.rank = "DeprecatedRank"
    elif style == "end":
        statement.end = on
    else:  # outranked
        statement.end = statement.end or on
        for other in entity.of(statement.prop):
            if other is not statement:
                other.rank = "PreferredRank"


def touch(entity: Entity, window: int, not_before: str) -> None:
    """Give an edited item a synthetic time inside the window and a later revision."""
    begin, end = (BASE_END, *WINDOW_ENDS)[window - 1], WINDOW_ENDS[window - 1]
    floor = max(begin, datetime.fromisoformat(f"{not_before or '2000-01-01'}T00:00:00+00:00"))
    span = max(1, int((end - floor).total_seconds()) - 1)
    moment = floor + timedelta(seconds=1 + number("time", entity.id, window) % span)
    entity.modified = min(moment, end - timedelta(seconds=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    entity.version += 1_000_000 + number("version", entity.id, window) % 1_000_000


def triples(entity: Entity) -> Iterator[str]:
    """All triples of an item, as the query service has them."""
    subject = term(entity.id)
    if entity.label is not None:
        yield f"{subject} <{LABEL}> {entity.label} ."
    yield f"{subject} <{MODIFIED}> {typed(entity.modified, 'dateTime')} ."
    yield f"{subject} <{VERSION}> {typed(entity.version, 'integer')} ."
    yield f"{subject} <{WIKIBASE}statements> {typed(len(entity.statements), 'integer')} ."
    for prop in {s.prop for s in entity.statements}:
        for value in entity.truthy(prop):
            yield f"{subject} <{PROP}direct/{prop}> {value} ."
    chosen = {id(s) for prop in {s.prop for s in entity.statements} for s in best(entity.of(prop))}
    for s in entity.statements:
        node = f"<{ENTITY}statement/{s.id}>"
        yield f"{subject} <{PROP}{s.prop}> {node} ."
        yield f"{node} <{PROP}statement/{s.prop}> {s.value} ."
        yield f"{node} <{WIKIBASE}rank> <{WIKIBASE}{s.rank}> ."
        if id(s) in chosen:
            yield f"{node} <{TYPE}> <{WIKIBASE}BestRank> ."
        for qualifier, time in (("P580", s.start), ("P582", s.end)):
            if time is not None:
                yield f"{node} <{PROP}qualifier/{qualifier}> {typed(time, 'dateTime')} ."


def update(before: Iterable[str], after: Iterable[str], window: int) -> str:
    """A SPARQL update that turns the triples `before` into `after` and moves the lag triple."""
    old, new = set(before), set(after)
    begin, end = (BASE_END, *WINDOW_ENDS)[window - 1], WINDOW_ENDS[window - 1]
    lag = [f"{LAG} {typed(t.strftime('%Y-%m-%dT%H:%M:%SZ'), 'dateTime')} ." for t in (begin, end)]
    gone, come = sorted(old - new) + lag[:1], sorted(new - old) + lag[1:]
    return (
        f"# window {window}: {begin:%Y-%m-%d} to {end:%Y-%m-%d}\n"
        "DELETE DATA {\n" + "\n".join(gone) + "\n} ;\nINSERT DATA {\n" + "\n".join(come) + "\n}\n"
    )


LAG = f"<http://www.wikidata.org> <{MODIFIED}>"


def write_gz(path: Path, text: str) -> None:
    """Compress with a fixed time stamp, so that the same text gives the same bytes."""
    path.write_bytes(gzip.compress(text.encode(), 9, mtime=0))


def names(entity: Entity | None) -> str:
    """The label as plain text."""
    if entity is None or entity.label is None:
        return ""
    raw = entity.label[1 : entity.label.rindex('"')]
    text = re.sub(r"\\u([0-9A-Fa-f]{4})", lambda m: chr(int(m[1], 16)), raw)
    return text.replace('\\"', '"').replace("\\\\", "\\")


def run(shared: Path, out: Path) -> None:
    """Build everything."""
    entities, properties = load(shared / "wikidata_slice.nt.gz")
    edits = plan(shared, entities)
    _name_new_objects(shared, entities, edits)
    small = cut(entities, choose(entities, edits), edits)
    rewind(small, edits)
    out.mkdir(parents=True, exist_ok=True)
    base = [*properties, f"{LAG} {typed(BASE_END.strftime('%Y-%m-%dT%H:%M:%SZ'), 'dateTime')} ."]
    base += [line for entity in small.values() for line in sorted(triples(entity))]
    write_gz(out / "wikidata.nt.gz", "\n".join(base) + "\n")
    labels = {m[1]: m[2] for line in properties if (m := re.match(rf'<{ENTITY}(P\d+)> <{LABEL}> "(.*)"@en', line))}
    table = [
        "window\tsubject\tlabel\tproperty\tproperty_label\told\told_label\tnew\tnew_label\tkind\tstyle\torigin"
    ]
    for window in (1, 2):
        text, found = _window(small, [e for e in edits if e.window == window], edits, window, labels)
        write_gz(out / f"window-{window}.ru.gz", text)
        table += found
    (out / "expected.tsv").write_text("\n".join(table) + "\n", encoding="utf-8")
    subjects = sum(1 for entity in small.values() if entity.statements)
    sizes = sum(path.stat().st_size for path in out.iterdir())
    sys.stdout.write(f"{subjects} subjects, {len(small)} entities, {len(base)} triples, {sizes} bytes\n")


def _name_new_objects(shared: Path, entities: Slice, edits: list[Edit]) -> None:
    """Objects that the slice does not hold yet get the label that the list of changes has."""
    missing = {one for e in edits for one in (e.old, e.new) if one and one not in entities}
    for row in rows(shared, "wikidata_changes.tsv.gz"):
        for side in ("old", "new"):
            one = row[f"{side}_object"]
            if one in missing and row[f"{side}_label"]:
                text = row[f"{side}_label"].replace("\\", "\\\\").replace('"', '\\"')
                entities.setdefault(one, Entity(one, f'"{text}"@en'))


def _window(
    small: Slice, mine: list[Edit], edits: list[Edit], window: int, labels: dict[str, str]
) -> tuple[str, list[str]]:
    """Apply one window: its update, and its rows of expected.tsv."""
    quiet = {e.subject for e in edits}
    watched = {e.prop for e in edits}
    others = [q for q, e in small.items() if q not in quiet and any(s.prop in watched for s in e.statements)]
    touched = sorted(others, key=lambda one: number("touch", window, one))[: TOUCHED[window - 1]]
    changed = sorted({e.subject for e in mine} | {*touched}, key=lambda one: int(one[1:]))
    before = [line for one in changed for line in triples(small[one])]
    table = []
    for edit in mine:
        was = small[edit.subject].truthy(edit.prop)
        apply(small, edit)
        table.append(_row(small, edit, was, labels))
    for one in changed:
        touch(small[one], window, max((e.day for e in mine if e.subject == one), default=""))
    table += [
        "\t".join([str(window), one, names(small[one]), *[""] * 6, "touched", "touch", "synthetic"])
        for one in touched
    ]
    return update(before, [line for one in changed for line in triples(small[one])], window), table


def _row(small: Slice, edit: Edit, was: set[str], labels: dict[str, str]) -> str:
    """What the edit did to the truthy values, which must be what it was meant to do."""
    now = small[edit.subject].truthy(edit.prop)
    lost, gained = sorted(was - now), sorted(now - was)
    kind = {(1, 1): "replaced", (0, 1): "added", (1, 0): "retired", (0, 0): "ended"}[len(lost), len(gained)]
    wanted = {"add": "added", "end": "ended", "revert": "replaced"}.get(
        edit.style, "replaced" if edit.new else "retired"
    )
    assert kind == wanted, (edit, lost, gained)
    old, new = (item(side[0]) if side else "" for side in (lost, gained))
    if kind == "ended":
        (only,) = now
        old = item(only)
    return "\t".join(
        [
            *(str(edit.window), edit.subject, names(small[edit.subject]), edit.prop, labels[edit.prop]),
            *(old, names(small.get(old)), new, names(small.get(new)), kind, edit.style, edit.origin),
        ]
    )


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python tools/build_demo_slice.py SHARED_DATA_DIR OUT_DIR")
    run(Path(sys.argv[1]), Path(sys.argv[2]))
