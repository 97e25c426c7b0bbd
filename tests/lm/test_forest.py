"""Prefix trees in one sequence: nothing lost, nothing seen that a row alone would not see."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kbsync.lm.forest import SIZE, plant
from kbsync.lm.reader import Reader
from tests.tiny import FAMILIES, tiny_model

CPU = torch.device("cpu")
ROWS = st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=7), min_size=1, max_size=12)


@given(ROWS, st.integers(0, 12), st.integers(1, 40))
def test_every_row_is_somewhere_once_and_whole(rows: list[list[int]], size: int, room: int) -> None:
    """Its tokens stand at its places, at the positions that they have in the row."""
    groves = plant(rows, CPU, size, room)
    assert sorted(number for grove in groves for number in grove.places) == list(range(len(rows)))
    for grove in groves:
        for number, place in grove.places.items():
            assert grove.ids.flatten()[list(place)].tolist() == rows[number]
            assert grove.positions.flatten()[list(place)].tolist() == list(range(len(rows[number])))


@given(ROWS, st.integers(0, 12))
def test_a_token_sees_its_ancestors_and_itself(rows: list[list[int]], size: int) -> None:
    """The mask of a row's last token is open at the row's own tokens and nowhere else."""
    for grove in plant(rows, CPU, size):
        width = grove.ids.shape[1]
        seen = grove.mask(0, width, torch.float32)[:, 0] == 0
        for place in grove.places.values():
            sequence = place[-1] // width
            for depth, spot in enumerate(place):
                open_at = seen[sequence, spot % width].nonzero()[:, 0].tolist()
                assert open_at == [one % width for one in place[: depth + 1]]
        assert bool(seen.diagonal(dim1=1, dim2=2).all()), "padding sees itself: no row of the mask is shut"


@given(ROWS)
def test_what_is_shared_is_there_once(rows: list[list[int]]) -> None:
    """With room for all, there are as many tokens as there are distinct beginnings of rows."""
    (grove,) = plant(rows, CPU, size=1000, room=1000)
    beginnings = {tuple(row[:end]) for row in rows for end in range(1, len(row) + 1)}
    assert grove.ids.numel() == len(beginnings)


@given(ROWS, st.integers(1, 12), st.integers(1, 40))
def test_sequences_and_groves_keep_to_their_size(rows: list[list[int]], size: int, room: int) -> None:
    """Only a row that is longer by itself makes a longer sequence, and only such a sequence a larger grove."""
    longest = max(len(row) for row in rows)
    for grove in plant(rows, CPU, size, room):
        assert grove.ids.shape[1] <= max(size, longest)
        assert grove.ids.numel() <= room or len(grove.ids) == 1


def test_no_rows_no_groves() -> None:
    """Nothing planted, nothing grown."""
    assert plant([], CPU) == []


def test_equal_rows_share_every_token() -> None:
    """Also where rows stand alone (size 0)."""
    (grove,) = plant([[1, 2], [1, 2]], CPU, size=0)
    assert grove.places[0] == grove.places[1] == (0, 1)


@pytest.mark.parametrize("size", [0, 8, 256])
@pytest.mark.parametrize("family", FAMILIES)
def test_hidden_states_are_those_of_each_row_alone(family: str, size: int) -> None:
    """In every family, however much is shared."""
    model = tiny_model(family)
    rows = [[5, 6, 7], [5, 6, 8, 9, 10], [5, 6], [11], [5, 6, 8, 9, 10, 11, 12], [7, 6, 5]]
    reader = Reader(model)
    for grove in reader.plant(rows, CPU) if size == SIZE else plant(rows, CPU, 0 if reader.by_column else size):
        hidden = reader.hidden(grove.ids, grove).flatten(0, 1)
        for number, place in grove.places.items():
            alone = model.base_model(torch.tensor([rows[number]])).last_hidden_state[0]
            torch.testing.assert_close(hidden[list(place)], alone, rtol=1e-4, atol=1e-5)
