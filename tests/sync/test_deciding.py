"""Ids that people write, by command and over HTTP."""

from __future__ import annotations

from pathlib import Path

import pytest

from kbsync.errors import ConfigError
from kbsync.store.engine import open_store
from kbsync.sync import deciding
from kbsync.sync.clock import now
from tests.stores import BACKENDS, files

DIGITS = ("0", "007", "2147483647", "2147483648", "9" * 20, "9" * 5000, "٣", "²", "-1", "1_0", " 1", "")


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_nobody_has_is_refused_by_name(backend: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Whatever stands in place of a number, and however large it is: one line, on both stores."""
    if backend == "sqlite":
        url = files().make(tmp_path / "kbsync.db")
    else:
        url = request.getfixturevalue("server").laid_out()
    with open_store(url) as store:
        for digits in DIGITS:
            for letter in ("", "h", "H", "q", "a", "x"):
                with store.begin() as tx:
                    with pytest.raises(ConfigError):
                        deciding.approve(tx, [letter + digits], "tests", None, now())
                    with pytest.raises(ConfigError):
                        deciding.reject(tx, [letter + digits], "tests", None, now())
                    with pytest.raises(ConfigError):
                        deciding.release(tx, [letter + digits], "tests", now())
