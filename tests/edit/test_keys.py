"""Keys against plain hooks on whole prompts."""

from __future__ import annotations

import pytest
import torch

from kbsync.edit.keys import KeyTap, SubjectPass, bystander_moments
from kbsync.lm.batch import align
from tests.edit import plain_memit
from tests.edit.setups import ALL, ENCODER, NO_BOS, editor, hidden_at
from tests.tiny import FAMILIES, requests, some_requests


@pytest.mark.parametrize("family", FAMILIES)
def test_keys_are_what_a_hook_sees_in_each_context(family: str) -> None:
    """Rows cut at the subject's last token, batched and padded, give the keys of the whole prompts."""
    made = editor(family)
    rows = [ALL.key_rows(ENCODER, request) for request in some_requests(family)]
    subject = SubjectPass(made.adapter, rows, made.layers[0])
    for layer in made.layers:
        subject.climb(layer)
        keys, hidden, values = subject.read(3)
        for i, contexts in enumerate(rows):
            plain = torch.stack([plain_memit.key(made.adapter.model, row, layer) for row in contexts], 1)
            own = keys[:, subject.owners == i]
            torch.testing.assert_close(own, plain, rtol=1e-5, atol=1e-5 * max(1.0, float(plain.std())))
            first = hidden_at(made, contexts[0].ids, 3, contexts[0].subject_last)
            torch.testing.assert_close(hidden[:, i], first, rtol=1e-5, atol=1e-5 * max(1.0, float(first.std())))
            own = made.adapter.down(layer)(plain_memit.key(made.adapter.model, contexts[0], layer))
            torch.testing.assert_close(values[:, i], own, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_climbing_goes_through_the_weights_as_they_are_now(family: str) -> None:
    """A layer edited below shows in the keys above."""
    made = editor(family, encoder=NO_BOS)
    rows = [ALL.rows(NO_BOS, request) for request in some_requests(family)]
    subject = SubjectPass(made.adapter, rows, 1)
    subject.climb(1)
    subject.read(3)
    made.adapter.write_weight(1, made.adapter.read_weight(1) * 1.5)
    subject.climb(2)
    keys = subject.read(3).keys
    plain = plain_memit.key(made.adapter.model, rows[0][0], 2)
    torch.testing.assert_close(keys[:, 0], plain, rtol=1e-5, atol=1e-5 * max(1.0, float(plain.std())))


def test_hidden_is_that_of_each_requests_own_prompt() -> None:
    """Requests may have different numbers of contexts."""
    made = editor()
    rows = [ALL.rows(ENCODER, request)[: i + 1] for i, request in enumerate(requests())]
    subject = SubjectPass(made.adapter, rows, 1)
    subject.climb(3)
    hidden = subject.read(3).hidden
    for i, contexts in enumerate(rows):
        own = hidden_at(made, contexts[0].ids, 3, contexts[0].subject_last)
        torch.testing.assert_close(hidden[:, i], own, rtol=1e-5, atol=1e-5)


def test_a_request_counts_once_however_many_contexts_it_has() -> None:
    """The weights of its rows, which stand side by side, add up to 1."""
    made = editor()
    rows = [ALL.rows(ENCODER, request)[: i + 1] for i, request in enumerate(requests())]
    subject = SubjectPass(made.adapter, rows, 1)
    assert subject.owners.tolist() == [i for i, own in enumerate(rows) for _ in own]
    sums = torch.zeros(len(rows), dtype=torch.float64).index_add(0, subject.owners, subject.weights)
    torch.testing.assert_close(sums, torch.ones_like(sums))


def test_a_tap_leaves_no_hook() -> None:
    """Not even when what it watches fails."""
    made = editor()
    with pytest.raises(RuntimeError), KeyTap(made.adapter, [1, 2]):
        raise RuntimeError
    assert not any(made.adapter.down(layer)._forward_pre_hooks for layer in range(6))


def test_a_tap_changes_nothing() -> None:
    """Recording does not alter the output."""
    made = editor()
    batch = align([[1, 2, 3]], [0], torch.device("cpu"))
    plain = made.adapter.run(batch, (0, 3), (0, 3))
    with KeyTap(made.adapter, [1]) as tap:
        assert torch.equal(made.adapter.run(batch, (0, 3), (0, 3)), plain)
        assert tap.keys[1].shape == (3, made.adapter.d_in)


@pytest.mark.parametrize("family", FAMILIES)
def test_bystanders_are_all_tokens_but_the_subjects_last(family: str) -> None:
    """Their second moment, summed over the model's own inputs of every row."""
    made = editor(family)
    rows = [row for request in some_requests(family) for row in ALL.rows(ENCODER, request)]
    found = bystander_moments(made.adapter, rows, (1, 3))
    for layer in (1, 3):
        moment = torch.zeros(made.adapter.d_in, made.adapter.d_in, dtype=torch.float64)
        for row in rows:
            seen: list[torch.Tensor] = []
            handle = made.adapter.down(layer).register_forward_pre_hook(
                lambda _, args, seen=seen: seen.append(args[0])
            )
            made.adapter.model(torch.tensor([row.inputs]))
            handle.remove()
            keys = seen[0].reshape(len(row.inputs), -1).double()
            keys[row.subject_last] = 0
            moment += keys.T @ keys
        torch.testing.assert_close(found[layer], moment, rtol=1e-4, atol=1e-6 * float(moment.abs().max()))


@pytest.mark.parametrize("first", [0, 1])
def test_a_second_pass_starts_where_the_first_one_did(first: int) -> None:
    """After `rewind` the keys are those of a new pass through the weights as they are then."""
    made = editor()
    rows = [ALL.rows(ENCODER, request) for request in requests()]
    subject = SubjectPass(made.adapter, rows, first)
    subject.climb(3)
    made.adapter.write_weight(first, made.adapter.read_weight(first) * 1.5)
    subject.rewind()
    subject.climb(2)
    again = SubjectPass(made.adapter, rows, first)
    again.climb(2)
    for mine, its in zip(subject.read(3), again.read(3), strict=True):
        assert torch.equal(mine, its)
