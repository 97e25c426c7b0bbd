"""The rebuild: the paper's update in every family, and a pure function of the live set."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from kbsync.edit import update
from kbsync.edit.adapters import Adapter
from kbsync.edit.keys import mean_keys
from kbsync.edit.memit import Editor
from kbsync.edit.others import Others
from kbsync.edit.repair import Repair
from kbsync.edit.solve import Solution
from kbsync.errors import EditError, NotFinite
from kbsync.facts import EditRequest, Prompt
from kbsync.lm.rows import Row
from tests.edit import plain_memit
from tests.edit.setups import (
    ALL,
    EASY,
    ENCODER,
    LAYERS,
    NO_BOS,
    ONE,
    WATCHED,
    covariance,
    editor,
    halfway,
    hidden_at,
    same,
    some_z,
)
from tests.tiny import FAMILIES, FIRST, easy_requests, request, requests, some_requests, tiny_model


def weights(made: Editor) -> list[Tensor]:
    """All weights of the model, copied."""
    return [p.detach().clone() for p in made.adapter.model.parameters()]


@pytest.mark.parametrize("family", FAMILIES)
class TestAgainstThePaper:
    """The editor's update and the plain one."""

    def test_the_weights_are_those_of_algorithm_1(self, family: str) -> None:
        """Serial, whole prompts, inverse: the same numbers to 1e-6. (With λ = 0.1 the update is larger than the
        weights themselves, and float32's rounding of the hidden states grows with it.)"""
        live = some_requests(family)
        for weight, near in [(0.1, 5e-6), (10.0, 1e-6), (1500.0, 1e-6)] if family in FIRST else [(1.0, 5e-6)]:
            made = editor(family, covariance_weight=weight)
            targets = some_z(made, live)
            plain = tiny_model(family, layers=6)
            rebuilt = made.rebuild(live, targets)
            rows = [ALL.key_rows(ENCODER, one) for one in live]
            z = [targets[one.content_hash] for one in live]
            plain_memit.update(plain, rows, z, LAYERS, covariance(made.adapter.d_in).matrices, weight)
            base = tiny_model(family, layers=6)
            for layer in LAYERS:
                expected = plain_memit.down_of(plain, layer).weight
                found = made.adapter.parameter(layer)
                assert not torch.equal(found, plain_memit.down_of(base, layer).weight)
                assert float((found - expected).abs().max()) < near * max(1.0, float(expected.abs().max()))
                assert torch.equal(rebuilt.tensors[made.adapter.weight_name(layer)], found)

    def test_the_weight_grows_with_the_live_set(self, family: str) -> None:
        """Beyond `covariance_facts` facts λ is in proportion to them; up to there, and with "off", it is fixed."""
        live = some_requests(family)
        assert len(live) > 1

        def weights_with(**settings: object) -> dict[str, Tensor]:
            made = editor(family, **settings)
            return dict(made.rebuild(live, some_z(made, live)).tensors)

        fixed = weights_with(covariance_weight=10.0, covariance_facts="off")
        larger = weights_with(covariance_weight=10.0 * len(live), covariance_facts="off")
        grown = weights_with(covariance_weight=10.0, covariance_facts=1)
        full = weights_with(covariance_weight=10.0, covariance_facts=len(live))
        for name, tensor in fixed.items():
            assert torch.equal(grown[name], larger[name])
            assert torch.equal(full[name], tensor)
            assert not torch.equal(grown[name], tensor)

    @pytest.mark.parametrize("encoder", [ENCODER, NO_BOS], ids=["bos", "no bos"])
    def test_with_a_tiny_weight_the_hidden_state_reaches_z(self, family: str, encoder: object) -> None:
        """The output of the last critical layer, at the subject's last token, moves by the residual; behind a
        norm it does so nearly, after a few passes."""
        made = editor(family, encoder=encoder, contexts=ONE, covariance_weight=1e-7)
        for one in some_requests(family):
            targets = some_z(made, [one])
            rebuilt = made.rebuild([one], targets)
            row = ONE.rows(encoder, one)[0]
            now = hidden_at(made, row.ids, 3, row.subject_last)
            made.restore()
            before = hidden_at(made, row.ids, 3, row.subject_last)
            z = targets[one.content_hash]
            near = 1e-3 if made.adapter.exact else 0.02
            assert float((now - z).norm()) < near * float((z - before).norm())
            assert rebuilt.residual < (1e-4 if made.adapter.exact else 2e-3)

    def test_each_layer_carries_its_share(self, family: str) -> None:
        """Of the residual, the first of three layers takes a third, if what follows is left alone."""
        made = editor(family, contexts=ONE, layers=(3,), covariance_weight=1e-7)
        one = requests()[0]
        row = ONE.rows(ENCODER, one)[0]
        before = hidden_at(made, row.ids, 3, row.subject_last)
        k = plain_memit.key(made.adapter.model, row, 3).double()
        base = made.adapter.read_weight(3).double().clone()
        targets = some_z(made, [one])
        z = targets[one.content_hash]
        if not made.adapter.exact:  # so near that one pass is enough
            z = targets[one.content_hash] = before + 0.01 * (z - before)
        made.rebuild([one], targets)
        moved = (made.adapter.read_weight(3).double() - base) @ k
        asked, _ = plain_memit.through(tiny_model(family, layers=6), row, 3, (z - before).double().numpy())
        torch.testing.assert_close(moved.float(), torch.tensor(asked).float(), rtol=1e-3, atol=1e-3)

    def test_only_the_critical_layers_change(self, family: str) -> None:
        """Every other weight of the model keeps its bits."""
        made = editor(family)
        before = dict(zip((n for n, _ in made.adapter.model.named_parameters()), weights(made), strict=True))
        rebuilt = made.rebuild(some_requests(family), some_z(made, some_requests(family)))
        changed = {n for n, p in made.adapter.model.named_parameters() if not torch.equal(p, before[n])}
        assert changed == set(rebuilt.tensors) == {made.adapter.weight_name(layer) for layer in LAYERS}


