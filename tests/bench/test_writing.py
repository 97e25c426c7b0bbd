"""Texts about edited subjects, on the tiny model, and what they are compared with."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kbsync.bench.edits import counterfactual, descriptions
from kbsync.bench.shares import mean_of
from kbsync.bench.writing import TOKENS, TOP, Writing
from kbsync.evaluate.fluency import TfIdf, entropy
from kbsync.facts import Fact, Value, ValueKind
from kbsync.lm.score import sample
from kbsync.request.catalogue import Catalogue
from kbsync.sync.workbench import Workbench


def test_both_metrics_are_those_of_the_text_with_its_prompt(bench: Workbench) -> None:
    """Fact by fact, from the text that the model writes after the generation prompt."""
    requests = counterfactual(bench.catalogue, 3, 0, 0)
    found = Writing(bench.catalogue, requests, seed=7).measure(bench)
    base, about = bench.base, descriptions(bench.catalogue)
    rows = [base.encoder.plain(request.generation) for request in requests]
    said = sample(base.model, base.tokenizer, rows, TOKENS, TOP, 7)
    texts = [request.generation.text + more for request, more in zip(requests, said, strict=True)]
    hashes = [request.content_hash for request in requests]
    assert found["fluency"] == dict(zip(hashes, map(entropy, texts), strict=True))
    for request, text in zip(requests, texts, strict=True):
        expected = TfIdf(about.values()).similarity(text, about[request.fact.value.text])
        assert found["consistency"][request.content_hash] == pytest.approx(expected)


def test_a_text_about_the_new_object_is_more_consistent(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Than one about the old object."""
    (request,) = counterfactual(bench.catalogue, 1, 0, 0)
    writes = Writing(bench.catalogue, [request], seed=0)
    values = []
    for label in (request.target_new, request.target_old):
        with monkeypatch.context() as patch:
            patch.setattr("kbsync.lm.score.sample", lambda *_, label=label: [f" {label}."])
            values.append(writes.measure(bench)["consistency"][request.content_hash])
    assert values[0] > values[1]


def test_the_seed_decides(bench: Workbench) -> None:
    """The same texts with the same one."""
    requests = counterfactual(bench.catalogue, 2, 0, 0)
    one, again, other = (Writing(bench.catalogue, requests, seed).measure(bench) for seed in (1, 1, 2))
    assert one == again != other


def test_an_object_that_nothing_is_known_of(bench: Workbench) -> None:
    """The text is judged by its fluency alone."""
    (request,) = counterfactual(bench.catalogue, 1, 0, 0)
    fact = Fact(request.fact.subject, request.fact.relation, Value(ValueKind.ITEM, "Q999999999"))
    found = Writing(bench.catalogue, [replace(request, fact=fact)], seed=0).measure(bench)
    assert (len(found["fluency"]), found["consistency"]) == (1, {})


@pytest.mark.parametrize("real", [False, True])
def test_descriptions_are_true_sentences(catalogue: Catalogue, real: bool) -> None:
    """Each fact is said under its subject and under its object; a counterfactual object is nobody's."""
    about = descriptions(catalogue, real)
    assert len(about) > 1000
    if not real:
        (request,) = counterfactual(catalogue, 1, 0, 0)
        said = f"{request.rewrite.text} {request.target_old}."
        assert said in about[request.fact.subject]
        assert sum(said in text for text in about.values()) == 2
        assert f"{request.rewrite.text} {request.target_new}." not in " ".join(about.values())


def test_a_mean_with_its_interval() -> None:
    """Over facts; none over none."""
    found = mean_of([0.0, 1.0, 2.0])
    assert found is not None
    assert (found.value, found.count) == (1.0, 3)
    assert 0 <= found.low < 1 < found.high <= 2
    assert mean_of([]) is None
