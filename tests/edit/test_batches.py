"""Batches are cut by rules that know nothing of the moment, and hold what they are estimated to hold."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kbsync.edit import batches
from kbsync.edit.batches import FEW, MANY, Limit, bytes_beside, limit_for, request_bytes, weight_bytes
from kbsync.edit.problem import Problem
from kbsync.edit.target import TargetSolver
from tests.edit.setups import ALL, ENCODER, ONE, edit_settings, solver
from tests.tiny import requests

GIB = 1024**3


@given(
    sizes=st.lists(st.integers(1, 100), max_size=40),
    most=st.integers(1, 10),
    room=st.none() | st.integers(0, 200),
)
def test_every_request_is_in_one_batch_that_keeps_the_limit(sizes: list[int], most: int, room: int | None) -> None:
    """In order, none left out; a batch over the limit is one request alone, and no batch could have taken more."""
    cut = Limit(most, room).cut(len(sizes), sizes.__getitem__)
    assert [i for part in cut for i in range(part.start, part.stop)] == list(range(len(sizes)))
    for part, following in zip(cut, [*cut[1:], *[None][: len(cut)]], strict=True):
        own = sizes[part]
        assert 1 <= len(own) <= most
        assert room is None or len(own) == 1 or sum(own) <= room
        if following is not None:
            more = sum(own) + sizes[following.start]
            assert len(own) == most or (room is not None and more > room)


def test_on_a_cpu_auto_is_a_number() -> None:
    """Batches, and with them the bits of z, are those of `batch_size = 64`."""
    made = solver()
    assert edit_settings().batch_size == "auto"
    assert made.limit == Limit(FEW) == limit_for(made.adapter, made.top, edit_settings(batch_size=64))
    assert made.limit.rule == 64
    assert made.with_settings(edit_settings(batch_size=3)).limit.rule == 3
    assert [part.stop - part.start for part in made.cut(requests() * 22)] == [64, 64, 4]


def test_on_cuda_it_is_the_memory_of_the_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole of it less the weights, not what happens to be free; a card without one is told of by torch."""
    made = solver()
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=10 * GIB + 123_456)
    )
    on_card = SimpleNamespace(device=torch.device("cuda:0"), module=made.top.module)
    limit = limit_for(made.adapter, on_card, edit_settings())  # type: ignore[arg-type]
    assert limit.requests == MANY
    assert limit.bytes == bytes_beside(10 * GIB, weight_bytes(made.adapter, made.top))
    assert limit.rule == {"requests": MANY, "bytes": limit.bytes}


@pytest.mark.parametrize(
    ("total", "weights", "left"), [(80, 12, 9), (24, 14, 8), (24, 21.9, 0), (16, 20, 0), (24, 14.3, 7.5)]
)
def test_what_is_left_beside_the_weights(total: float, weights: float, left: float) -> None:
    """Never more than nine GiB, with two to spare, in steps of a quarter, and never less than none."""
    assert bytes_beside(int(total * GIB), int(weights * GIB)) == left * GIB


def test_weights_are_counted_once() -> None:
    """A view shares them; a copy in another type is counted beside them."""
    made = solver()
    whole = sum(p.numel() * p.element_size() for p in made.adapter.model.parameters())
    assert weight_bytes(made.adapter, made.top) == whole
    half = solver(solve_dtype="bfloat16")
    assert whole < weight_bytes(half.adapter, half.top) < 1.5 * whole


def held_for_the_gradient(made: TargetSolver) -> int:
    """Bytes that autograd keeps for the gradient of one evaluation, weights left out."""
    weights = {p.untyped_storage().data_ptr() for p in made.adapter.model.parameters()}
    seen: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            seen[storage.data_ptr()] = storage.nbytes()
        alive.append(tensor)  # or its address would be given out again
        return tensor

    alive: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        made.solve(requests(), steps=1)
    return sum(seen.values())


@pytest.mark.parametrize("contexts", [ALL, ONE], ids=["many contexts", "one"])
@pytest.mark.parametrize("family", ["llama", "gpt2", "gptj", "gpt_neox", "gemma2", "qwen3", "olmo2", "falcon"])
def test_the_estimate_is_one_from_above(family: str, contexts: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against what autograd keeps where batches are cut by it, off the CPU: never less, and not six times as
    much."""
    monkeypatch.setattr(Problem, "_put", lambda self, groups: groups)
    made = solver(family, contexts, kl_weight=0.01)  # type: ignore[arg-type]
    estimate = 0
    for one in requests():
        rows = [*made.contexts.rows(ENCODER, one), made.contexts.essence(ENCODER, one)]
        estimate += request_bytes(made.adapter, made.top, made.layer, rows)
    assert estimate == sum(made._bytes(one) for one in requests())
    held = held_for_the_gradient(made)
    assert held < estimate < 6 * held


def test_a_long_label_takes_more_room() -> None:
    """A batch of long requests is a smaller one."""
    made = solver(contexts=ONE)
    made.limit = Limit(100, 4 * made._bytes(requests()[0]))
    short, long = requests()[0], requests()[1]
    assert made._bytes(long) > made._bytes(short)
    assert [part.stop - part.start for part in made.cut([short] * 8)] == [4, 4]
    assert len(made.cut([long] * 8)) > 2


def test_the_numbers_in_force() -> None:
    """What the documentation says of `auto`."""
    assert (FEW, batches._MOST) == (64, 9 * GIB)
