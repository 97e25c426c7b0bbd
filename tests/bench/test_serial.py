"""The serial method that ours is measured beside: the paper's, and nothing worse."""

from __future__ import annotations

import pytest
import torch

from kbsync.bench import serial
from kbsync.edit.contexts import Contexts
from kbsync.errors import ModelError
from tests.edit import plain_memit
from tests.edit.setups import ENCODER, LAYERS, editor
from tests.tiny import requests

FAMILIES = ("llama", "gpt2", "gptj", "gpt_neox", "bloom", "granite")
CONTEXTS = Contexts(("Because I said so. ", "Therefore. "))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_target_makes_the_object_likelier_within_the_clamp(family: str) -> None:
    """z is h + δ with ‖δ‖ ≤ 0.75 ‖h‖, and lowers the mean NLL over the contexts."""
    made = editor(family)
    model, request = made.adapter.model, requests()[0]
    rows = CONTEXTS.rows(ENCODER, request)
    z, steps = serial._solve(made.adapter, ENCODER, CONTEXTS, request, 3)
    h = plain_memit.forward(model, rows[0].ids, 3, rows[0].subject_last)[1]
    assert 1 < steps <= serial.STEPS
    assert 0 < float((z - h).norm()) <= serial.CLAMP * float(h.norm()) * (1 + 1e-5)
    with torch.no_grad():
        before, after = (plain_memit.nll_of(model, rows, 3, delta) for delta in (None, z - h))
    assert after < before - 0.05


@pytest.mark.parametrize("family", FAMILIES)
def test_the_update_is_algorithm_1(family: str) -> None:
    """The same weights as the plain loop of the tests, which shares no code with it."""
    one, other = editor(family), editor(family)
    rows = [CONTEXTS.rows(ENCODER, request) for request in requests()[:3]]
    generator = torch.Generator().manual_seed(3)
    z = [torch.randn(32, generator=generator) for _ in rows]
    serial._update(one, rows, z, 0.01)
    plain_memit.update(other.adapter.model, rows, z, LAYERS, other.covariance.matrices, 0.01)
    for layer in LAYERS:
        mine, its = one.adapter.read_weight(layer), other.adapter.read_weight(layer)
        torch.testing.assert_close(mine, its, rtol=1e-4, atol=1e-5)


def test_it_counts_what_it_took() -> None:
    """Seconds of both parts, and the candidate left in the model."""
    made = editor()
    base = {name: p.clone() for name, p in made.adapter.model.named_parameters()}
    found = serial.run_serial(made, requests()[:2], 0.01, seed=1)
    assert found.edits == 2
    assert found.per_edit == pytest.approx((found.solve_s + found.update_s) / 2)
    assert min(found.solve_s, found.update_s) > 0
    changed = {name for name, p in made.adapter.model.named_parameters() if not p.equal(base[name])}
    assert changed == {made.adapter.weight_name(layer) for layer in LAYERS}


def test_a_norm_behind_the_down_projection_is_refused() -> None:
    """By name, before anything is solved."""
    with pytest.raises(ModelError, match="gemma2 has a norm behind its down-projection"):
        serial.run_serial(editor("gemma2"), requests()[:1], 0.01, seed=1)
