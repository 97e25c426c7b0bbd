"""The CI rule itself: run on small test files by a pytest of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def run_pytest(folder: Path, source: str, ci: str | None) -> subprocess.CompletedProcess[str]:
    """Run `source` as a test module of its own, with the plugin loaded and `KBSYNC_CI` set to `ci`."""
    (folder / "test_sample.py").write_text(source, encoding="utf-8")
    env = {k: v for k, v in os.environ.items() if k != "KBSYNC_CI" and not k.startswith("PYTEST")}
    env["PYTHONPATH"] = str(ROOT)
    if ci is not None:
        env["KBSYNC_CI"] = ci
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.no_skips_in_ci", "-p", "no:cacheprovider"]
    return subprocess.run(
        [*command, "--rootdir", str(folder), "-c", os.devnull, str(folder)],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
    )


SKIPS = {
    "in the test": 'import pytest\ndef test_a():\n    pytest.skip("no PostgreSQL server")\n',
    "in a fixture": (
        "import pytest\n@pytest.fixture\ndef model():\n"
        '    pytest.skip("the embedded model is not installed")\ndef test_a(model): pass\n'
    ),
    "by a mark": 'import pytest\n@pytest.mark.skipif(True, reason="PostgreSQL")\ndef test_a(): pass\n',
    "of the module": ('import pytest\npytest.skip("no PostgreSQL", allow_module_level=True)\ndef test_a(): pass\n'),
    "of a marked test, whatever the reason": (
        'import pytest\n@pytest.mark.real\ndef test_a():\n    pytest.skip("no wheel")\n'
    ),
}


@pytest.mark.parametrize("source", SKIPS.values(), ids=SKIPS.keys())
def test_ci_fails_on_a_skip_for_an_absent_part(tmp_path: Path, source: str) -> None:
    """Under KBSYNC_CI=1 a skip for PostgreSQL or the embedded model ends pytest with a failure."""
    done = run_pytest(tmp_path, source, ci="1")
    assert done.returncode in {1, 2}, done.stdout
    assert "not allowed under KBSYNC_CI=1" in done.stdout


@pytest.mark.parametrize("ci", [None, "0"])
def test_elsewhere_a_skip_is_a_skip(tmp_path: Path, ci: str | None) -> None:
    """Without KBSYNC_CI=1 the same file passes with its test skipped."""
    done = run_pytest(tmp_path, SKIPS["in the test"], ci=ci)
    assert done.returncode == 0, done.stdout
    assert "1 skipped" in done.stdout


def test_ci_keeps_other_skips_and_expected_failures(tmp_path: Path) -> None:
    """A skip for another reason and an expected failure of a marked test stay what they are under CI."""
    source = (
        'import pytest\ndef test_a():\n    pytest.skip("needs a GPU")\n'
        '@pytest.mark.real\n@pytest.mark.xfail(reason="known", strict=True)\ndef test_b(): assert 0\n'
        "def test_c(): pass\n"
    )
    done = run_pytest(tmp_path, source, ci="1")
    assert done.returncode == 0, done.stdout
    assert "1 passed, 1 skipped, 1 xfailed" in done.stdout