class TestPureFunction:
    """The weights depend on base, settings and live set alone."""

    @pytest.mark.parametrize("seed", range(3))
    def test_the_order_of_the_live_set_does_not_matter(self, seed: int) -> None:
        """Bit-identical weights, and in float64, where a sum taken in another order would show."""
        made = editor(contexts=ONE, dtype=torch.float64)
        live = requests()
        generator = torch.Generator().manual_seed(seed)
        targets = {one.content_hash: 5 * torch.randn(32, generator=generator) for one in live}
        first = made.rebuild(live, targets)
        random.Random(seed).shuffle(live)
        assert same(made.rebuild(live, targets), first)

    def test_nor_does_it_for_repair(self) -> None:
        """What is missed is solved again in the same batches."""
        made = editor(**EASY, repair_rounds=2, batch_size=2)
        live = easy_requests(8)
        targets = halfway(made, live)
        first = made.rebuild(live, targets)
        assert len(first.misses) > 1
        assert same(made.rebuild(live[::-1], targets), first)

    def test_nothing_accumulates(self) -> None:
        """The same live set after another one gives the same bits."""
        made = editor()
        targets = some_z(made, requests())
        first = made.rebuild(requests()[:3], targets)
        made.rebuild(requests(), targets)
        assert same(made.rebuild(requests()[:3], targets), first)

    def test_a_removed_fact_was_never_there(self) -> None:
        """Another process that never heard of it has the same weights."""
        made, other = editor(), editor()
        targets = some_z(made, requests())
        made.rebuild(requests(), targets)
        rest = requests()[1:]
        only = {one.content_hash: targets[one.content_hash] for one in rest}
        assert same(made.rebuild(rest, targets), other.rebuild(rest, only))

    def test_an_empty_live_set_is_the_base(self) -> None:
        """Every fact retired leaves the base weights, bit for bit."""
        made = editor()
        before = weights(made)
        made.rebuild(requests(), some_z(made, requests()))
        empty = made.rebuild([], {})
        assert all(torch.equal(a, b) for a, b in zip(weights(made), before, strict=True))
        assert (empty.misses, empty.residual) == ((), 0.0)
        assert set(empty.tensors) == {made.adapter.weight_name(layer) for layer in LAYERS}

    def test_restore_puts_the_base_back(self) -> None:
        """Exactly."""
        made = editor()
        before = weights(made)
        made.rebuild(requests(), some_z(made, requests()))
        made.restore()
        assert all(torch.equal(a, b) for a, b in zip(weights(made), before, strict=True))

    def test_load_brings_a_candidate_back(self) -> None:
        """The stored tensors are all that a candidate is."""
        made = editor("gpt2")
        rebuilt = made.rebuild(requests(), some_z(made, requests()))
        candidate = weights(made)
        made.restore()
        made.load(rebuilt.tensors)
        assert all(torch.equal(a, b) for a, b in zip(weights(made), candidate, strict=True))

    def test_load_refuses_other_weights(self) -> None:
        """A name that is not edited is an error, not ignored."""
        made = editor()
        with pytest.raises(EditError, match=r"^lm_head\.weight is not one of the edited weights"):
            made.load({"lm_head.weight": torch.zeros(1)})


