"""`kbsync bench quality`: many edits, base model beside candidate."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from kbsync.bench import asking
from kbsync.bench.asking import ask_base, sort_out
from kbsync.bench.edits import counterfactual
from kbsync.bench.quality import Drawn, Measured, bench_quality, measure
from kbsync.bench.shares import Pair
from kbsync.errors import ConfigError
from kbsync.evaluate.intervals import wilson
from kbsync.evaluate.probes import greedy_answers
from kbsync.facts import Phase, PromptKind
from kbsync.sync.workbench import Workbench
from tests.bench.conftest import TAKES, workbench

Result = tuple[Drawn, Measured]


@pytest.fixture(scope="module")
def found(taking: Workbench) -> Result:
    """Twelve edits, measured."""
    return bench_quality(taking, 12, 0)


def test_it_measures_what_it_says(found: Result) -> None:
    """Every metric of both models, with as many prompts as the edits have, each inside its interval."""
    drawn, measured = found
    assert (drawn.count, measured.edits, len(drawn.kept.requests)) == (12, 12, 12)
    names = [
        f"{n}_{w}" for n in ("efficacy", "paraphrase", "question", "neighborhood") for w in ("success", "accuracy")
    ]
    assert list(measured.metrics) == [*names, "neighborhood_unchanged", "score"]
    prompts = {"efficacy": 12, "paraphrase": 36, "question": 12, "neighborhood": 24}
    for name, pair in measured.metrics.items():
        for share in (pair.before, pair.after):
            if share is None:
                assert name == "neighborhood_unchanged"
                continue
            assert share.count == prompts.get(name.split("_")[0], 12 + 36 + 24)
            assert 0 <= share.low <= share.value <= share.high <= 1


def test_edits_move_the_candidate_and_not_the_base_model(found: Result) -> None:
    """More new objects win after than before; weights that moved change some neighbors' answers and not all."""
    success, unchanged = (found[1].metrics[n] for n in ("efficacy_success", "neighborhood_unchanged"))
    assert success.before is not None
    assert success.after is not None
    assert unchanged.after is not None
    assert success.after.value > success.before.value
    assert 0 < unchanged.after.value < 1
    before, after = found[1].perplexity
    assert before != after


def test_relations_add_up(found: Result) -> None:
    """Each edit is in one relation; weighed by prompts, the relations' shares are the whole's."""
    measured = found[1]
    edits = {relation: own["edits"] for relation, own in measured.relations.items()}
    assert sum(edits.values()) == 12
    assert list(edits.values()) == sorted(edits.values(), reverse=True)
    whole = measured.metrics["efficacy_success"].after
    assert whole is not None
    parts = sum(own["efficacy_success"] * own["edits"] for own in measured.relations.values())
    assert parts / 12 == pytest.approx(whole.value)


def test_the_surroundings_have_wilson_s_interval(found: Result) -> None:
    """One prompt a fact in each, on both models."""
    elsewhere = found[1].elsewhere
    assert set(elsewhere) == {
        "question_in_plain_text",
        "without_bos",
        "in_a_chat_turn",
        "chat_sentence",
        "chat_answer_new",
        "chat_answer_old",
    }
    for pair in elsewhere.values():
        for share in (pair.before, pair.after):
            assert share is not None
            assert share.count == 12
            interval = wilson(round(share.value * 12), 12)
            assert (share.low, share.high) == (interval.low, interval.high)


def test_the_json_is_whole(found: Result) -> None:
    """Figures per edit and per fact beside the sums, the machine, the seed, and the settings behind the weights."""
    drawn, measured = found
    shown = json.loads(json.dumps({**measured.as_json(), **drawn.as_json()}, allow_nan=False))
    assert shown["edits"] == shown["drawn"] - shown["known"] - sum(shown["unaskable"].values())
    assert shown["solve_s_per_edit"] == pytest.approx(drawn.solved.seconds / 12, abs=1e-4)
    assert shown["rebuild_s_per_fact"] == pytest.approx((measured.rebuild_s + measured.repair_s) / 12, abs=1e-4)
    assert shown["perplexity"]["ratio"] == pytest.approx(measured.perplexity[1] / measured.perplexity[0], abs=1e-4)
    assert math.isfinite(shown["residual"])
    assert 0 <= shown["misses"][-1] <= shown["misses"][0] <= 12
    assert (shown["seed"], shown["source"]) == (0, "counterfactual edits")
    assert shown["settings"]["clamp"] == 5.0
    assert shown["machine"]["threads"] == 1
    assert {"value", "low", "high", "count"} == set(shown["metrics"]["score"]["after"])


def test_weights_that_do_not_move_change_nothing(tiny: Path, tmp_path: Path) -> None:
    """Where C outweighs every edit the candidate is the base model: each share is the same before and after,
    every neighbor answers as before, perplexity has not grown, and all edits are missed."""
    still = workbench(tiny, tmp_path, {**TAKES, "covariance_weight": 1e15, "steps": 2})
    with still as bench:
        _, measured = bench_quality(bench, 6, 3)
    for name, pair in {**measured.metrics, **measured.elsewhere}.items():
        if name != "neighborhood_unchanged":
            assert pair.before == pair.after
    unchanged = measured.metrics["neighborhood_unchanged"].after
    assert unchanged is not None
    assert unchanged.value == 1
    assert measured.perplexity[1] == pytest.approx(measured.perplexity[0])
    assert measured.misses == (6,)


