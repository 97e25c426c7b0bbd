"""Reading dumps: every packing and format, any order of lines, cut files, and memory that stays the same."""

from __future__ import annotations

import bz2
import gzip
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kbsync.errors import BadDump, ConfigError
from kbsync.source import dump as dumps
from kbsync.source import parse
from kbsync.source.dump import open_dump, read
from kbsync.source.staging import Staging

WD, WDT = "http://www.wikidata.org/entity/", "http://www.wikidata.org/prop/direct/"
P, PS = "http://www.wikidata.org/prop/", "http://www.wikidata.org/prop/statement/"
PSV, PQ = "http://www.wikidata.org/prop/statement/value/", "http://www.wikidata.org/prop/qualifier/"
WDS, WB = "http://www.wikidata.org/entity/statement/", "http://wikiba.se/ontology#"
LABEL, SCHEMA = "http://www.w3.org/2000/01/rdf-schema#label", "http://schema.org/"
DATA = "https://www.wikidata.org/wiki/Special:EntityData/"
TIME = '"%s"^^<http://www.w3.org/2001/XMLSchema#dateTime>'

LINES = [
    f"<{WB}Dump> <{SCHEMA}dateModified> {TIME % '2026-03-01T10:00:00Z'} .",
    f'<{DATA}Q36> <{SCHEMA}version> "77"^^<http://www.w3.org/2001/XMLSchema#integer> .',
    f"<{DATA}Q36> <{SCHEMA}dateModified> {TIME % '2026-02-01T00:00:00Z'} .",
    f'<{WD}Q36> <{LABEL}> "Poland"@en .',
    f'<{WD}Q36> <{LABEL}> "Polska"@pl .',
    f'<{WD}Q1> <{LABEL}> "Donald Tusk"@mul .',
    f'<{WD}Q2> <{LABEL}> "Mateusz Morawiecki"@en .',
    f'<{WD}Q99> <{LABEL}> "nobody asks"@en .',
    f"<{WD}Q36> <{P}P6> <{WDS}q36-AAAA> .",
    f"<{WDS}q36-AAAA> <{PS}P6> <{WD}Q1> .",
    f"<{WDS}q36-AAAA> <{WB}rank> <{WB}PreferredRank> .",
    f"<{WDS}q36-AAAA> <{PQ}P580> {TIME % '2023-12-13T00:00:00Z'} .",
    f"<{WD}Q36> <{P}P6> <{WDS}Q36-BBBB> .",
    f"<{WDS}Q36-BBBB> <{PS}P6> <{WD}Q2> .",
    f"<{WDS}Q36-BBBB> <{WB}rank> <{WB}NormalRank> .",
    f"<{WDS}Q36-BBBB> <{PQ}P582> {TIME % '2023-12-13T00:00:00Z'} .",
    f"<{WD}Q36> <{WDT}P6> <{WD}Q1> .",
    f"<{WD}Q1> <{P}P569> <{WDS}Q1-CCCC> .",
    f"<{WDS}Q1-CCCC> <{PS}P569> {TIME % '1957-04-22T00:00:00Z'} .",
    f"<{WDS}Q1-CCCC> <{PSV}P569> <http://www.wikidata.org/value/abc> .",
    f'<http://www.wikidata.org/value/abc> <{WB}timePrecision> "11"^^<http://www.w3.org/2001/XMLSchema#integer> .',
    f"<{WD}Q3> <{WDT}P6> <{WD}Q2> .",
    f"<{WD}Q3> <{WDT}P6> _:unknown .",
    f"<{WD}Q36> <{WDT}P17> <{WD}Q36> .",
]
TEXT = "\n".join(LINES) + "\n"
RELATIONS = ["P6", "P569"]


def staged(path: Path, folder: Path, identity: str = "one") -> list[object]:
    """All pages, names and the time of a dump."""
    staging = Staging(folder / "scratch.db", identity, RELATIONS, "en")
    try:
        for batch in read(open_dump(path), staging.wanted, staging.position):
            staging.add(batch)
        staging.put_in_order()
        return look(staging)
    finally:
        staging.remove()


