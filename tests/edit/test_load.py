"""What a live set takes of the edited layers, against the definitions computed naively."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kbsync.edit.load import drift, load_of, room, taken_by
from kbsync.edit.solve import solution
from kbsync.errors import EditError
from tests.edit.setups import editor, some_z
from tests.tiny import requests


def problem(d_in: int, n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Random K (d_in, n), and a C of full rank whose eigenvalues lie far apart."""
    generator = torch.Generator().manual_seed(seed)
    K = torch.randn(d_in, n, generator=generator, dtype=torch.float64)
    X = torch.randn(d_in, 3 * d_in, generator=generator, dtype=torch.float64)
    X *= torch.logspace(-2, 1, d_in, dtype=torch.float64)[:, None]
    return K, X @ X.T / X.shape[1]


class TestDirections:
    """tr Kᵀ(λC + KKᵀ)⁻¹K, on both sides of n = d_in."""

    @settings(max_examples=60, deadline=None)
    @given(
        d_in=st.integers(1, 20), n=st.integers(0, 30), weight=st.sampled_from([0.01, 1.0, 1500.0]),
        seed=st.integers(0, 10_000),
    )  # fmt: skip
    def test_they_are_the_trace_as_it_is_written(self, d_in: int, n: int, weight: float, seed: int) -> None:
        """And lie between none and as many as there are keys or dimensions."""
        K, C = problem(d_in, n, seed)
        found = solution(torch.zeros(2, n), K, C, weight).directions
        k, c = K.numpy(), C.numpy()
        expected = np.trace(k.T @ np.linalg.inv(weight * c + k @ k.T) @ k)
        assert found == pytest.approx(expected, rel=1e-6, abs=1e-7)
        assert -1e-9 <= found <= min(n, d_in) + 1e-9

    @pytest.mark.parametrize("n", [5, 20])
    def test_they_grow_with_the_live_set(self, n: int) -> None:
        """Another key takes more, and never takes from another one."""
        K, C = problem(12, n + 1, 4)
        less = solution(torch.zeros(2, n), K[:, :n], C, 1.0).directions
        assert solution(torch.zeros(2, n + 1), K, C, 1.0).directions > less

    def test_a_key_twice_takes_little_more(self) -> None:
        """Two keys in one direction take at most that one."""
        K, C = problem(12, 1, 4)
        once = solution(torch.zeros(2, 1), K, C, 1e-3).directions
        twice = solution(torch.zeros(2, 2), K.expand(12, 2), C, 1e-3).directions
        assert once == pytest.approx(1, abs=0.02)
        assert once < twice < 1 + 1e-6


class TestRoom:
    """Directions that C leaves to keys of a given energy."""

    @settings(max_examples=60, deadline=None)
    @given(
        d_in=st.integers(1, 20), weight=st.floats(0.01, 1e4), energy=st.floats(0.01, 1e3), seed=st.integers(0, 99)
    )
    def test_it_is_the_sum_over_the_spectrum(self, d_in: int, weight: float, energy: float, seed: int) -> None:
        """Σ κ / (κ + λσ)."""
        _, C = problem(d_in, 1, seed)
        sigma = np.linalg.eigvalsh(C.numpy())
        assert room(C, weight, energy) == pytest.approx((energy / (energy + weight * sigma)).sum(), rel=1e-8)

    def test_as_many_keys_as_dimensions_along_the_spectrum_fill_it(self) -> None:
        """It is what the solve says that such keys take."""
        _, C = problem(12, 1, 8)
        _, along = torch.linalg.eigh(C)
        taken = solution(torch.zeros(2, 12), 3.0 * along, C, 5.0).directions
        assert room(C, 5.0, 9.0) == pytest.approx(taken, rel=1e-9)

    def test_its_ends(self) -> None:
        """All directions where text uses none, hardly any where it uses all, none without keys; C is left alone."""
        C = torch.eye(10, dtype=torch.float64)
        assert room(1e-9 * C, 1.0, 4.0) == pytest.approx(10)
        assert room(C, 1e9, 4.0) < 1e-6
        assert room(C, 1.0, 0.0) == 0
        assert torch.equal(C, torch.eye(10, dtype=torch.float64))

    def test_a_broken_covariance_is_named(self) -> None:
        """Not a number in, no number out."""
        with pytest.raises(EditError, match="λC \\+ κI is not finite"):
            room(torch.full((3, 3), torch.nan), 1.0, 1.0)