class TestRefused:
    """What is no live set."""

    def test_contradictions_by_name(self) -> None:
        """One prompt can't end with two objects."""
        made = editor()
        live = [request("France", "Paris"), request("France", "Tokyo", number=2)]
        with pytest.raises(EditError, match=r"'The capital of France is' .*'(Paris|Tokyo)' and '(Paris|Tokyo)'"):
            made.rebuild(live, some_z(made, live))

    def test_a_missing_z_by_name(self) -> None:
        """Nothing is left out in silence."""
        made = editor()
        targets = some_z(made, requests()[1:])
        before = weights(made)
        with pytest.raises(EditError, match="no z for 'The capital of France is'"):
            made.rebuild(requests(), targets)
        assert all(torch.equal(a, b) for a, b in zip(weights(made), before, strict=True))

    def test_the_same_fact_twice_is_no_contradiction(self) -> None:
        """Two requests may say the same."""
        made = editor()
        live = [requests()[0], requests()[0]]
        assert made.rebuild(live, some_z(made, live)).residual < 0.5

    def test_a_z_that_is_not_finite(self) -> None:
        """It never gets into the weights: the base is put back."""
        made = editor()
        before = weights(made)
        targets = some_z(made, requests())
        targets[requests()[2].content_hash][0] = float("nan")
        with pytest.raises(
            EditError, match="z of 'The capital of Japan is' is not finite; it must be solved again"
        ):
            made.rebuild(requests(), targets)
        assert all(torch.equal(a, b) for a, b in zip(weights(made), before, strict=True))

    @pytest.mark.parametrize(("dtype", "size"), [(torch.float32, 1e39), (torch.float16, 7e4)])
    def test_weights_beyond_their_type(self, dtype: torch.dtype, size: float) -> None:
        """Numbers that float64 has and the weight's own type has not: the tensor and the type are named, and the
        weight stays what it was."""
        made = editor()
        made.adapter.model.to(dtype)
        before = weights(made)
        layer = made.layers[0]
        name, delta = made.adapter.weight_name(layer), torch.zeros(32, 64, dtype=torch.float64)
        delta[1, 2] = -size
        with pytest.raises(
            NotFinite, match=f"^{name} overflows {str(dtype)[6:]}: {re.escape(f'{size:.3g}')} is beyond it"
        ):
            update.add(made.adapter, layer, delta)
        delta[1, 2] = float("nan")
        with pytest.raises(NotFinite, match=f"^{name} holds 1 NaN and 0 infinite of 2048 numbers after its solve"):
            update.add(made.adapter, layer, delta)
        assert all(torch.equal(a, b) for a, b in zip(weights(made), before, strict=True))

    @pytest.mark.parametrize("layer", [0, 1])
    @pytest.mark.parametrize("late", [False, True])
    def test_an_update_that_is_not_finite(self, monkeypatch: pytest.MonkeyPatch, layer: int, late: bool) -> None:
        """Of whichever layer, in the solve or in a round of repair: that layer is named before the next one builds
        upon it, and the base is put back."""
        made = editor(repair_rounds=1)
        before, real = weights(made), update.solution
        seen: list[Solution] = []

        def solved(*words: Any, **named: Any) -> Solution:
            found = real(*words, **named)
            seen.append(found)
            bad = len(seen) == 1 + layer + late * len(made.layers)
            return replace(found, delta=found.delta / 0) if bad else found

        monkeypatch.setattr(update, "solution", solved)
        if late:
            monkeypatch.setattr(Repair, "missed", lambda _: [0])
        name = made.adapter.weight_name(made.layers[layer])
        with pytest.raises(NotFinite, match=f"^{name} holds .* after its solve"):
            made.rebuild(requests(), some_z(made, requests()))
        assert len(seen) == 1 + layer + late * len(made.layers)
        assert all(torch.equal(a, b) for a, b in zip(weights(made), before, strict=True))

    def test_how_each_solve_was_posed(self) -> None:
        """Every critical layer has its condition number and what the solve left, of the first update."""
        made = editor(repair_rounds=2)
        found = made.rebuild(requests(), some_z(made, requests())).conditioning
        assert tuple(found) == made.layers
        assert all(one.condition > 1 and one.residual < 1e-9 for one in found.values())

    def test_an_interrupt_leaves_the_base(self) -> None:
        """Whoever goes on after it does not meet half an update."""
        made = editor()
        before = weights(made)

        def interrupt(step: str) -> None:
            if step == "solve":
                made.adapter.write_weight(1, torch.zeros(32, 64))
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            made.rebuild(requests(), some_z(made, requests()), interrupt)
        assert all(torch.equal(a, b) for a, b in zip(weights(made), before, strict=True))