def look(staging: Staging) -> list[object]:
    found: list[object] = [staging.time, staging.items(["Q36", "Q1", "Q2", "Q3", "Q99"])]
    for relation in RELATIONS:
        for page in staging.pages(relation, 1):
            parsed = parse.statements(relation, page.rows, "en")
            details = [one.value.detail for one in parsed.statements]
            found.append([page.subjects, parsed.statements, details, sorted(parsed.counts.items())])
    return found


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    path = tmp_path / "dump.nt"
    path.write_text(TEXT)
    return path


def test_a_dump_says_what_its_triples_say(plain: Path, tmp_path: Path) -> None:
    """Statements with rank, best and times; labels in `en` and `mul`; revisions; the dump's own time."""
    time, items, *pages = staged(plain, tmp_path)
    assert str(time) == "2026-03-01 10:00:00+00:00"
    assert {one: item.label for one, item in items.items()} == {  # type: ignore[attr-defined]
        "Q36": "Poland", "Q1": "Donald Tusk", "Q2": "Mateusz Morawiecki", "Q3": None, "Q99": None
    }  # fmt: skip
    assert items["Q36"].revision == 77  # type: ignore[index]
    (q3, bare, _, counts), (q36, told, _, _), (_, born, details, _) = pages  # type: ignore[misc]
    assert (q3, q36) == (("Q3",), ("Q36",))
    assert counts == [("filtered: unknown value", 1)]
    assert {s.id.startswith("dump-Q3-P6-") for s in bare} == {True}
    assert [(s.id, s.value.text, s.rank, s.best) for s in told] == [
        ("Q36-BBBB", "Q2", "normal", False),
        ("q36-AAAA", "Q1", "preferred", True),
    ]
    assert told[0].end == told[1].start
    assert (born[0].value.text, details) == ("1957-04-22T00:00:00Z", ["11"])


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("dump.nt.gz", gzip.compress),
        ("dump.nt.bz2", bz2.compress),
        ("dump.ttl", bytes),
        ("dump.ttl.gz", gzip.compress),
        ("misnamed.nt", gzip.compress),
    ],
)
def test_every_packing_and_format_says_the_same(
    plain: Path, tmp_path: Path, name: str, pack: Callable[[bytes], bytes]
) -> None:
    """N-Triples are Turtle, so the same text serves for both; the packing is told by the file's first bytes."""
    other = tmp_path / name
    other.write_bytes(pack(TEXT.encode()))
    assert staged(other, tmp_path) == staged(plain, tmp_path)


@pytest.mark.parametrize("seed", range(4))
def test_the_order_of_lines_does_not_matter(plain: Path, tmp_path: Path, seed: int) -> None:
    """Nor do triples that are there twice, other spaces, comments, and line ends of another system."""
    lines = [*LINES, *LINES[::3], "# a comment", "", "  "]
    random.Random(seed).shuffle(lines)
    lines[1] = lines[1].replace("> <", ">\t<")
    other = tmp_path / "other.nt"
    other.write_text("\r\n".join(lines))
    assert staged(other, tmp_path) == staged(plain, tmp_path)


