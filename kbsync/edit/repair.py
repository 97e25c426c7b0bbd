"""Repair: what the one solve leaves unsaid is solved again, on the candidate.

A solve gives each fact nearly all of its z, but the little that is missing, and what other edits add, keeps some
from being said. Their z are solved once more where they are needed, with all other live facts as constraints, until
nothing is missed or a number of rounds is spent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from torch import Tensor

from kbsync.edit.collide import groups_of
from kbsync.edit.target import TargetSolver
from kbsync.edit.update import Update
from kbsync.facts import EditRequest
from kbsync.lm.score import score_rows

_EASE = 0.25  # what λC is multiplied by after a round that did not help


class Weights(Protocol):
    """The edited weights, to be kept and put back."""

    def tensors(self) -> dict[str, Tensor]:
        """As they are now."""
        ...

    def load(self, tensors: dict[str, Tensor]) -> None:
        """As they were when these were taken."""
        ...


class Repair:
    """The repair of one candidate, which the model holds. `live` is the live set in its order."""

    def __init__(
        self,
        weights: Weights,
        solver: TargetSolver,
        update: Update,
        live: Sequence[EditRequest],
    ) -> None:
        self.weights = weights
        self.solver = solver
        self.update = update
        self.live = live
        self.everywhere = solver.in_contexts(solver.contexts.everywhere)
        self.where_asked = solver.in_contexts(solver.contexts.where_asked)
        self.rows = [self.where_asked.contexts.rows(solver.encoder, request) for request in live]

    def run(self, rounds: int, say: Callable[[str], None]) -> list[int]:
        """Solve again only what is still missed; keep a round only if it misses less. After one that does not, what
        must stay is held with less weight, facts that collide are solved apart (after another one together again),
        and what that round has broken is asked for as well. Returns how many were missed before, and after each
        round that was kept.

        The first round solves in all contexts of z, the others only where the candidate is asked: the few facts
        that are left have z of all contexts in them twice, and what more of it does is break others.

        The new z belong to this candidate and are not stored: they are a function of the live set alone.
        """
        missed = self.missed()
        counts, held, together = [len(missed)], 1.0, True
        if not missed or not rounds:
            return counts
        overlap = self.update.overlap()
        broken: set[int] = set()
        for number in range(1, rounds + 1):
            say(f"repair {number}: {len(missed)} missed")
            before = self.weights.tensors()
            wanted = sorted({*missed, *broken})
            groups = groups_of(self.live, wanted, overlap.of(wanted)) if together else [[i] for i in wanted]
            self.update.write(self.solve_again(groups, everywhere=number == 1), held)
            now = self.missed()
            if len(now) < len(missed):
                missed = now
                broken.clear()
                counts.append(len(missed))
                if not missed:
                    break
            else:
                self.weights.load(before)
                broken.update(now)
                held, together = held * _EASE, not together
        return counts

    def solve_again(self, groups: Sequence[Sequence[int]], everywhere: bool) -> dict[int, Tensor]:
        """A new z, on the candidate, for each fact of `groups`, which share a δ each: in all contexts, or, not
        `everywhere`, only where it is asked. Single facts are solved apart from groups, which need more steps."""
        live = self.live
        solver = self.everywhere if everywhere else self.where_asked
        most = self.solver.settings.steps
        targets: dict[int, Tensor] = {}
        # A candidate that nearly says an object needs about half the way that z came from the base model; a δ that
        # went further breaks more of the others.
        alone = [group for group in groups if len(group) == 1], max(1, most // 2)
        several = [group for group in groups if len(group) > 1], most
        for kind, steps in (alone, several):
            for batch in solver.cut_groups([[live[i] for i in group] for group in kind]):
                part = kind[batch]
                solved = solver.solve_groups([[live[i] for i in group] for group in part], steps)
                numbers = [i for group in part for i in group]
                targets.update({i: target.z for i, target in zip(numbers, solved, strict=True)})
        return targets

    def missed(self) -> list[int]:
        """Requests that greedy decoding does not end with the object, at the prompt or where else it is asked."""
        owners = [i for i, asked in enumerate(self.rows) for _ in asked]
        scores = score_rows(self.solver.adapter.model, [row for asked in self.rows for row in asked])
        return sorted({i for i, score in zip(owners, scores, strict=True) if not score.greedy})
