"""Causal tracing: the three runs, against a plain implementation and against what must hold of any model."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch

from kbsync.edit.adapters import Adapter
from kbsync.edit.states import StateKind
from kbsync.edit.trace import KINDS, TRACED, Trace, Tracer, embedding_deviation, subject_noise, traced_tokens
from kbsync.errors import ModelError
from kbsync.lm.batch import align
from kbsync.lm.rows import Row
from tests.edit import plain_tracing
from tests.edit.plain_memit import down_of
from tests.edit.setups import ENCODER, NO_BOS
from tests.tiny import easy_requests, requests, tiny_model

SCALE, SEED = 0.4, 11  # twice the deviation of these models' embeddings


@cache
def model_of(family: str) -> Any:
    """One tiny model per family, whose MLPs have their say: tracing changes nothing in it."""
    model = tiny_model(family)
    for layer in range(4):
        down_of(model, layer).weight *= 4
    return model


@cache
def rows(family: str = "llama", bos: bool = True) -> tuple[Row, ...]:
    """Prompts of mixed lengths, the last one ending with its subject, and what the model says there: one token
    after every second prompt, two after the others."""
    model, encoder = model_of(family), ENCODER if bos else NO_BOS
    found = []
    for number, asked in enumerate([*requests(), easy_requests(1)[0]]):
        prompt = encoder.plain(asked.rewrite)
        ids = list(prompt.ids)
        for _ in range(1 + number % 2):
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
        found.append(Row(tuple(ids), prompt.subject_last, 1 + number % 2, prompt.subject_len))
    return tuple(found)


def tracer(model: Any, samples: int = 2, window: int = 2, **more: Any) -> Tracer:
    """A tracer with noise that the model hears."""
    return Tracer(Adapter(model), samples, window, **{"scale": SCALE, "seed": SEED, **more})


def close(found: Trace, expected: Trace) -> None:
    """The two traces are the same, but for rounding."""
    assert found.clean == pytest.approx(expected.clean, abs=1e-5)
    assert found.corrupted == pytest.approx(expected.corrupted, abs=1e-5)
    torch.testing.assert_close(found.effects, expected.effects, rtol=0, atol=1e-5)


def test_rows_have_something_to_tell() -> None:
    """Subjects and objects have one and several tokens, so that no test below is about a special case alone."""
    assert {row.subject_len > 1 for row in rows()} == {True, False}
    assert {row.target_len > 1 for row in rows()} == {True, False}
    assert any(row.subject_first == 0 for row in rows(bos=False))
    assert any(row.subject_last == len(row.ids) - row.target_len - 1 for row in rows())
    assert len({traced_tokens(row) for row in rows()}) > 2


@pytest.mark.parametrize("family", sorted(TRACED))
def test_each_effect_is_the_papers(family: str) -> None:
    """Every kind of state at every token and layer, over windows that the model's ends cut: as plain hooks on
    whole prompts find them, one by one."""
    model = model_of(family)
    some = [rows(family)[0], rows(family)[3], rows(family, bos=False)[2]]
    heard = []
    for row, found in zip(some, tracer(model, window=3).trace(some), strict=True):
        noise = subject_noise(row, 2, 32, SCALE, SEED)
        clean, corrupted, effects = plain_tracing.trace(model, row, noise, 3)
        close(found, Trace(clean, corrupted, effects, row.subject_len))
        assert effects.shape == (3, traced_tokens(row), 4)
        heard.append(effects.abs().amax(dim=(1, 2)))
    assert torch.stack(heard).amax(0).min() > 1e-2  # each kind of state does something here


@pytest.mark.parametrize("kind", [StateKind.MLP, StateKind.ATTENTION])
def test_an_even_window_reaches_further_down(kind: StateKind) -> None:
    """As in the paper's code, a window of two is the layer and the one below it."""
    model, row = model_of("llama"), rows()[0]
    assert [list(tracer(model, window=2).window_of(layer)) for layer in range(4)] == [[0], [0, 1], [1, 2], [2, 3]]
    assert list(tracer(model, window=10).window_of(1)) == [0, 1, 2, 3]
    (found,) = tracer(model, window=2).trace([row])
    *_, effects = plain_tracing.trace(model, row, subject_noise(row, 2, 32, SCALE, SEED), 2)
    torch.testing.assert_close(found.effects[KINDS.index(kind)], effects[KINDS.index(kind)], rtol=0, atol=1e-6)