class TestDrift:
    """Energy over ordinary text."""

    def test_it_is_the_energy_of_what_was_added(self) -> None:
        """E‖Δk‖² over E‖Wk‖², with k drawn from the text itself."""
        generator = torch.Generator().manual_seed(1)
        k = torch.randn(7, 50, generator=generator, dtype=torch.float64)
        W, D = torch.randn(2, 4, 7, generator=generator, dtype=torch.float64)
        C = k @ k.T / 50
        expected = float((D @ k).square().sum() / (W @ k).square().sum())
        assert drift(W, D, C) == pytest.approx(expected, rel=1e-9)
        assert drift(W, 2 * D, C) == pytest.approx(4 * expected, rel=1e-9)
        assert drift(W, torch.zeros_like(D), C) == 0


class TestLoad:
    """The load of a rebuild."""

    @pytest.mark.parametrize("family", ["llama", "gpt2"])
    def test_it_is_the_mean_over_the_edited_layers(self, family: str) -> None:
        """From the keys that the solve used and from the weights that came out, however they are stored."""
        made = editor(family, covariance_weight=0.5)
        rebuilt = made.rebuild(requests(), some_z(made, requests()))
        found = load_of(made, rebuilt)
        made.restore()
        shares, drifts = [], []
        for layer in made.layers:
            taken, C = rebuilt.taken[layer], made.covariance.matrices[layer]
            shares.append(taken.directions / room(C, 0.5, taken.energy))
            base = made.adapter.read_weight(layer).clone()
            made.load(rebuilt.tensors)
            drifts.append(drift(base, made.adapter.read_weight(layer).double() - base.double(), C))
            made.restore()
        assert found.occupied == pytest.approx(sum(shares) / len(shares))
        assert found.drift == pytest.approx(sum(drifts) / len(drifts), rel=1e-9)
        assert 0 < found.occupied < 1
        assert found.drift > 0

    def test_fewer_facts_take_less(self) -> None:
        """Both numbers grow with the live set, and what is asked of the model after the rebuild changes neither."""
        made = editor(covariance_weight=0.5)
        targets = some_z(made, requests())
        whole = made.rebuild(requests(), targets)
        part = made.rebuild(requests()[:2], targets)
        made.restore()
        assert load_of(made, part).occupied < load_of(made, whole).occupied
        assert load_of(made, part).drift < load_of(made, whole).drift

    def test_repair_does_not_count_keys_again(self) -> None:
        """What is taken is that of the first solve: a round of repair has the same keys."""
        made = editor(covariance_weight=0.5)
        once = made.rebuild(requests(), some_z(made, requests()))
        mending = editor(covariance_weight=0.5, repair_rounds=1, steps=2)
        again = mending.rebuild(requests(), some_z(mending, requests()))
        assert once.misses[0] > 0, "there is something to repair"
        assert again.taken == once.taken

    def test_nothing_taken_by_nothing(self) -> None:
        """No facts, no load."""
        made = editor()
        found = load_of(made, made.rebuild([], {}))
        assert (found.occupied, found.drift) == (0, 0)

    def test_no_keys_no_energy(self) -> None:
        """A mean over nothing is none."""
        assert taken_by(0.0, torch.zeros(4, 0), 0).energy == 0

    def test_a_facts_keys_count_as_one_together(self) -> None:
        """The energy is a mean over facts: three keys of a fact, a third each, are one of their mean length."""
        keys = torch.ones(4, 6) * torch.tensor([1 / 3] * 6).sqrt()
        assert taken_by(2.0, keys, 2).energy == pytest.approx(4)
