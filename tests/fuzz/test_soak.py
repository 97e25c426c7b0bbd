"""The long suite: each target gets its share of a million inputs and more, guided by coverage.

`KBSYNC_SOAK_INPUTS` (1) multiplies all shares.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS
from tests.soak import record

pytestmark = [
    pytest.mark.soak("fuzz"),
    pytest.mark.timeout(0),
    pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not installed (Linux only)"),
]

TIMES = float(os.environ.get("KBSYNC_SOAK_INPUTS", "1"))
ROOT = Path(__file__).parents[2]
# By what one input costs: from a twentieth of a millisecond to several; a query has a process of its own.
SHARES = {
    "answer": 250_000, "rows": 150_000, "lines": 120_000, "event": 250_000, "stream": 60_000, "refusal": 120_000,
    "literals": 120_000, "manifest": 120_000, "prompts": 60_000, "labels": 30_000, "dump": 20_000, "sql": 4_000,
    "catalogue": 20_000, "settings": 15_000, "safetensors": 20_000, "model config": 20_000, "gguf": 10_000,
    "gguf header": 20_000, "pattern": 8_000,
}  # fmt: skip


def test_every_target_has_a_share_of_a_million() -> None:
    """None is left out."""
    assert set(SHARES) == set(TARGETS)
    assert sum(SHARES.values()) >= 1_000_000


@pytest.mark.parametrize("name", SHARES)
def test_nothing_but_named_errors_gets_through(name: str, tmp_path: Path) -> None:
    """In a process of its own, which libFuzzer takes over; what it finds is kept and named."""
    wanted = max(1000, int(SHARES[name] * TIMES))
    command = [sys.executable, "-m", "tests.fuzz.drive", name, "--inputs", str(wanted), "--seconds", "1e9"]
    command += ["--folder", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, errors="replace", check=False)
    assert done.returncode == 0, (done.stdout[-2000:], done.stderr[-4000:])
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["found"] == {}
    assert said["inputs"] == wanted
    record(f"fuzz: {name}", "", wanted, said["seconds"], seed=1)
