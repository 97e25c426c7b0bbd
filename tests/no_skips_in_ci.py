"""A pytest plugin: under `KBSYNC_CI=1` a test that was skipped because a part is absent is a failure.

A laptop without PostgreSQL may skip the tests that need one; continuous integration may not, or a green run
would prove less than it says.
"""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest

MARKS = ("postgres", "real")
REASONS = ("postgres", "embedded model")


def is_ci() -> bool:
    """Whether this run has to have every part at hand."""
    return os.environ.get("KBSYNC_CI") == "1"


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    """The text of a skip: pytest keeps it as (file, line, reason)."""
    where = report.longrepr
    return where[2] if isinstance(where, tuple) else str(where)


def _fail(report: pytest.TestReport | pytest.CollectReport) -> None:
    report.outcome = "failed"
    report.longrepr = f"not allowed under KBSYNC_CI=1: {_reason(report)}"


def _is_absent_part(reason: str) -> bool:
    return any(word in reason.lower() for word in REASONS)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn the skip of a test that is marked, or whose reason names an absent part, into a failure."""
    report = yield
    marked = any(item.get_closest_marker(mark) is not None for mark in MARKS)
    skipped = report.skipped and not hasattr(report, "wasxfail")  # an expected failure reads as a skip
    if is_ci() and skipped and (marked or _is_absent_part(_reason(report))):
        _fail(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a module that skips itself while it is collected."""
    report = yield
    if is_ci() and report.outcome == "skipped" and _is_absent_part(_reason(report)):
        _fail(report)
    return report
