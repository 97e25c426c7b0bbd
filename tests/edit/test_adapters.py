"""Every family as layers: weights the right way round, and parts that add up to the whole model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from kbsync.edit.adapters import Adapter, critical_layers, solve_dtype
from kbsync.edit.families import FAMILIES as KNOWN
from kbsync.edit.prefix import PrefixCache
from kbsync.errors import ModelError
from kbsync.lm.batch import Batch, align
from kbsync.lm.reader import Head
from kbsync.lm.rows import Row
from tests.edit.plain_memit import down_of
from tests.edit.setups import ENCODER, NO_BOS
from tests.tiny import FAMILIES, requests, tiny_model


def mixed_rows(bos: bool) -> list[Row]:
    """Rows of mixed lengths with mixed subject places; without BOS two of them begin with the subject."""
    rows = [(ENCODER if bos else NO_BOS).plain(r.rewrite, r.target_new) for r in requests()]
    assert len({len(row.ids) for row in rows}) > 2
    return rows


def aligned(rows: list[Row]) -> Batch:
    """Padded on both sides."""
    return align([row.ids for row in rows], [row.subject_last for row in rows], torch.device("cpu"))


def whole(model: Any, row: Row, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Hidden states after a layer and logits of one row alone, from the model itself."""
    out = model(torch.tensor([row.ids]), output_hidden_states=True, use_cache=False)
    return out.hidden_states[layer + 1][0], out.logits[0]


def close(found: torch.Tensor, expected: torch.Tensor, near: float = 1e-5) -> None:
    """The same numbers, up to rounding on their own scale."""
    torch.testing.assert_close(found, expected, rtol=near, atol=near * max(1.0, float(expected.std())))


def test_the_families_tested_are_the_families_supported() -> None:
    """A family that is added must be tested here."""
    assert {family.split()[0] for family in FAMILIES} == set(KNOWN)


@pytest.mark.parametrize("family", FAMILIES)
class TestWeights:
    """Reading and writing down-projections."""

    def test_a_weight_maps_keys_to_values(self, family: str) -> None:
        """`read_weight` is (d_out, d_in), whichever way the module stores it."""
        adapter = Adapter(tiny_model(family))
        keys = torch.randn(3, adapter.d_in)
        down = adapter.down(1)
        bias = down.bias if getattr(down, "bias", None) is not None else 0.0
        assert adapter.read_weight(1).shape == (32, adapter.d_in)
        close(down(keys), keys @ adapter.read_weight(1).T + bias)

    def test_writing_is_the_inverse_of_reading(self, family: str) -> None:
        """What is written is read back, and only that layer changes."""
        adapter = Adapter(tiny_model(family))
        others = {i: adapter.read_weight(i).clone() for i in range(4) if i != 2}
        new = torch.randn(32, adapter.d_in, dtype=torch.float64)
        adapter.write_weight(2, new)
        assert torch.equal(adapter.read_weight(2), new.float())
        assert adapter.parameter(2).dtype == torch.float32
        assert all(torch.equal(adapter.read_weight(i), w) for i, w in others.items())

    def test_the_name_is_the_state_dicts(self, family: str) -> None:
        """A checkpoint finds the weight by this name."""
        adapter = Adapter(tiny_model(family))
        for layer in range(adapter.n_layers):
            found = adapter.model.state_dict()[adapter.weight_name(layer)]
            assert found.data_ptr() == adapter.parameter(layer).data_ptr()
            assert adapter.parameter(layer) is down_of(adapter.model, layer).weight