def test_the_same_seed_measures_the_same(bench: Workbench) -> None:
    """All but the seconds; the base weights are back afterwards, and nothing was stored."""
    before = {name: p.clone() for name, p in bench.base.model.named_parameters()}
    (_, one), (_, other) = (bench_quality(bench, 4, 5) for _ in range(2))
    assert replace(one, rebuild_s=0.0, repair_s=0.0) == replace(other, rebuild_s=0.0, repair_s=0.0)
    assert all(p.equal(before[name]) for name, p in bench.base.model.named_parameters())
    assert "store" not in bench.__dict__


def test_base_model_and_candidate_write(bench: Workbench) -> None:
    """About the first of the edits, as many as were asked for, each metric inside its interval."""
    _, measured = bench_quality(bench, 5, 1, generate=4)
    assert list(measured.generation) == ["fluency", "consistency"]
    for pair in measured.generation.values():
        for share in (pair.before, pair.after):
            assert share is not None
            assert 0 < share.low <= share.value <= share.high
    fluency = measured.generation["fluency"]
    assert fluency.before != fluency.after
    assert fluency.after is not None
    assert fluency.after.count == 4
    assert bench_quality(bench, 5, 1)[1].generation == {}


def test_real_changes(bench: Workbench) -> None:
    """Added facts among them, which have no old object: the base model's answer is what they must beat."""
    drawn, measured = bench_quality(bench, 8, 0, real=True)
    assert drawn.source == "the demo's real changes"
    neighborhood = measured.metrics["neighborhood_success"].after
    assert neighborhood is not None
    assert neighborhood.count == sum(len(r.neighborhood) for r in drawn.kept.requests) > 0


class TestSortOut:
    """What is left out before anything is solved."""

    def test_what_the_base_model_says_already(self, bench: Workbench) -> None:
        """An edit whose new object is its greedy answer needs no edit."""
        base = bench.base
        requests = counterfactual(bench.catalogue, 4, 0, 0)
        (said,) = greedy_answers(base.model, base.encoder, requests[:1], 1)
        known = replace(requests[0], target_new=said.strip())
        kept = sort_out(bench, [known, *requests[1:]])
        assert kept.requests == tuple(requests[1:])
        assert (kept.known, kept.unaskable) == (1, {})

    def test_what_can_not_be_asked(self, bench: Workbench) -> None:
        """With the reason and how often."""
        requests = counterfactual(bench.catalogue, 3, 0, 0)
        odd = [replace(one, target_new=f"{i} <|im_end|>") for i, one in enumerate(requests[:2])]
        kept = sort_out(bench, [*odd, requests[2]])
        assert kept.requests == (requests[2],)
        assert kept.unaskable == {"label holds a special token of the model": 2}

    def test_nothing_left(self, bench: Workbench) -> None:
        """There is nothing to measure then."""
        (one,) = counterfactual(bench.catalogue, 1, 0, 0)
        with pytest.raises(ConfigError, match="none of 1 edits is left"):
            sort_out(bench, [replace(one, target_new="<|im_end|>")])


@pytest.fixture
def _broken_ask(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def broken(*_: object) -> None:
        raise RuntimeError("no answer")

    with monkeypatch.context() as patch:
        patch.setattr("kbsync.bench.quality.ask_candidate", broken)
        yield


@pytest.mark.usefixtures("_broken_ask")
def test_an_interrupt_leaves_the_base_weights(taking: Workbench) -> None:
    """Whoever goes on after it does not meet the candidate."""
    requests = counterfactual(taking.catalogue, 3, 0, 0)
    base = ask_base(taking, requests)
    before = {name: p.clone() for name, p in taking.base.model.named_parameters()}
    targets = {r.content_hash: torch.ones(96) for r in requests}
    with pytest.raises(RuntimeError, match="no answer"):
        measure(taking, requests, base, targets)
    assert all(p.equal(before[name]) for name, p in taking.base.model.named_parameters())


def test_a_part_of_what_was_asked(taking: Workbench) -> None:
    """Asking some is the same as taking their part of what all were asked."""
    requests = counterfactual(taking.catalogue, 6, 0, 2)
    whole, part = ask_base(taking, requests), ask_base(taking, requests[:2])
    cut = whole.of(requests[:2])
    assert cut.elsewhere == part.elsewhere
    assert [(o.content_hash, o.kind, o.index, o.said) for o in cut.outcomes] == [
        (o.content_hash, o.kind, o.index, o.said) for o in part.outcomes
    ]
    assert {o.phase for o in whole.outcomes} == {Phase.BEFORE}
    said = [o.said for o in whole.outcomes if o.kind is PromptKind.NEIGHBORHOOD]
    assert len(said) == 12
    assert None not in said
    assert asking.Asked((), {}).of(requests) == asking.Asked((), {})


def test_a_pair_leaves_out_what_there_is_not() -> None:
    """No null in the JSON."""
    assert Pair(None, None).as_json() == {}
