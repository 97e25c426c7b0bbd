"""`kbsync tune`: what is tried, on which edits, and what the model holds afterwards."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kbsync.bench import trial
from kbsync.bench import tune as tuning
from kbsync.bench.choice import Point
from kbsync.bench.edits import counterfactual
from kbsync.bench.tune import Space, Tuned, parse_layers, tune
from kbsync.edit.memit import Editor
from kbsync.errors import ConfigError, EditError, ModelError
from kbsync.facts import EditRequest
from kbsync.settings import load_settings
from kbsync.sync.workbench import Workbench
from tests.sync import tiny_model
from tests.sync.world import book

EDITS = 6


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workbench]:
    """A workbench on a tiny model."""
    folder = tmp_path_factory.mktemp("tune")
    model = tiny_model.save(folder / "model", book())
    overrides: dict[str, Any] = {
        "model": {"base": str(model), "cache": folder / "cache", "device": "cpu", "threads": 1},
        "edit": {
            "layers": [0, 1], "steps": 4, "batch_size": 8, "clamp": 1.0, "covariance_weight": 10.0,
            "solve_dtype": "float32", "repair_rounds": 2,
        },
        "covariance": {"tokens": 1000, "chunk_tokens": 32, "facts_share": 0.0},
        "evaluate": {"drift_tokens": 64, "neighbors": 2},
        "store": {"url": f"sqlite:///{folder}/never.db"},
    }  # fmt: skip
    with Workbench(load_settings(None, overrides)) as made:
        yield made


def weights(bench: Workbench) -> dict[str, Any]:
    """Every weight of the model, as it is now."""
    return {name: p.clone() for name, p in bench.base.model.named_parameters()}


def same(before: dict[str, Any], bench: Workbench) -> bool:
    """Whether the model holds these weights."""
    return all(p.equal(before[name]) for name, p in bench.base.model.named_parameters())


class Seen:
    """What a search did: which edits were solved under which settings, and which candidates were built."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.solved: list[tuple[tuple[int, ...], float, tuple[EditRequest, ...]]] = []
        self.built: list[tuple[tuple[int, ...], float, float, int]] = []
        solve, rebuild = trial.solve, Editor.rebuild

        def counted(bench: Workbench, requests: Sequence[EditRequest]) -> trial.Solved:
            self.solved.append((bench.editor.layers, bench.editor.solver.settings.clamp, tuple(requests)))
            return solve(bench, requests)

        def noted(editor: Editor, *args: Any) -> Any:
            own = editor.settings
            self.built.append((editor.layers, own.clamp, own.covariance_weight, own.repair_rounds))
            return rebuild(editor, *args)

        monkeypatch.setattr(trial, "solve", counted)
        monkeypatch.setattr(Editor, "rebuild", noted)


def scripted(monkeypatch: pytest.MonkeyPatch, best: float) -> None:
    """Measure nothing: points are the better, the nearer their λ lies to `best`."""

    def measure(_search: object, _bench: Workbench, point: Point) -> Point:
        far = abs(math.log2(point.covariance_weight / best))
        return replace(point, efficacy_accuracy=1 / (1 + far), perplexity_ratio=1.0)

    monkeypatch.setattr(tuning._Search, "_measure", measure)


def weights_tried(found: Tuned, clamp: float) -> list[float]:
    """The λ of one clamp, in order."""
    return [p.covariance_weight for p in found.points if p.clamp == clamp]


