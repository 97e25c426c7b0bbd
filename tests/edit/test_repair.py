"""Repair: rounds that solve again what the candidate still misses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kbsync.edit.contexts import Contexts
from kbsync.edit.keys import SubjectPass
from kbsync.edit.memit import Editor, Rebuilt
from kbsync.edit.repair import Repair
from kbsync.edit.target import Target, TargetSolver
from kbsync.edit.update import Update
from kbsync.facts import EditRequest
from tests.edit.setups import EASY, editor, halfway, same, some_z, z_of
from tests.tiny import FIRST, easy_requests, request, requests


class TestRepair:
    """Rounds that solve again what the candidate still misses."""

    @pytest.mark.parametrize("family", [*FIRST, "gemma2", "olmo2", "bloom"])
    def test_misses_shrink_and_never_grow(self, family: str) -> None:
        """Each round that is kept misses less than the one before, and what is counted is what is missed."""
        made = editor(family, **EASY, repair_rounds=3)
        live = easy_requests(8)
        steps: list[str] = []
        rebuilt = made.rebuild(live, halfway(made, live), steps.append)
        assert len(rebuilt.misses) > 1
        assert all(after < before for before, after in zip(rebuilt.misses, rebuilt.misses[1:], strict=False))
        assert steps[:2] == ["solve", f"repair 1: {rebuilt.misses[0]} missed"]
        assert rebuilt.misses[-1] == sum(not self._said(made, one) for one in live)

    def test_what_is_not_said_where_it_is_asked_is_missed(self) -> None:
        """An edit that is said at the prompt is solved again, until it is said without BOS too."""
        made = editor(**{**EASY, "contexts": Contexts(asked=("bare",))}, repair_rounds=3)
        live = easy_requests(4)
        targets = z_of(made.solver.solve(live))
        solved = editor(**EASY, repair_rounds=3)
        assert solved.rebuild(live, targets).misses == (0,)
        unheard = sum(not self._said(solved, one, "bare") for one in live)
        assert unheard > 0

        rebuilt = made.rebuild(live, targets)
        assert (rebuilt.misses[0], rebuilt.misses[-1]) == (unheard, 0)
        assert all(self._said(made, one) and self._said(made, one, "bare") for one in live)

    @staticmethod
    def _said(made: Editor, one: EditRequest, context: str | None = None) -> bool:
        row = Contexts(solved=(context,) if context else ()).rows(made.encoder, one)[-1]
        logits = made.adapter.model(torch.tensor([row.ids])).logits[0]
        first = len(row.ids) - row.target_len
        return all(int(logits[i - 1].argmax()) == row.ids[i] for i in range(first, len(row.ids)))

    def test_it_is_deterministic(self) -> None:
        """Two editors of the same base give the same bits."""
        live = easy_requests(8)
        rebuilt: list[Rebuilt] = []
        for _ in range(2):
            made = editor(**EASY, repair_rounds=3)
            rebuilt.append(made.rebuild(live, halfway(made, live)))
        assert same(*rebuilt)
        assert rebuilt[0].misses == rebuilt[1].misses

    def test_a_round_that_does_not_help_is_taken_back(self) -> None:
        """With a z that can't be reached, the weights are those of the solve alone."""
        made, plain = editor(clamp=0.01, steps=2, repair_rounds=3), editor(clamp=0.01, steps=2)
        targets = some_z(made, requests())
        repaired, solved = made.rebuild(requests(), targets), plain.rebuild(requests(), targets)
        assert len(repaired.misses) == 1 == len(solved.misses)
        assert same(repaired, solved)

    def test_after_a_round_that_does_not_help_what_must_stay_is_held_less(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With a quarter of it each time; a round that helps leaves the weight as it is, and more rounds than there
        are helps nobody."""
        made = editor(**EASY, repair_rounds=5)
        live = easy_requests(4)
        held: list[float] = []
        plain = Update.write
        monkeypatch.setattr(
            Update, "write", lambda self, z, weight=1.0: held.append(weight) or plain(self, z, weight)
        )
        misses = iter([[0, 1, 2], [0, 1, 2], [3, 1], [1, 0], [1], []])
        monkeypatch.setattr(Repair, "missed", lambda self: next(misses))
        rebuilt = made.rebuild(live, halfway(made, live))
        assert held == [1.0, 1.0, 0.25, 0.25, 0.0625, 0.0625]
        assert rebuilt.misses == (3, 2, 1, 0)

    def test_no_rounds_when_nothing_is_missed(self) -> None:
        """A live set that is said already costs no repair."""
        made = editor(**EASY, repair_rounds=3, covariance_weight=1e-6)
        live = easy_requests(3)
        steps: list[str] = []
        rebuilt = made.rebuild(live, z_of(made.solver.solve(live)), steps.append)
        assert rebuilt.misses == (0,)
        assert steps == ["solve"]

    def test_what_is_missed_is_solved_with_all_facts_of_its_subject(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """They share a key, so they share a δ; other subjects are left alone, and nobody is there twice."""
        made = editor(**EASY, repair_rounds=1)
        live = [*easy_requests(6), request("France", "his", None, "Not {}", number=20, question="Why {}?")]
        asked: list[list[list[str]]] = []
        plain = made.solver.solve_groups

        def watched(groups: list[list[EditRequest]], steps: int | None = None) -> list[Target]:
            asked.append([[one.rewrite.text for one in group] for group in groups])
            return plain(groups, steps)

        targets = halfway(made, live)
        monkeypatch.setattr(made.solver, "solve_groups", watched)
        ordered = sorted(live, key=lambda one: one.content_hash)
        monkeypatch.setattr(Repair, "missed", lambda self: [i for i, r in enumerate(ordered) if r is live[0]])
        made.rebuild(live, targets)
        ((group,),) = asked
        assert sorted(group) == ["Not France", "They said France"]

    def test_what_is_missed_is_solved_with_what_it_collides_with(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Keys are those of the last edited layer on the candidate; after a round that failed each is alone. The
        first round solves in all contexts, the next one where the candidate is asked."""
        made = editor(**EASY, repair_rounds=2)
        live = sorted(easy_requests(5), key=lambda one: one.content_hash)
        targets = halfway(made, live)
        seen: list[tuple[tuple[int, ...], tuple[int, ...]]] = []

        class Near:
            """The first and the last collide."""

            def __init__(self, keys: Tensor, preserved: Tensor) -> None:
                seen.append((tuple(keys.shape), tuple(preserved.shape)))

            def of(self, facts: list[int]) -> Tensor:
                shares = torch.zeros(len(facts), 5)
                shares[:, 4] = 0.9
                return shares

        groups: list[tuple[list[list[int]], bool]] = []
        monkeypatch.setattr("kbsync.edit.update.Overlap", Near)
        monkeypatch.setattr(Repair, "missed", lambda self: [0, 1])
        plain = Repair.solve_again
        monkeypatch.setattr(
            Repair,
            "solve_again",
            lambda self, own, everywhere: (
                groups.append(([list(g) for g in own], everywhere)) or plain(self, own, everywhere)
            ),
        )
        made.rebuild(live, targets)
        d_in = made.adapter.d_in
        assert seen == [((d_in, 5), (d_in, d_in))]
        assert groups == [([[0, 4], [1]], True), ([[0], [1]], False)]

    def test_single_facts_and_groups_are_solved_apart(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What a group needs in steps is not spent on single facts; each z comes back to its own fact."""
        made = editor(**{**EASY, "steps": 8})
        live = sorted(easy_requests(5), key=lambda one: one.content_hash)
        solved: list[tuple[list[int], int]] = []
        plain = TargetSolver.solve_groups

        def watch(self: TargetSolver, groups: list[list[EditRequest]], steps: int) -> list[Target]:
            solved.append(([len(group) for group in groups], steps))
            return plain(self, groups, steps)

        monkeypatch.setattr(TargetSolver, "solve_groups", watch)
        nothing = Update(made.adapter, made.layers, SubjectPass(made.adapter, [], 0), {})
        repair = Repair(made, made.solver, nothing, live)
        found = repair.solve_again([[0], [1, 4], [3]], everywhere=True)
        assert solved == [([1, 1], 4), ([2], 8)]
        assert sorted(found) == [0, 1, 3, 4]
        alone = made.solver.solve([live[0], live[3]], 4)
        assert torch.equal(found[3], alone[1].z)

    def test_the_first_round_solves_everywhere_the_next_where_it_asks(self) -> None:
        """z of the first round is solved in its own contexts and in those that are asked, z of others in these
        alone."""
        asks = Contexts(solved=("question",), asked=("sentence",))
        made = editor(contexts=asks, steps=4)
        live = sorted(easy_requests(3), key=lambda one: one.content_hash)
        nothing = Update(made.adapter, made.layers, SubjectPass(made.adapter, [], 0), {})
        repair = Repair(made, made.solver, nothing, live)
        for everywhere, contexts in ((True, ("question", "sentence")), (False, ("sentence",))):
            own = made.solver.in_contexts(Contexts(solved=contexts)).solve(live, 2)
            found = repair.solve_again([[0], [1], [2]], everywhere=everywhere)
            assert all(torch.equal(found[i], target.z) for i, target in enumerate(own))

    def test_what_a_round_breaks_is_asked_for_in_the_next_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A round that mends one fact and breaks another is taken back; the next one mends both. After one that
        helps, only what is still missed counts."""
        made = editor(**EASY, repair_rounds=5)
        live = sorted(easy_requests(5), key=lambda one: one.content_hash)
        misses = iter([[0, 1], [2, 3], [1], [4], []])
        asked: list[list[int]] = []
        monkeypatch.setattr(Repair, "missed", lambda self: next(misses))
        plain = Repair.solve_again
        monkeypatch.setattr(
            Repair,
            "solve_again",
            lambda self, own, everywhere: (
                asked.append(sorted(i for group in own for i in group)) or plain(self, own, everywhere)
            ),
        )
        assert made.rebuild(live, halfway(made, live)).misses == (2, 1, 0)
        assert asked == [[0, 1], [0, 1, 2, 3], [1], [1, 4]]

    def test_the_targets_given_are_not_changed(self) -> None:
        """What a repair solves belongs to the candidate; cached z stay as they are."""
        made = editor(**EASY, repair_rounds=3)
        live = easy_requests(8)
        targets = halfway(made, live)
        before = {key: z.clone() for key, z in targets.items()}
        made.rebuild(live, targets)
        assert targets.keys() == before.keys()
        assert all(torch.equal(targets[key], before[key]) for key in before)
