"""The measurement of the source: its graph is what it says, and its figures come from what was really pulled."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from pyoxigraph import RdfFormat, parse

from kbsync.bench import graph as graphs
from kbsync.cli.main import cli
from kbsync.errors import ConfigError

TABLE = "\t".join(["subject", "subject_label", "property", "object", "object_label", "start", "end"])
ROWS = [
    ["Q36", "Poland", "P6", "Q1", 'Donald "Don" Tusk', "2023", ""],
    ["Q36", "Poland", "P6", "Q2", "Mateusz Morawiecki", "2017", "2023"],
    ["Q36", "Poland", "P571", "0966-01-01T00:00:00Z", "", "", ""],
    ["Q183", "Germany", "P6", "Q3", "Friedrich Merz", "", ""],
    ["Q183", "Germany", "not a property", "Q3", "", "", ""],
]


@pytest.fixture
def facts(tmp_path: Path) -> Path:
    path = tmp_path / "facts.tsv.gz"
    path.write_bytes(gzip.compress("\n".join([TABLE, *("\t".join(row) for row in ROWS)]).encode()))
    return path


def test_the_graph_is_what_it_says(facts: Path, tmp_path: Path) -> None:
    """Every triple is well formed, and the counts are those of the file."""
    file = tmp_path / "graph.nt"
    graph = graphs.write_graph(graphs.facts_of(facts), file)
    assert (graph.items, graph.statements, graph.relations) == (2, 4, ["P571", "P6"])
    quads = list(parse(path=file, format=RdfFormat.N_TRIPLES))
    assert len(quads) == graph.triples
    assert sum(quad.predicate.value == "http://www.wikidata.org/prop/P6" for quad in quads) == 3


def test_a_made_up_graph_is_the_same_for_the_same_seed(tmp_path: Path) -> None:
    """And another one for another seed; at full size it has at least 1.4 million triples."""
    texts = []
    for seed in (0, 0, 1):
        file = tmp_path / "graph.nt"
        graph = graphs.write_graph(graphs.made_up(200, seed), file)
        texts.append(file.read_text())
    assert texts[0] == texts[1] != texts[2]
    assert graph.items == 200
    assert graph.triples * 500 > 1_300_000


def test_facts_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    """A missing file and one of another shape."""
    (tmp_path / "other.tsv.gz").write_bytes(gzip.compress(b"a\tb\n1\t2\n"))
    for name in ("none.tsv.gz", "other.tsv.gz"):
        with pytest.raises(ConfigError, match=name):
            list(graphs.facts_of(tmp_path / name))


@pytest.mark.parametrize("place", ["database", "memory"])
def test_the_command_measures_what_it_pulled(tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All statements in the first pull, each edit in the tail, and nothing left to find in the full pass; in a
    folder that has nothing of kbsync's."""
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "source.json"
    where = ["--in-memory"] if place == "memory" else []
    words = ["bench", "source", "--items", "60", "--changes", "7", *where]
    words += ["--page-size", "25", "--json", "--out", str(out)]
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert json.loads(out.read_text()) == result
    first, tail, whole = result["parts"]
    assert first["rows"] == result["graph"]["statements"] == 120
    assert (tail["changes"], whole["changes"]) == (7, 0)
    assert whole["rows"] == 120
    for part in result["parts"]:
        assert part["requests"] > 0
        assert part["endpoint_s"] > 0
        assert part["endpoint_cpu_s"] >= 0
        assert part["rows_per_cpu_s"] > 0
        assert part["peak_mb"] > 1
    assert [one["triples"] for one in result["dump"]] == [result["graph"]["triples"]] * 2
    assert all(one["triples_per_cpu_s"] > 0 for one in result["dump"])
    assert result["graph"]["in_memory"] == bool(where)
    shown = CliRunner().invoke(cli, words[: words.index("--page-size")])
    assert "seconds of the endpoint" in shown.output
    assert f"from the endpoint's {place}" in " ".join(shown.output.split())
