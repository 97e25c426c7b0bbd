"""The long suite's record: what is done is left out, parts are chosen, and a failure is written down."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SUITE = """
import pytest
from tests.soak import piece

@pytest.fixture(params=["sqlite", "postgres"])
def bed(request):
    return request.param

@pytest.mark.soak("kills")
@pytest.mark.parametrize("seed", ["1.0", "1.1"])
def test_kills(bed, seed):
    with piece("kills", bed, seed=1) as trials:
        for number in range(4):
            with trials.one():
                assert seed == "1.0" or number != 2 or bed == "sqlite"

@pytest.mark.soak("pauses")
def test_pauses(bed):
    with piece("pauses", bed) as trials, trials.one():
        pass
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A long suite that is short."""
    (tmp_path / "test_suite.py").write_text(SUITE, encoding="utf-8")
    return tmp_path


def run(suite: Path, *words: str, **asked: str) -> tuple[int, str, list[dict[str, object]]]:
    """The suite in a process of its own: its exit code, its last line, and the record."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("KBSYNC_", "PYTEST_"))}
    env |= {"KBSYNC_SOAK_RECORD": str(suite / "record.jsonl"), "PYTHONPATH": str(ROOT)}
    env |= {f"KBSYNC_SOAK_{name}": value for name, value in asked.items()}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "tests.soak",
        "-p",
        "no:cacheprovider",
        *words,
        str(suite),
    ]
    done = subprocess.run(command, cwd=suite, env=env, capture_output=True, text=True, check=False)
    record = suite / "record.jsonl"
    lines = record.read_text(encoding="utf-8").splitlines() if record.exists() else []
    return done.returncode, (done.stdout + done.stderr).strip().splitlines()[-1], [json.loads(one) for one in lines]


def test_what_is_done_is_not_done_again(suite: Path) -> None:
    """A second call runs what failed and what is new, and nothing else; other code makes all of it new."""
    code, said, record = run(suite)
    assert (code, said.split(",")[0]) == (1, "1 failed")
    assert {(one["piece"], one["count"], one["failed"]) for one in record} == {
        ("test_suite.py::test_kills[sqlite-1.0]", 4, 0),
        ("test_suite.py::test_kills[postgres-1.0]", 4, 0),
        ("test_suite.py::test_kills[sqlite-1.1]", 4, 0),
        ("test_suite.py::test_kills[postgres-1.1]", 4, 1),
        ("test_suite.py::test_pauses[sqlite]", 1, 0),
        ("test_suite.py::test_pauses[postgres]", 1, 0),
    }
    code, said, record = run(suite)
    assert "1 failed, 5 deselected" in said
    assert len(record) == 7
    assert record[-1]["failed"] == 1
    assert "AssertionError" in str(record[-1]["why"])
    other = [{**one, "code": "other"} for one in record]
    (suite / "record.jsonl").write_text("".join(json.dumps(one) + "\n" for one in other), encoding="utf-8")
    _, said, record = run(suite, "-n", "2")  # side by side, each writes its own lines
    assert "1 failed, 5 passed" in said
    assert len(record) == len(other) + 6


def test_a_part_on_a_store(suite: Path) -> None:
    """Only these are run; a name that there is not is an error."""
    code, said, record = run(suite, PART="kills", STORE="postgresql")
    assert "1 failed, 1 passed, 4 deselected" in said
    assert {one["store"] for one in record} == {"postgres"}
    assert "1 passed" in run(suite, PART="pauses", STORE="sqlite")[1]
    code, said, _ = run(suite, PART="murders")
    assert code != 0
    assert "'murders' is none of failpoints, kills" in said


def test_the_makefile_names_every_file_of_the_suite() -> None:
    """Collecting all tests takes long, so `make soak` names those with a part of the suite."""
    mark = "pytest.mark." + 'soak("'
    has = {
        str(path.relative_to(ROOT))
        for path in ROOT.glob("tests/**/test_*.py")
        if mark in path.read_text("utf-8") and path != Path(__file__)
    }
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", "")
    (named,) = re.findall(r"^SOAK_TESTS := (.*)$", makefile, re.MULTILINE)
    assert set(named.split()) == has
