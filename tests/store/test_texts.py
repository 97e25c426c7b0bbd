"""The sentences behind C."""

from __future__ import annotations

import pytest

from kbsync.store import known, mirror, texts
from kbsync.store.engine import Store
from tests.store.examples import NOON, later, new_run, page, statement


def test_sentences_come_back_as_they_were_kept(store: Store) -> None:
    """They are kept per number asked for, in their order."""
    with store.begin() as tx:
        assert texts.covariance_text(tx, 2) is None
        texts.keep_covariance_text(tx, 2, ["The capital of Japan is Tokyo.", "Ü {} is."], NOON)
    with store.read() as tx:
        assert texts.covariance_text(tx, 2) == ["The capital of Japan is Tokyo.", "Ü {} is."]
        assert texts.covariance_text(tx, 3) is None


def test_a_line_break_in_a_sentence_is_refused(store: Store) -> None:
    """One sentence must not come back as two."""
    with store.begin() as tx, pytest.raises(ValueError, match="line break"):
        texts.keep_covariance_text(tx, 1, ["one\ntwo"], NOON)


def test_baseline_facts_outlive_their_retirement(store: Store) -> None:
    """What the first pull found is listed for good; what came later is not."""
    with store.begin() as tx:
        mirror.apply(tx, new_run(tx), NOON, page([statement(1, "Q7"), statement(2, "Q8")]), baseline=True)
        before = known.baseline_facts(tx, ["P6"])
        assert [one.value.text for one in before] == ["Q7", "Q8"]
        again = page([statement(3, "Q9")], gone=((statement(1, "Q7").id, "deleted"),))
        mirror.apply(tx, new_run(tx, 1), later(1), again, baseline=False)
        assert known.baseline_facts(tx, ["P6"]) == before
        assert [one.fact.value.text for one in known.known_facts(tx, ["P6"])] == ["Q8", "Q9"]
