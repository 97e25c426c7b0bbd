"""The parser that the other tests rely on can fail."""

from __future__ import annotations

import pytest

from tests.deploy.conftest import query
from tests.deploy.promql import Wrong


def test_what_a_query_reads_and_leaves() -> None:
    """Metrics, matchers, ranges, and the labels of the answer."""
    found = query('60 * max by (host) (rate(kbsync_endpoint_requests_total{job=~"a"}[5m])) > 1e3')
    assert found.labels == {"host"}
    (used,) = found.used
    assert (used.metric, used.ranged, used.function) == ("kbsync_endpoint_requests_total", True, "rate")
    assert used.matchers == (("job", "=~", "a"),)
    assert query("time() - kbsync_live_timestamp_seconds").labels == {"job", "instance"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kbsync_nonsense", "no metric kbsync_nonsense"),
        ("up == 0", "no metric up"),
        ('kbsync_facts{host="x"}', "no label host"),
        ("max by (host) (kbsync_facts)", "no such label to keep"),
        ("kbsync_changes_total > 3", "is a counter"),
        ("rate(kbsync_facts[5m])", "is a gauge"),
        ("rate(kbsync_changes_total)", "needs a range"),
        ("max by (host) (kbsync_breaker_open) > max(kbsync_live_facts)", "never match"),
        ("max(kbsync_facts", "ends too early"),
        ("max(kbsync_facts))", "more than a query"),
        ("kbsync_facts ~ 3", "can't be read"),
    ],
)
def test_a_query_that_can_not_be(text: str, said: str) -> None:
    """Each is refused."""
    with pytest.raises(Wrong, match=said):
        query(text)
