"""What the editor does at its edges: nothing, one token, hundreds of tokens, the same fact twice, one subject ten
thousand times; and that neither padding nor batches are seen in z."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kbsync.edit.contexts import Contexts
from kbsync.edit.memit import Editor
from kbsync.edit.target import Target
from kbsync.errors import EditError
from kbsync.facts import EditRequest
from tests.edit.setups import ENCODER, NO_BOS, ONE, editor, hidden_at, solver, z_of
from tests.tiny import easy_requests, request, requests

LONG = " ".join(f"number{i}" for i in range(90))
RARE = request("Αθήνα, " * 3, "Łódź, said they", None, "They said that of {}, of all, it is", number=7)


def apart(one: Target, other: Target) -> float:
    """How far two z of one request are apart, as a share of their size."""
    assert one.content_hash == other.content_hash
    return float((one.z - other.z).norm() / other.z.norm())


def finite(made: Editor, live: Sequence[EditRequest], steps: int = 3) -> None:
    """Solving and rebuilding end in numbers."""
    solved = made.solver.solve(live, steps=steps)
    assert all(bool(target.z.isfinite().all()) for target in solved)
    rebuilt = made.rebuild(live, z_of(solved))
    assert all(bool(tensor.isfinite().all()) for tensor in rebuilt.tensors.values())
    assert not math.isnan(rebuilt.residual)


class TestInvariance:
    """z is that of the request alone, to 1e-5."""

    @pytest.mark.parametrize("family", ["llama", "gpt2", "bloom"])
    def test_padding_is_not_seen(self, family: str) -> None:
        """Beside a request that is far longer before and behind its subject."""
        made = solver(family, steps=6)
        long = request(LONG[:300], "Emmanuel Macron", None, f"{LONG[:200]} {{}} {LONG[:100]} is", number=9)
        alone = [made.solve([one])[0] for one in requests()]
        beside = made.solve([*requests(), long])
        assert max(map(apart, beside, alone)) < 1e-5

    @settings(max_examples=6, deadline=None)
    @given(order=st.permutations(range(7)), size=st.integers(1, 7))
    def test_neither_order_nor_size_of_the_batches(self, order: list[int], size: int) -> None:
        """Cut in any way."""
        made = solver(steps=6)
        all_of_them = [*requests(), RARE]
        whole = {target.content_hash: target for target in made.solve(all_of_them)}
        mixed = [all_of_them[i] for i in order]
        for at in range(0, len(mixed), size):
            for target in made.solve(mixed[at : at + size]):
                assert apart(target, whole[target.content_hash]) < 1e-5

    def test_nor_who_leaves_when(self) -> None:
        """Requests that converge early leave the others as they are."""
        every = [*easy_requests(6), *requests()]
        settings = {"contexts": ONE, "clamp": 4.0, "steps": 7}
        left = solver(**settings, stop_loss=1.0).solve(every)
        stayed = solver(**settings, stop_loss=1e-9).solve(every)
        slow = [pair for pair in zip(left, stayed, strict=True) if pair[0].steps == 7]
        assert 0 < len(slow) < len(every) - 3
        assert max(apart(*pair) for pair in slow) < 1e-5


class TestEdges:
    """No NaN, no traceback."""

    def test_a_prompt_of_one_token(self) -> None:
        """The subject is all there is: no prefix, nothing behind it."""
        one = request("F", "G", None, "{}", number=1, question="{}")
        row = NO_BOS.plain(one.rewrite)
        assert len(row.ids) == 1
        made = editor(encoder=NO_BOS, contexts=ONE, repair_rounds=1, bystander_weight=0.1)
        finite(made, [one])
        finite(made, [one, *requests()[:2]])

    @pytest.mark.parametrize("question", [False, True])
    def test_a_label_of_five_hundred_tokens(self, question: bool) -> None:
        """As a subject and as an object, beside short ones."""
        label = "".join(chr(0x4E00 + i) for i in range(140))
        assert 400 < len(ENCODER.text_ids(label)) < 500
        contexts = Contexts((), bare=True, chat=True, question=True) if question else ONE
        made = editor(contexts=contexts, repair_rounds=1, bystander_weight=0.1)
        finite(made, [request(label, "Paris", number=1), request("France", label, number=2), requests()[2]], 2)

    def test_the_same_request_twice(self) -> None:
        """Each has its z, the same to rounding, and the weights are finite: its key counts twice."""
        made = editor(repair_rounds=1, bystander_weight=0.1)
        live = [requests()[0], requests()[0], requests()[1]]
        first, second, _ = made.solver.solve(live)
        assert apart(first, second) < 1e-5
        finite(made, live)

    def test_a_contradiction_in_one_batch(self) -> None:
        """Both z can be had; the rebuild refuses by name."""
        made = editor()
        live = [request("France", "Tokyo", number=1), request("France", "Berlin", number=1), requests()[1]]
        solved = made.solver.solve(live)
        with pytest.raises(EditError, match=r"'The capital of France is' should end with both '(Tokyo|Berlin)'"):
            made.rebuild(live, z_of(solved))

    def test_nothing_at_all(self) -> None:
        """No requests: no z, and the base weights."""
        made = editor(repair_rounds=2)
        assert made.solver.solve([]) == []
        assert made.rebuild([], {}).misses == ()


class TestOneSubject:
    """Thousands of facts about one thing."""

    @staticmethod
    def about(count: int) -> list[EditRequest]:
        """That many prompts that begin with one subject, and some with it in the middle."""
        objects = ("Paris", "German", "Tokyo", "his", "Berlin", "physicist")
        return [
            request(
                "Japan", objects[i % 6], None, f"{{}} {i} is" if i % 10 else f"The {i} of {{}} is", number=i + 1
            )
            for i in range(count)
        ]

    def test_ten_thousand_of_them(self) -> None:
        """Keys that are nearly equal make no singular system; more keys than a key has numbers are solved in the
        system of the key's size; the hidden state goes to the mean of what is asked for it."""
        made = editor(contexts=ONE, layers=(1, 2), bystander_weight=0.1, covariance_weight=1.0)
        live = self.about(10_000)
        generator = torch.Generator().manual_seed(1)
        goal = torch.randn(32, generator=generator)
        targets = {one.content_hash: goal + 0.1 * torch.randn(32, generator=generator) for one in live}
        rebuilt = made.rebuild(live, targets)
        assert all(bool(tensor.isfinite().all()) for tensor in rebuilt.tensors.values())
        row = ONE.rows(ENCODER, live[1])[0]
        hidden = hidden_at(made, row.ids, 2, row.subject_last)
        assert float((hidden - goal).norm() / goal.norm()) < 0.05
        again = made.rebuild(live[::-1], targets)
        assert all(torch.equal(again.tensors[name], tensor) for name, tensor in rebuilt.tensors.items())

    def test_z_of_a_thousand_of_them(self) -> None:
        """In one batch, each as if it were alone."""
        made = solver(contexts=ONE, steps=2)
        live = self.about(1000)
        solved = made.solve(live)
        assert all(bool(target.z.isfinite().all()) for target in solved)
        for i in (0, 1, 500, 999):
            assert apart(solved[i], made.solve([live[i]])[0]) < 1e-5


def test_a_rerun_gives_the_same_bits() -> None:
    """z, weights, misses and residual, in another process's place."""
    runs = []
    for _ in range(2):
        made = editor(repair_rounds=2, bystander_weight=0.1, steps=5)
        solved = made.solver.solve(requests())
        runs.append((solved, made.rebuild(requests(), z_of(solved))))
    (z, weights), (other_z, other) = runs
    assert all(
        torch.equal(a.z, b.z) and (a.loss, a.steps) == (b.loss, b.steps) for a, b in zip(z, other_z, strict=True)
    )
    assert all(torch.equal(tensor, other.tensors[name]) for name, tensor in weights.tensors.items())
    assert (weights.misses, weights.residual) == (other.misses, other.residual)
