"""Masks, positions and logits in the form that each model takes."""

from __future__ import annotations

import pytest
import torch

from kbsync.lm.batch import align
from kbsync.lm.reader import Head, Reader
from tests.tiny import FAMILIES, tiny_model

CPU = torch.device("cpu")
ROWS = [[5, 6, 7], [5, 6, 8, 9]]


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_the_models_own(family: str) -> None:
    """Scaled and capped as the model does it, in any shape, with none for no states."""
    model = tiny_model(family, layers=2)
    ids = torch.tensor([[5, 6, 7, 8]])
    hidden, expected = model.base_model(ids).last_hidden_state, model(ids).logits
    head = Head(model)
    assert torch.allclose(head(hidden), expected, rtol=1e-5, atol=1e-5)
    assert torch.allclose(head(hidden[0, 2]), expected[0, 2], rtol=1e-5, atol=1e-4)
    assert head(hidden[0, :0]).shape == (0, 400)
    assert torch.equal(model(ids).logits, expected), "the model itself is as it was"


def test_a_projection_can_be_put_in() -> None:
    """A copy of the head in another type is used, and the cap still stands behind it."""
    model = tiny_model("gemma2", layers=2)
    own = model.get_output_embeddings()
    double = torch.nn.Linear(own.in_features, own.out_features, bias=False)
    double.weight = torch.nn.Parameter(1000 * own.weight)
    logits = Head(model, double)(torch.ones(1, 32)).detach()
    assert float(logits.abs().max()) <= model.config.final_logit_softcapping
    assert not torch.equal(logits, Head(model)(torch.ones(1, 32)))


@pytest.mark.parametrize("family", ["bloom", "mpt", "falcon alibi", "gpt_neo"])
def test_where_columns_count_rows_stand_alone(family: str) -> None:
    """No tokens are shared, and the mask says only what is padding."""
    reader = Reader(tiny_model(family, layers=2))
    (grove,) = reader.plant(ROWS, CPU)
    assert grove.ids.tolist() == [[5, 6, 8, 9], [5, 6, 7, 0]]
    mask = reader.inputs(grove, 0, 4, torch.float32)["attention_mask"]
    assert mask.tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]


@pytest.mark.parametrize("family", ["llama", "falcon", "opt"])
def test_where_positions_count_rows_share_tokens(family: str) -> None:
    """Two rows with one beginning are one sequence."""
    reader = Reader(tiny_model(family, layers=2))
    (grove,) = reader.plant(ROWS, CPU)
    assert grove.ids.numel() == 5
    given = reader.inputs(grove, 0, 5, torch.float32)
    assert given["attention_mask"].shape == (1, 1, 5, 5)
    assert given["position_ids"].tolist() == [[0, 1, 2, 2, 3]]


def test_layers_of_two_kinds_get_a_mask_each() -> None:
    """The sliding one ends where the window does; the full one does not."""
    reader = Reader(tiny_model("gemma3_text", layers=2))
    batch = align([list(range(1, 11))], [3], CPU)
    masks = reader.inputs(batch, 0, 10, torch.float32)["attention_mask"]
    assert int((masks["full_attention"][0, 0, 9] == 0).sum()) == 10
    assert int((masks["sliding_attention"][0, 0, 9] == 0).sum()) == 6


def test_a_window_counts_positions_not_columns() -> None:
    """In a tree, a branch that stands far behind its parent still sees it."""
    reader = Reader(tiny_model("mistral", layers=2))
    rows = [[1, 2, *range(10, 20)], [1, 2, 50]]
    (grove,) = reader.plant(rows, CPU)
    mask = reader.inputs(grove, 0, grove.ids.shape[1], torch.float32)["attention_mask"][0, 0] == 0
    assert mask[grove.places[1][-1]].nonzero()[:, 0].tolist() == list(grove.places[1])
    assert mask[grove.places[0][-1]].nonzero()[:, 0].tolist() == list(grove.places[0][-6:])


def test_a_window_that_is_switched_off_is_none() -> None:
    """Qwen names a window that it does not use."""
    model = tiny_model("qwen2", layers=2)
    model.config.layer_types = ["full_attention", "full_attention"]
    batch = align([list(range(1, 11))], [3], CPU)
    mask = Reader(model).inputs(batch, 0, 10, torch.float32)["attention_mask"]
    assert int((mask[0, 0, 9] == 0).sum()) == 10
