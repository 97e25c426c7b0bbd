"""Padding that can't be seen, and batches that depend on the lengths alone."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from kbsync.lm.batch import align, by_length, one_below_the_other

CPU = torch.device("cpu")
ROWS = st.lists(
    st.lists(st.integers(1, 99), min_size=1, max_size=9).flatmap(
        lambda row: st.tuples(st.just(row), st.integers(0, len(row) - 1))
    ),
    min_size=1,
    max_size=6,
)


@given(ROWS)
def test_each_row_is_whole_and_its_anchor_lies_in_one_column(drawn: list[tuple[list[int], int]]) -> None:
    """Nothing is cut, positions count from 0, and the anchors line up."""
    rows, anchors = [row for row, _ in drawn], [anchor for _, anchor in drawn]
    batch = align(rows, anchors, CPU)
    for i, (row, anchor) in enumerate(drawn):
        assert batch.ids[i][batch.real[i]].tolist() == row
        assert batch.positions[i][batch.real[i]].tolist() == list(range(len(row)))
        assert int(batch.ids[i, batch.anchor]) == row[anchor]
        assert not batch.ids[i][~batch.real[i]].any()


@given(st.lists(ROWS, min_size=1, max_size=3))
def test_batches_one_below_the_other_are_the_batch_of_all(parts: list[list[tuple[list[int], int]]]) -> None:
    """As if their rows had been aligned together."""
    batches = [align([row for row, _ in part], [anchor for _, anchor in part], CPU) for part in parts]
    whole = align([row for part in parts for row, _ in part], [at for part in parts for _, at in part], CPU)
    joined = one_below_the_other(batches)
    assert joined.anchor == whole.anchor
    assert torch.equal(joined.ids, whole.ids)
    assert torch.equal(joined.positions, whole.positions)
    assert torch.equal(joined.real, whole.real)


@given(ROWS, st.data())
def test_the_mask_is_causal_and_hides_padding(drawn: list[tuple[list[int], int]], data: st.DataObject) -> None:
    """A query sees the real tokens up to itself, and a padded one at least itself."""
    batch = align([row for row, _ in drawn], [anchor for _, anchor in drawn], CPU)
    width = batch.ids.shape[1]
    first = data.draw(st.integers(0, width - 1))
    last = data.draw(st.integers(first + 1, width))
    mask = batch.mask(first, last, torch.float32)
    assert mask.shape == (len(drawn), 1, last - first, last)
    for i in range(len(drawn)):
        for q in range(first, last):
            for k in range(last):
                seen = bool(mask[i, 0, q - first, k] == 0)
                assert seen == ((k <= q and bool(batch.real[i, k])) or k == q)


def test_the_mask_has_no_infinity() -> None:
    """A half-precision mask stays finite: an infinite one gives NaN in a softmax."""
    batch = align([[1, 2], [3]], [1, 0], CPU)
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        assert batch.mask(0, 2, dtype).isfinite().all()


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 8), st.none() | st.integers(1, 200))
def test_by_length_deals_every_index_once(lengths: list[int], size: int, tokens: int | None) -> None:
    """No index is lost; batches keep both limits; the longest come first."""
    batches = by_length(lengths, size, tokens)
    flat = [i for batch in batches for i in batch]
    assert sorted(flat) == list(range(len(lengths)))
    assert [lengths[i] for i in flat] == sorted(lengths, reverse=True)
    for batch in batches:
        assert 1 <= len(batch) <= size
        if tokens is not None and len(batch) > 1:
            assert len(batch) * max(lengths[i] for i in batch) <= tokens


def test_by_length_keeps_the_given_order_among_equals() -> None:
    """Equal input makes equal batches, so equal numbers."""
    assert by_length([3, 5, 3, 5], 2) == [[1, 3], [0, 2]]
