"""C of a workbench: facts of its store among the text, and beside z."""

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


def test_z_are_kept_under_the_sentences_that_they_watched(rig: Rig) -> None:
    """Their hash stays when labels change; without a weight, or without sentences, they are no part of it."""
    with rig.bench(**FACTS) as bench:
        first, others = bench.target_hash, bench.editor.target_settings["others"]
        assert bench.editor.contexts.others.sentences == tuple(bench._fact_sentences(bench.settings.covariance))
    assert others is not None
    with rig.bench() as bench, bench.store.begin() as tx:
        tx.execute(text("UPDATE entities SET label = 'another ' || label"))
    with rig.bench(**FACTS) as bench:
        assert bench.target_hash == first
    with rig.bench(**FACTS, edit={"others_weight": 0.0}) as bench:
        assert bench.editor.target_settings["others"] is None
        assert bench.target_hash != first
    with rig.bench(covariance={"facts_share": 0.0}) as bench:
        assert bench.editor.target_settings["others"] is None