@pytest.mark.parametrize("family", sorted(TRACED))
class TestRuns:
    """What holds of the three runs by their definition."""

    def test_all_states_restored_is_the_clean_run(self, family: str) -> None:
        """With a whole layer of hidden states put back P(o) is back, with none of them it stays P*(o)."""
        made, some = tracer(model_of(family)), rows(family)[:3]
        batch = align([r.inputs for r in some], [r.subject_first for r in some], torch.device("cpu"))
        with torch.inference_mode():
            clean, high = made._clean(batch, some)
            whole, low = made._corrupted(batch, some)
            part = whole.seen_from(0)
            width = batch.ids.shape[1] - batch.anchor
            for layer in range(4):
                back = made._restored(part, clean, StateKind.HIDDEN, layer, width)
                torch.testing.assert_close(back, high.repeat_interleave(2), rtol=0, atol=1e-6)
                for kind in KINDS:
                    gone = made._restored(part, clean, kind, layer, 0)
                    torch.testing.assert_close(gone, low, rtol=0, atol=1e-6)
        assert (high.repeat_interleave(2) - low).abs().min() > 1e-4

    def test_the_last_state_of_all_says_the_object(self, family: str) -> None:
        """An object of one token is read off the last layer at the prompt's last token: restored, P(o) is back."""
        some = [row for row in rows(family) if row.target_len == 1]
        for found in tracer(model_of(family)).trace(some):
            assert float(found.effects[0, -1, -1]) == pytest.approx(found.clean - found.corrupted, abs=1e-6)

    def test_without_noise_nothing_has_an_effect(self, family: str) -> None:
        """The corrupted run is the clean one then."""
        for found in tracer(model_of(family), scale=0.0).trace(rows(family)):
            assert found.corrupted == pytest.approx(found.clean, abs=1e-7)
            assert float(found.effects.abs().max()) < 1e-6

    def test_the_model_is_left_as_it_was(self, family: str) -> None:
        """No hook stays behind: the model says afterwards what it said before."""
        model, row = model_of(family), rows(family)[0]
        before = model(torch.tensor([row.ids])).logits
        tracer(model).trace([row])
        assert torch.equal(model(torch.tensor([row.ids])).logits, before)
        assert not any(module._forward_hooks for module in model.modules())


def test_the_same_seed_gives_the_same_trace() -> None:
    """Bit for bit; another seed gives another one."""
    model = model_of("llama")
    first, again = (tracer(model).trace(rows()) for _ in range(2))
    other = tracer(model, seed=SEED + 1).trace(rows())
    for a, b, c in zip(first, again, other, strict=True):
        assert torch.equal(a.effects, b.effects)
        assert (a.clean, a.corrupted) == (b.clean, b.corrupted)
        assert a.clean == c.clean
        assert a.corrupted != c.corrupted


@pytest.mark.parametrize("family", sorted(TRACED))
def test_batches_do_not_matter(family: str) -> None:
    """Fact by fact, all at once, and in reverse order: the same traces."""
    model, some = model_of(family), rows(family)
    expected = tracer(model, room=2).trace(some)
    for found, one in zip(tracer(model, room=100).trace(some), expected, strict=True):
        close(found, one)
    for found, one in zip(tracer(model, room=6).trace(some[::-1]), expected[::-1], strict=True):
        close(found, one)


def test_progress_counts_every_state() -> None:
    """What is told along the way adds up to what was announced."""
    told: list[int] = []
    made = tracer(model_of("llama"), room=4)
    made.trace(rows(), told.append)
    assert sum(told) == made.state_count(rows()) == 3 * 4 * sum(map(traced_tokens, rows()))
    assert len(told) > 10


def test_more_samples_are_a_mean_over_more_noise() -> None:
    """The noise of few samples is the beginning of the noise of more, and its scale is what was asked for."""
    row = rows()[3]
    few, many = (subject_noise(row, n, 32, SCALE, SEED) for n in (2, 400))
    assert few.shape == (2, row.subject_len, 32)
    torch.testing.assert_close(few, many[:2])
    assert float(many.std()) == pytest.approx(SCALE, rel=0.02)
    assert not torch.equal(many[0], many[1])
    assert not torch.equal(few, subject_noise(row, 2, 32, SCALE, SEED + 1))


def test_deviation_is_that_of_the_subjects_embeddings() -> None:
    """σ is taken over the subjects' tokens, not over the whole vocabulary."""
    model, some = model_of("llama"), rows()
    words = [list(row.ids[row.subject_first : row.subject_last + 1]) for row in some]
    table = model.get_input_embeddings().weight
    expected = float(torch.cat([table[ids] for ids in words]).std())
    assert embedding_deviation(Adapter(model), some) == pytest.approx(expected, rel=1e-5)
    assert float(table.std()) != pytest.approx(expected, rel=1e-3)


def test_a_family_that_was_not_tried_is_refused() -> None:
    """By name, with those that can be traced."""
    with pytest.raises(ModelError, match="gemma2 models can be edited, but not traced; traced are gpt2, "):
        Tracer(Adapter(tiny_model("gemma2")), 1, 1, 1.0, 0)