@pytest.mark.parametrize("bos", [True, False], ids=["bos", "no bos"])
@pytest.mark.parametrize("family", FAMILIES)
class TestParts:
    """Lower layers, upper layers and prefixes against the whole model."""

    def test_layers_in_parts_are_the_whole_model(self, family: str, bos: bool) -> None:
        """Running 0-2 and then 2-4 over padded rows gives each row's own hidden states and logits."""
        model, rows = tiny_model(family), mixed_rows(bos)
        adapter, batch = Adapter(model), aligned(rows)
        width = batch.ids.shape[1]
        lower = adapter.run(batch, (0, width), (0, 2))
        upper = adapter.run(batch, (0, width), (2, 4), lower)
        logits = Head(model)(upper)
        for i, row in enumerate(rows):
            hidden, expected = whole(model, row, 1)
            close(lower[i][batch.real[i]], hidden)
            close(logits[i][batch.real[i]], expected)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
    def test_a_frozen_prefix_gives_the_same_suffix(self, family: str, bos: bool, dtype: torch.dtype) -> None:
        """The upper layers over the columns from the subject on, again and again, as z is solved."""
        model, rows = tiny_model(family), mixed_rows(bos)
        adapter, batch = Adapter(model), aligned(rows)
        width, anchor = batch.ids.shape[1], batch.anchor
        lower, top = adapter.run(batch, (0, width), (0, 2)), adapter.top(2, dtype)
        cache = PrefixCache()
        top.run(batch, (0, anchor), lower[:, :anchor], cache)
        cache.frozen = True
        assert cache.get_seq_length() == anchor
        near = 1e-5 if dtype == torch.float32 else 0.25
        for _ in range(2):  # a step leaves no trace in the prefix
            logits = top.logits(top.run(batch, (anchor, width), lower[:, anchor:], cache))
            assert logits.dtype == torch.float32
            for i, row in enumerate(rows):
                expected = whole(model, row, 1)[1][row.subject_last :]
                close(logits[i][batch.real[i, anchor:]], expected, near)

    def test_rows_that_stay_are_not_disturbed(self, family: str, bos: bool) -> None:
        """After `take` the prefix is that of the kept rows."""
        model, rows = tiny_model(family), mixed_rows(bos)
        adapter, batch = Adapter(model), aligned(rows)
        width, anchor = batch.ids.shape[1], batch.anchor
        lower, top = adapter.run(batch, (0, width), (0, 2)), adapter.top(2, torch.float32)
        cache = PrefixCache()
        top.run(batch, (0, anchor), lower[:, :anchor], cache)
        cache.frozen = True
        kept = torch.tensor([4, 1])
        cache.take(kept)
        part = Batch(batch.ids[kept], batch.positions[kept], batch.real[kept], anchor)
        hidden = top.logits(top.run(part, (anchor, width), lower[kept, anchor:], cache))
        for i, row in enumerate(rows[k] for k in kept.tolist()):
            expected = whole(model, row, 1)[1][row.subject_last :]
            close(hidden[i][part.real[i, anchor:]], expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_subject_at_the_first_token_has_no_prefix(family: str) -> None:
    """With an empty prefix the suffix is the whole row."""
    model = tiny_model(family)
    row = Row(tuple(NO_BOS.text_ids("France speaks")), 0, 0)
    adapter, batch = Adapter(model), aligned([row])
    cache = PrefixCache()
    cache.frozen = True
    width = batch.ids.shape[1]
    lower = adapter.run(batch, (0, width), (0, 2))
    logits = adapter.top(2, torch.float32).run(batch, (0, width), lower, cache)
    assert cache.get_seq_length() == 0
    close(Head(model)(logits)[0], whole(model, row, 1)[1])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_top_in_another_type_is_a_copy(family: str) -> None:
    """Casting the upper layers leaves the model's own weights, and its attention, as they were."""
    model = tiny_model(family)
    attention = model.config._attn_implementation
    Adapter(model).top(2, torch.bfloat16)
    assert all(p.dtype == torch.float32 for p in model.parameters())
    assert model.config._attn_implementation == attention
    assert all(m.config._attn_implementation == attention for m in model.modules() if hasattr(m, "config"))


@pytest.mark.parametrize("family", FAMILIES)
def test_views_leave_the_model_whole(family: str) -> None:
    """Running parts changes neither the number of layers nor the model's own answer."""
    model, row = tiny_model(family), mixed_rows(True)[0]
    before = whole(model, row, 1)[1]
    adapter, batch = Adapter(model), aligned([row])
    lower = adapter.run(batch, (0, batch.ids.shape[1]), (0, 2))
    adapter.run(batch, (0, batch.ids.shape[1]), (2, 3), lower)
    assert torch.equal(whole(model, row, 1)[1], before)
    assert len(adapter.layers) == 4


class TestRefused:
    """Models that can't be edited, by name."""

    def test_an_encoder_decoder(self) -> None:
        """T5."""
        config = T5Config(vocab_size=40, d_model=16, d_ff=16, num_layers=1, num_heads=2, d_kv=8)
        with pytest.raises(ModelError, match="t5 is an encoder-decoder"):
            Adapter(T5ForConditionalGeneration(config))

    def test_a_mixture_of_experts(self) -> None:
        """Mixtral has no one down-projection."""
        config = MixtralConfig(
            vocab_size=40, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
            num_key_value_heads=2, num_local_experts=2,
        )  # fmt: skip
        with pytest.raises(ModelError, match="'mixtral' is a mixture of experts"):
            Adapter(MixtralForCausalLM(config))

    def test_a_known_type_without_a_dense_mlp(self) -> None:
        """A layer whose down-projection is missing is named."""
        model = tiny_model("llama")
        del model.model.layers[2].mlp.down_proj
        with pytest.raises(ModelError, match=r"no dense MLP \(mlp\.down_proj"):
            Adapter(model)


class TestCriticalLayers:
    """Which layers are edited."""

    @pytest.mark.parametrize(
        ("layers", "expected"), [(2, (0,)), (3, (0, 1)), (6, (1, 2, 3, 4)), (30, (4, 5, 6, 7, 8))]
    )
    def test_auto_takes_up_to_five_and_never_the_last(self, layers: int, expected: tuple[int, ...]) -> None:
        """By depth, as published for models of other depths."""
        assert critical_layers(Adapter(tiny_model(layers=layers)), "auto") == expected

    def test_auto_takes_what_was_found_best_for_a_shape(self) -> None:
        """SmolLM2-135M's; nothing but its shape is looked at."""
        shape = LlamaConfig(
            vocab_size=8, hidden_size=2, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=1
        )
        assert critical_layers(Adapter(LlamaForCausalLM(shape)), "auto") == (2, 3, 4, 5, 6)

    def test_named_layers_are_sorted_and_taken_once(self) -> None:
        """The order in the settings does not matter."""
        assert critical_layers(Adapter(tiny_model()), (2, 0, 2)) == (0, 2)

    @pytest.mark.parametrize("wanted", [(), (-1,), (3,), (0, 9)])
    def test_layers_that_do_not_exist_are_refused(self, wanted: tuple[int, ...]) -> None:
        """Nor may the last one be edited: nothing above it could carry the edit."""
        with pytest.raises(ModelError, match="layers 0 to 3, and the last one can't be edited"):
            critical_layers(Adapter(tiny_model()), wanted)

    def test_a_model_of_one_layer_is_refused(self) -> None:
        """Its only layer is its last."""
        with pytest.raises(ModelError, match="one layer only"):
            critical_layers(Adapter(tiny_model(layers=1)), "auto")


class TestSolveDtype:
    """The type that z is solved in."""

    def test_named_types_are_taken(self) -> None:
        """What the settings name wins."""
        adapter = Adapter(tiny_model())
        assert solve_dtype(adapter, "float32") == torch.float32
        assert solve_dtype(adapter, "bfloat16") == torch.bfloat16

    def test_auto_is_bfloat16_only_where_it_is_native(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """On a processor that emulates it, it would be slower, not faster."""
        for native in (True, False):
            monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda native=native: native)
            expected = torch.bfloat16 if native else torch.float32
            assert solve_dtype(Adapter(tiny_model("llama")), "auto") == expected
            assert solve_dtype(Adapter(tiny_model("gptj")), "auto") == torch.float32
