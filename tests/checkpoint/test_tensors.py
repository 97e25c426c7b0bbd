"""Edits go into a model and come out of it again, bit for bit, or not at all."""

from __future__ import annotations

import pytest
import torch

from kbsync.checkpoint.manifest import TensorEntry
from kbsync.checkpoint.tensors import applied, apply_tensors, entries, tensors_hash
from kbsync.errors import CheckpointError
from tests.checkpoint.models import Tensors, edits_of, gpt2, llama

MODELS = pytest.mark.parametrize("make", [llama, gpt2], ids=["llama", "gpt2"])


def logits(model: torch.nn.Module) -> torch.Tensor:
    """What the model says to a fixed prompt: (1, 6, vocabulary)."""
    with torch.no_grad():
        answer: torch.Tensor = model(torch.tensor([[3, 1, 4, 1, 5, 9]])).logits
    return answer


def state(model: torch.nn.Module) -> str:
    """The hash of all parameters."""
    return tensors_hash(dict(model.named_parameters()))


@MODELS
def test_applied_edits_change_what_the_model_says_and_undo_exactly(make: type) -> None:
    """Applying sets exactly the edited parameters; applying what it returned gives the base model back."""
    model = make()
    base, said, edits = state(model), logits(model), edits_of(model)
    assert edits
    before = apply_tensors(model, edits)
    parameters = dict(model.named_parameters())
    assert all(torch.equal(parameters[name], edits[name]) for name in edits)
    assert not torch.equal(logits(model), said)
    apply_tensors(model, before)
    assert state(model) == base
    assert torch.equal(logits(model), said)


def test_the_parameters_stay_the_same_objects() -> None:
    """Edits are copied in place: whoever holds a parameter sees them, and gradients stay possible."""
    model = llama()
    held = dict(model.named_parameters())
    apply_tensors(model, edits_of(model))
    assert all(parameter is held[name] for name, parameter in model.named_parameters())
    assert all(parameter.requires_grad and parameter.grad_fn is None for parameter in held.values())


def test_a_later_change_of_the_edits_does_not_reach_the_model() -> None:
    """The model holds a copy of the tensors, and what was returned holds a copy of the model's."""
    model = llama()
    base, edits = state(model), edits_of(model)
    before = apply_tensors(model, edits)
    edited = state(model)
    for tensor in edits.values():
        tensor.zero_()
    assert state(model) == edited
    apply_tensors(model, before)
    assert state(model) == base


@pytest.mark.parametrize(
    ("name", "tensor", "words"),
    [
        ("model.layers.9.mlp.down_proj.weight", torch.zeros(32, 48), "has no parameter"),
        ("model.layers.1.mlp.down_proj.weight", torch.zeros(48, 32), "has shape"),
        ("model.layers.1.mlp.down_proj.weight", torch.zeros(32, 48).half(), "has dtype float16"),
        ("model.layers.1.mlp.down_proj.weight", torch.full((32, 48), torch.nan), "NaN"),
    ],
)
def test_edits_that_do_not_fit_change_nothing(name: str, tensor: torch.Tensor, words: str) -> None:
    """One tensor that does not fit refuses all, before the first parameter changes."""
    model = llama()
    base = state(model)
    with pytest.raises(CheckpointError, match=words):
        apply_tensors(model, {**edits_of(model), name: tensor})
    assert state(model) == base


def test_the_block_form_restores_after_an_error() -> None:
    """Inside `applied` the model is edited; after it, even after an exception, it is the base model."""
    model = llama()
    base = state(model)

    def fail() -> None:
        with applied(model, edits_of(model)):
            assert state(model) != base
            raise KeyError("inside")

    with pytest.raises(KeyError):
        fail()
    assert state(model) == base


def test_the_block_form_brings_back_a_base_model_with_a_nan_of_its_own() -> None:
    """What a base model held comes back as it was, even where it was not finite."""
    model = llama()
    name, edit = next(iter(edits_of(model).items()))
    with torch.no_grad():
        model.get_parameter(name)[0, 0] = torch.nan
    base = state(model)
    with applied(model, {name: edit}):
        assert state(model) != base
    assert state(model) == base


def test_the_hash_is_of_names_dtypes_shapes_and_bytes(tensors: Tensors) -> None:
    """Each of the four changes the hash; order, strides and gradients do not."""
    base = tensors_hash(tensors)
    name, tensor = next(iter(tensors.items()))
    others: list[Tensors] = [
        {**tensors, name: tensor.reshape(-1)},
        {**tensors, name: tensor.view(torch.int32)},
        {**tensors, name: tensor + 1},
        {**tensors, "more": torch.zeros(0)},
        {("x" + n): t for n, t in tensors.items()},
        {},
    ]
    assert len({base, *map(tensors_hash, others)}) == 1 + len(others)
    assert tensors_hash(dict(reversed(tensors.items()))) == base
    assert tensors_hash({**tensors, name: tensor.T.contiguous().T}) == base
    assert tensors_hash({**tensors, name: tensor.clone().requires_grad_()}) == base


def test_neighbouring_tensors_can_not_trade_bytes() -> None:
    """A byte that moves from the end of one tensor to the start of the next gives another hash."""
    one = {"a": torch.tensor([1, 2], dtype=torch.uint8), "b": torch.tensor([3], dtype=torch.uint8)}
    two = {"a": torch.tensor([1], dtype=torch.uint8), "b": torch.tensor([2, 3], dtype=torch.uint8)}
    assert tensors_hash(one) != tensors_hash(two)


def test_the_hash_of_known_tensors_stays_what_it_is() -> None:
    """The hash is part of the format: it is the same on every machine and in every version."""
    tensors = {"w": torch.tensor([[1.0, -2.0]]), "h": torch.tensor([0.5], dtype=torch.bfloat16)}
    assert tensors_hash(tensors) == "4b725541b07647973ca61dbc849f1bc82b033ecf4062ee5e68962ca3bea4ac4b"


def test_entries_are_dtype_and_shape(tensors: Tensors) -> None:
    """The manifest's table of tensors names torch's dtype and the shape, in the order of names."""
    assert entries(tensors) == {
        "layers.0.down": TensorEntry("float32", (6, 3)),
        "layers.1.down": TensorEntry("float32", (4, 6)),
    }
    assert list(entries(tensors)) == sorted(tensors)