@pytest.mark.parametrize("packing", ["", ".gz", ".bz2"])
def test_reading_goes_on_where_it_was(
    plain: Path, tmp_path: Path, packing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each batch the process may die: the next one reads the rest, and no triple twice."""
    monkeypatch.setattr(dumps, "BLOCK", 500)
    path = tmp_path / f"other.nt{packing}"
    path.write_bytes({"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress}[packing](TEXT.encode()))
    whole = staged(plain, tmp_path)
    rounds = 0
    while True:
        staging = Staging(tmp_path / "scratch.db", "two", RELATIONS, "en")
        batch = next(read(open_dump(path), staging.wanted, staging.position), None)
        if batch is None:
            break
        staging.add(batch)
        staging.close()
        rounds += 1
    assert rounds > 3
    assert staging.triples == len(LINES)
    staging.put_in_order()
    assert look(staging) == whole


def test_another_dump_begins_anew(plain: Path, tmp_path: Path) -> None:
    """The scratch file of another dump, or for other relations, is not gone on with."""
    for identity, relations in (("one", RELATIONS), ("two", RELATIONS), ("two", ["P6"])):
        staging = Staging(tmp_path / "scratch.db", identity, relations, "en")
        assert staging.position is None
        for batch in read(open_dump(plain), staging.wanted):
            staging.add(batch)
        staging.close()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{TEXT}<{WD}Q4> <{WDT}P6> <{WD}Q2>\n", "triple 25 is not N-Triples"),
        (f"{TEXT}what is this\n", "triple 25 is not N-Triples"),
        (f"{TEXT}<{WD}Q4> <{WDT}P6> <{WD}Q", "triple 25 is not N-Triples"),
        ('{"type": "item"}\n', "triple 1 is not N-Triples"),
        (f"@prefix wd: <{WD}> .\n", "triple 1 is not N-Triples"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, text: str, said: str) -> None:
    """The file, the number of the triple, and the beginning of what stands there."""
    path = tmp_path / "bad.nt"
    path.write_text(text)
    with pytest.raises(BadDump, match=said) as caught:
        staged(path, tmp_path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("cut.nt.gz", gzip.compress(TEXT.encode())[:-20]),
        ("cut.nt.bz2", bz2.compress(TEXT.encode())[:-20]),
        ("cut.ttl.gz", gzip.compress(TEXT.encode())[:-20]),
        ("cut.ttl", TEXT.encode()[:-20]),
        ("damaged.nt.gz", gzip.compress(TEXT.encode())[:60] + b"\0" * 40 + gzip.compress(TEXT.encode())[100:]),
        ("binary.ttl", bytes(range(256)) * 10),
    ],
)
def test_a_cut_or_damaged_file_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    """A download that ended early is no dump, however far it got."""
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(BadDump, match=name) as caught:
        staged(path, tmp_path)
    assert "\n" not in str(caught.value)


def test_what_is_no_dump_is_said_before_anything_starts(tmp_path: Path) -> None:
    """A missing file, a folder, and a format that can't be read."""
    (tmp_path / "all.json.gz").write_bytes(b"")
    for name, said in (("none.nt", "can't be read"), ("", "can't be read"), ("all.json.gz", "--format")):
        with pytest.raises(ConfigError, match=said):
            open_dump(tmp_path / name)
    assert open_dump(tmp_path / "all.json.gz", "nt").format == "nt"


MEASURE = """
import re, sys
from pathlib import Path
from kbsync.source.dump import open_dump, read
from kbsync.source.staging import Staging
path = Path(sys.argv[1])
items = int(sys.argv[2])
with path.open("w") as out:
    for n in range(1, items + 1):
        wd = f"<http://www.wikidata.org/entity/Q{n}>"
        for p in range(1, 9):
            wdt = f"<http://www.wikidata.org/prop/direct/P{p}>"
            out.write(f"{wd} {wdt} <http://www.wikidata.org/entity/Q{n + p}> .\\n")
        out.write(f'{wd} <http://www.w3.org/2000/01/rdf-schema#label> "item {n}"@en .\\n')
        out.write(f'{wd} <http://www.w3.org/2000/01/rdf-schema#label> "Ding {n}"@de .\\n')
staging = Staging(path.with_suffix(".db"), "x", ["P1"], "en")
for batch in read(open_dump(path), staging.wanted):
    staging.add(batch)
staging.put_in_order()
subjects = sum(len(page.subjects) for page in staging.pages("P1", 1000))
# not ru_maxrss: that begins with what the process that started this one had
peak = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())
print(staging.triples, subjects, int(peak[1]) // 1024)
"""


def test_memory_does_not_grow_with_the_dump(tmp_path: Path) -> None:
    """Twice the triples take the same memory, far below the 500 MB that a load may take."""
    peaks = []
    for items in (30_000, 60_000):
        command = [sys.executable, "-c", MEASURE, str(tmp_path / f"{items}.nt"), str(items)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        triples, subjects, peak = map(int, done.stdout.split())
        assert (triples, subjects) == (10 * items, items)
        peaks.append(peak)
    assert peaks[1] < 300
    assert peaks[1] < peaks[0] + 15
