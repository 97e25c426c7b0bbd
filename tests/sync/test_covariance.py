"""C of a workbench: facts of its store among the text."""

from __future__ import annotations

from sqlalchemy import text

from tests.sync.rig import Rig

FACTS = {"covariance": {"facts_share": 0.1}}


def test_facts_of_the_first_pull_are_part_of_it(rig: Rig) -> None:
    """As far as there are any; the sentences are kept in the store, so that C stays what it is when every label has
    changed."""
    with rig.bench(**FACTS) as bench:
        first = bench.editor.covariance
    with rig.bench(**FACTS) as bench:
        said = [bench.base.encoder.text_ids(one) for one in bench._fact_sentences(bench.settings.covariance)]
    assert 0 < first.sources["facts"] <= 0.1 * 1000 + len(said)  # BOS in front of each fact
    assert sum(first.sources.values()) == first.tokens
    ((sentences,),) = rig.rows("SELECT sentences FROM covariance_texts")
    assert sentences
    with rig.bench() as bench, bench.store.begin() as tx:
        tx.execute(text("UPDATE entities SET label = 'another ' || label"))
    with rig.bench(**FACTS) as bench:
        assert bench.editor.covariance.hash == first.hash
    with rig.bench() as bench:
        assert bench.editor.covariance.hash != first.hash