@pytest.mark.parametrize("number", [1, 3, 6])
def test_the_residual_is_what_is_left_of_z(number: int) -> None:
    """Mean of ‖z − h‖/‖z‖ at the last critical layer, measured on the edited model."""
    made = editor(covariance_weight=20.0)
    live = requests()[:number]
    targets = some_z(made, live)
    rebuilt = made.rebuild(live, targets)
    left = []
    for one in live:
        row, z = ALL.rows(ENCODER, one)[0], targets[one.content_hash]
        left.append(float((z - hidden_at(made, row.ids, 3, row.subject_last)).norm() / z.norm()))
    assert rebuilt.residual == pytest.approx(sum(left) / number, rel=1e-4)
    assert rebuilt.residual > 0.01


def test_bystanders_are_left_alone() -> None:
    """With their weight, the other tokens of the prompts move less than without."""
    moved = []
    for weight in (0.0, 100.0):
        made = editor(bystander_weight=weight)
        live, read = requests(), _others(made)
        before = read(live)
        made.rebuild(live, some_z(made, live))
        moved.append(float((read(live) - before).norm()))
    assert moved[1] < moved[0] / 2


def _others(made: Editor) -> Callable[[list[EditRequest]], Tensor]:
    """Hidden states after the last critical layer, in front of each subject's last token."""

    def read(live: list[EditRequest]) -> Tensor:
        rows = [ALL.rows(ENCODER, one)[0] for one in live]
        return torch.cat([hidden_at(made, row.ids, 3, slice(0, row.subject_last)).flatten() for row in rows])

    return read


class TestTheMeanKey:
    """What other subjects' keys have in common is held beside C."""

    @pytest.mark.parametrize("family", FIRST)
    def test_it_is_added_with_the_weight_of_c(self, family: str) -> None:
        """λ times the outer product of the mean, over all subjects in the words of a live request."""
        live = requests()
        rows = [WATCHED.plain_rows(ENCODER, one) for one in live]
        found, without = (
            editor(family, WATCHED, mean_weight=weight, covariance_weight=3.0)._preserved(live, rows)
            for weight in (0.5, 0.0)
        )
        model = tiny_model(family, layers=6)
        names = [Prompt.fill("The capital of {} is", name) for name in ("Peru", "Great Britain")]
        for layer in LAYERS:
            keys = [plain_memit.key(model, ENCODER.plain(name), layer) for name in names]
            mean = torch.stack(keys).double().mean(0)
            expected = 1.5 * torch.outer(mean, mean)
            torch.testing.assert_close(found[layer] - without[layer], expected, rtol=1e-4, atol=1e-6)

    def test_it_is_the_same_without_other_subjects(self) -> None:
        """No sentences in these words, or no weight: MEMIT's own solve, bit for bit."""
        live = requests()[3:]
        made = [editor(), editor(contexts=WATCHED), editor(contexts=WATCHED, mean_weight=0.0)]
        built = [one.rebuild(live, some_z(one, live)) for one in made]
        assert same(built[0], built[1])
        assert same(built[0], built[2])

    def test_an_update_leaves_it_alone(self) -> None:
        """What it does to the mean key of the first layer vanishes as its weight grows."""
        moved = []
        model = tiny_model("llama", layers=6)
        names = [Prompt.fill("The capital of {} is", name) for name in ("Peru", "Great Britain")]
        mean = torch.stack([plain_memit.key(model, ENCODER.plain(name), LAYERS[0]) for name in names]).mean(0)
        for weight in (0.0, 1e4):
            made = editor(contexts=WATCHED, mean_weight=weight, covariance_weight=0.1)
            made.rebuild(requests()[:3], some_z(made, requests()[:3]))
            delta = made.adapter.read_weight(LAYERS[0]) - made.base_weight(LAYERS[0])
            moved.append(float((delta @ mean).norm()))
        assert moved[1] < 0.01 * moved[0]

    def test_many_are_not_all_read(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Some of them, from all over, are enough for a mean."""
        seen: list[int] = []

        def watched(adapter: Adapter, rows: list[Row], layers: tuple[int, ...]) -> dict[int, Tensor]:
            seen.append(len(rows))
            return mean_keys(adapter, rows, layers)

        monkeypatch.setattr("kbsync.edit.memit.mean_keys", watched)
        said = [f"The capital of France {i} is Rome." for i in range(400)]
        made = editor(contexts=replace(ALL, others=Others(said)))
        made.rebuild(requests()[:1], some_z(made, requests()[:1]))
        assert seen == [256]