def test_the_search_on_a_real_model(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    """z is solved once per layers and clamp, each point has its own rebuild without repair, and the base weights
    are back at the end."""
    before, seen = weights(bench), Seen(monkeypatch)
    found = tune(bench, EDITS, 0, Space((0.5, 1.0), ((0, 1), (1, 2))))
    assert [(layers, clamp) for layers, clamp, _ in seen.solved] == [
        ((0, 1), 0.5), ((0, 1), 1.0), ((1, 2), 0.5), ((1, 2), 1.0),
    ]  # fmt: skip
    assert len({requests for *_, requests in seen.solved}) == 1
    tried = [(p.layers, p.clamp, p.covariance_weight) for p in found.points]
    assert [(layers, clamp, weight) for layers, clamp, weight, _ in seen.built] == tried
    assert len(set(tried)) == len(tried) >= 16
    assert {rounds for *_, rounds in seen.built} == {0}
    assert same(before, bench)
    assert not Path(bench.settings.store.url.removeprefix("sqlite:///")).exists()
    shown = json.loads(json.dumps(found.as_json()))
    assert shown["edit"] == {
        "layers": list(found.chosen.layers),
        "clamp": found.chosen.clamp,
        "covariance_weight": found.chosen.covariance_weight,
    }
    assert shown["points"][shown["chosen"]]["clamp"] == found.chosen.clamp
    assert [p for p in shown["points"] if p["now"]] == [shown["points"][5]]
    assert all(0 <= p.efficacy_success <= 1 and p.perplexity_ratio > 0 for p in found.points)
    assert len({p.perplexity_ratio for p in found.points}) > 4


def test_the_figures_are_those_of_the_settings(bench: Workbench) -> None:
    """A point has the perplexity that an editor made from scratch with its settings leaves."""
    from kbsync.evaluate.drift import text_perplexity

    found = tune(bench, EDITS, 1, Space((0.5,)))
    point = found.points[0]
    changed = {"clamp": 0.5, "covariance_weight": point.covariance_weight, "repair_rounds": 0}
    fresh = bench.with_editor(bench.editor_of(bench.settings.edit.model_copy(update=changed)))
    targets = trial.solve(fresh, found.kept.requests).targets
    trial.rebuild(fresh, found.kept.requests, targets)
    after = text_perplexity(fresh.base.model, fresh.base.encoder, fresh.settings.evaluate)
    fresh.editor.restore()
    assert point.perplexity_ratio == pytest.approx(after / fresh.base_perplexity(), rel=1e-6)


def test_only_the_config_s_layers_unless_others_are_named(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without layers to try none are chosen, and the clamps are the usual ones with the config's among them."""
    scripted(monkeypatch, 40.0)
    found = tune(bench, EDITS, 0, Space())
    assert {p.layers for p in found.points} == {(0, 1)}
    assert sorted({p.clamp for p in found.points}) == [0.75, 1.0, 1.4]
    assert weights_tried(found, 1.0) == [2.5, 10.0, 40.0, 160.0]
    assert set(found.keys) == {"clamp", "covariance_weight"}
    assert found.chosen.covariance_weight == 40.0
    assert [found.is_now(p) for p in found.points].count(True) == 1


@pytest.mark.parametrize(
    ("best", "tried"),
    [
        (40.0, [2.5, 10.0, 40.0, 160.0]),
        (640.0, [2.5, 10.0, 40.0, 160.0, 640.0, 2560.0]),
        (1e6, [2.5, 10.0, 40.0, 160.0, 640.0, 2560.0]),
        (300.0, [2.5, 10.0, 40.0, 160.0, 640.0]),
        (1e-6, [2.5, 10.0, 40.0, 160.0, 0.625, 0.15625]),
    ],
)
def test_weights_go_on_at_the_edge(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch, best: float, tried: list[float]
) -> None:
    """Where the best λ is the first or the last, the next is tried, twice at most; elsewhere none, and no z is
    solved for it."""
    seen = Seen(monkeypatch)
    scripted(monkeypatch, best)
    assert weights_tried(tune(bench, EDITS, 0, Space((1.0,))), 1.0) == tried
    assert len(seen.solved) == 1


def test_edits_are_held_out(bench: Workbench) -> None:
    """The last of the shuffle and the first, as `bench quality` takes them, have no edit in common; both are the
    same tomorrow, and other seeds draw others."""

    def hashes(count: int, seed: int, last: bool) -> list[str]:
        return [r.content_hash for r in counterfactual(bench.catalogue, count, seed, 0, last=last)]

    tuned_on, measured = hashes(48, 0, True), hashes(2000, 0, False)
    assert len(tuned_on) >= 40
    assert not set(tuned_on) & set(measured)
    assert hashes(24, 0, True) == tuned_on[-24:]
    assert set(hashes(2400, 0, True)) == set(hashes(2400, 0, False))
    assert set(hashes(48, 1, True)) != set(tuned_on)


def test_the_search_takes_the_held_out_edits(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it solves are the last edits of its seed's shuffle, with their neighbors."""
    seen = Seen(monkeypatch)
    scripted(monkeypatch, 10.0)
    tune(bench, EDITS, 3, Space((1.0,)))
    expected = counterfactual(bench.catalogue, EDITS, 3, 2, last=True)
    assert set(seen.solved[0][2]) <= set(expected)
    assert any(request.neighborhood for request in seen.solved[0][2])


def test_an_interrupt_leaves_the_base_model(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while a candidate is being asked: the base weights are back."""
    before = weights(bench)
    asked = tuning._metrics

    def interrupted(here: Workbench, requests: Any, phase: Any) -> Any:
        if phase == "after":
            assert not same(before, bench)
            raise KeyboardInterrupt
        return asked(here, requests, phase)

    monkeypatch.setattr(tuning, "_metrics", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tune(bench, EDITS, 0, Space((1.0,)))
    assert same(before, bench)


def test_a_candidate_that_can_not_be_built(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a point that is not allowed and says why, and the search goes on; if it is every one, that is an
    error."""
    rebuild = Editor.rebuild

    def failing(editor: Editor, *args: Any) -> Any:
        if editor.settings.covariance_weight < least:
            raise EditError("the system is singular")
        return rebuild(editor, *args)

    monkeypatch.setattr(Editor, "rebuild", failing)
    least = 5.0
    found = tune(bench, EDITS, 0, Space((1.0,)))
    first = found.as_json()["points"][0]
    assert first["breaks"] == "the system is singular"
    assert found.chosen.fault is None
    least = math.inf
    with pytest.raises(EditError, match="with any of the settings: the system is singular"):
        tune(bench, EDITS, 0, Space((1.0,)))


def test_layers_in_words() -> None:
    """A range with both ends, or a list in any order."""
    assert parse_layers("4-8") == (4, 5, 6, 7, 8)
    assert parse_layers("3") == (3,)
    assert parse_layers("8,4,4") == (4, 8)


@pytest.mark.parametrize("text", ["", "8-4", "-1", "4-", "a", "4-6-8", "4;5"])
def test_layers_that_are_none(text: str) -> None:
    """Anything else is an error that shows it."""
    with pytest.raises(ConfigError, match=r"--layers: .* is neither a range"):
        parse_layers(text)


def test_bad_input_is_refused_before_anything_is_solved(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers that the model has not, more edits than there are, and a clamp that is no number."""
    seen = Seen(monkeypatch)
    with pytest.raises(ModelError, match="layers 0 to 3"):
        tune(bench, EDITS, 0, Space((1.0,), ((0, 1), (2, 3))))
    with pytest.raises(ConfigError, match="only 2400"):
        tune(bench, 2401, 0, Space((1.0,)))
    with pytest.raises(ConfigError, match="finite"):
        tune(bench, EDITS, 0, Space((math.nan,)))
    assert seen.solved == []
