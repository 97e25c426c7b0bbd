"""States are found where each family keeps them, and put back without a trace."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from kbsync.edit.adapters import Adapter
from kbsync.edit.states import StateKind, changed, put, record, state_module
from kbsync.edit.trace import TRACED
from kbsync.errors import ModelError
from tests.edit.plain_tracing import place
from tests.tiny import tiny_model


@pytest.mark.parametrize("family", sorted(TRACED))
def test_a_layer_adds_its_attention_and_its_mlp(family: str) -> None:
    """Hidden state after a layer = before it + attention output + MLP output, at every token."""
    model = tiny_model(family)
    adapter = Adapter(model)
    states: dict[StateKind, dict[int, Tensor]] = {kind: {} for kind in StateKind}
    taps = [
        (state_module(adapter, kind, layer), record(states[kind], layer, 0))
        for kind in StateKind
        for layer in (1, 2)
    ]
    with changed(taps):
        model(torch.tensor([[5, 6, 7, 8]]))
    added = states[StateKind.MLP][2] + states[StateKind.ATTENTION][2]
    torch.testing.assert_close(states[StateKind.HIDDEN][2], states[StateKind.HIDDEN][1] + added)


@pytest.mark.parametrize("family", sorted(TRACED))
def test_attention_is_found(family: str) -> None:
    """It is the module that the family's own code calls its attention."""
    model = tiny_model(family)
    found = state_module(Adapter(model), StateKind.ATTENTION, 1)
    assert found is model.get_submodule(place(model, "attention", 1))


@pytest.mark.parametrize("count", [0, 2])
def test_a_layer_without_one_attention_is_named(count: int) -> None:
    """None or several: one line that says which layer of what."""
    model = tiny_model("llama")
    layer = model.model.layers[1]
    if count == 0:
        layer.self_attn = nn.Identity()
    else:
        layer.more = type(layer.self_attn)(model.config, 1)
    with pytest.raises(ModelError, match=f"layer 1 of this llama model has {count} attention"):
        state_module(Adapter(model), StateKind.ATTENTION, 1)


def test_put_replaces_the_first_columns_only() -> None:
    """The others, and the tensor that was given, stay."""
    out = torch.zeros(2, 3, 4)
    new = put(torch.ones(2, 1, 4))(out)
    assert new is not None
    assert torch.equal(new[:, 0], torch.ones(2, 4))
    assert not new[:, 1:].any()
    assert not out.any()


def test_hooks_go_when_the_block_fails() -> None:
    """While the block is open the output is changed; an error inside leaves no hook behind."""
    module = nn.Identity()

    def fail() -> None:
        with changed([(module, lambda out: out + 1)]):
            assert float(module(torch.zeros(1))) == 1
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert float(module(torch.zeros(1))) == 0
