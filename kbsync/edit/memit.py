"""The rebuild: base weights + live set → synced weights, in one MEMIT solve and a few rounds of repair.

Nothing is carried over from an earlier synced model. The live set is put in canonical order (by content hash)
before anything is computed, so the weights are a pure function of base model, settings and live set.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kbsync.edit.adapters import Adapter
from kbsync.edit.collide import Overlap, groups_of
from kbsync.edit.conditioning import Conditioning
from kbsync.edit.contexts import Contexts
from kbsync.edit.covariance import Covariance
from kbsync.edit.keys import SubjectPass, bystander_moments, mean_keys
from kbsync.edit.load import Taken, taken_by
from kbsync.edit.solve import solution
from kbsync.edit.target import TargetSolver
from kbsync.errors import EditError, NotFinite
from kbsync.facts import EditRequest
from kbsync.lm.finite import broken, is_finite
from kbsync.lm.rows import Encoder, Row
from kbsync.lm.score import score_rows

if TYPE_CHECKING:  # the editor runs without what reads the settings
    from kbsync.settings import EditSettings

_EASE = 0.25  # what λC is multiplied by after a round of repair that did not help
_NAMES = 256  # other subjects whose mean key is held at most: enough for a mean
# Where a norm stands behind the down-projection: passes over the critical layers at most; what may be missing
# without another one, as a share of ‖z‖; and how much less must be missing than before, or there is no use in it.
_PASSES, _NEGLIGIBLE, _GAIN = 6, 0.001, 0.9


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """Edited weights by state-dict name, in the model's own type, and what building them took.

    `misses` counts the requests that greedy decoding still got wrong after the solve and after each round of
    repair that was kept; `residual` is the mean of ‖z − h‖/‖z‖ left after the solve; `facts` is the live set's
    size; `seconds` per part; `taken` has what the live keys take of each edited layer; `conditioning` has how
    well the solve of each was posed.
    """

    tensors: Mapping[str, Tensor]
    misses: tuple[int, ...]
    residual: float
    facts: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)
    taken: Mapping[int, Taken] = field(default_factory=dict)
    conditioning: Mapping[int, Conditioning] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Ground:
    """What every update of one rebuild stands on: the live prompts, and λC + bystanders per layer, (d_in, d_in).
    `taken` and `conditioning` are noted by the first update."""

    subject: SubjectPass
    preserved: Mapping[int, Tensor]
    taken: dict[int, Taken] = field(default_factory=dict)
    conditioning: dict[int, Conditioning] = field(default_factory=dict)


class Editor:
    """MEMIT on one loaded model. The model holds the base weights unless a candidate is loaded into it."""

    def __init__(
        self,
        adapter: Adapter,
        encoder: Encoder,
        contexts: Contexts,
        layers: tuple[int, ...],
        covariance: Covariance,
        settings: EditSettings,
    ) -> None:
        self.adapter = adapter
        self.encoder = encoder
        self.contexts = contexts
        self.layers = layers
        self.covariance = covariance
        self.settings = settings
        self.solver = TargetSolver(adapter, encoder, contexts, layers[-1], settings)
        self._base = {layer: adapter.read_weight(layer).clone() for layer in layers}

    def with_settings(self, settings: EditSettings) -> Editor:
        """An editor on the same model with other settings; layers, contexts, C and the precision in which z is
        solved stay what they are."""
        other = copy.copy(self)
        other.settings = settings
        other.solver = self.solver.with_settings(settings)
        return other

    def with_covariance(self, covariance: Covariance) -> Editor:
        """An editor on the same model with another C of the same layers; z don't depend on it."""
        other = copy.copy(self)
        other.covariance = covariance
        return other

    @property
    def target_settings(self) -> dict[str, object]:
        """Everything besides base model and request that a z depends on: what its cache is keyed by."""
        names = ("clamp", "steps", "stop_loss", "kl_weight", "others_weight", "decay")
        return {
            "layer": self.layers[-1],
            "prefixes": list(self.contexts.prefixes),
            "contexts": list(self.contexts.solved),
            "others": self.contexts.others.hash if self.settings.others_weight > 0 else None,
            "dtype": str(self.solver.top.dtype),
            **{name: getattr(self.settings, name) for name in names},
        }

    @property
    def weight_settings(self) -> dict[str, object]:
        """Everything besides base model and live set that the synced weights depend on."""
        return {
            **self.target_settings,
            "layers": list(self.layers),
            "key_contexts": list(self.contexts.keyed),
            "covariance": self.covariance.hash,
            "covariance_tokens": self.covariance.tokens,
            "covariance_weight": self.settings.covariance_weight,
            "covariance_facts": self.settings.covariance_facts,
            "bystander_weight": self.settings.bystander_weight,
            "mean_weight": self.settings.mean_weight,
            "others": self.contexts.others.hash,  # their mean key is in the solve, whatever z makes of them
            "repair_rounds": self.settings.repair_rounds,
            "repair_batch": self.solver.limit.rule,
        }

    def weight_for(self, facts: int) -> float:
        """λ for a live set of this many facts. Beyond `covariance_facts` it grows with them, so that what each may
        do to ordinary text shrinks and the sum of it stays within bounds."""
        most = self.settings.covariance_facts
        grown = max(1.0, facts / most) if isinstance(most, int) else 1.0
        return self.settings.covariance_weight * grown

    def base_weight(self, layer: int) -> Tensor:
        """The base model's weight of an edited layer, (d_out, d_in), whatever the model holds now."""
        return self._base[layer]

    def restore(self) -> None:
        """Put the base weights back."""
        for layer, weight in self._base.items():
            self.adapter.write_weight(layer, weight)

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Put a candidate's weights in, by state-dict name. Raises EditError for a name that is not edited."""
        names = {self.adapter.weight_name(layer): layer for layer in self.layers}
        unknown = sorted(set(tensors) - set(names))
        if unknown:
            raise EditError(f"{unknown[0]} is not one of the edited weights {sorted(names)}")
        self.restore()
        for name, tensor in tensors.items():
            parameter = self.adapter.parameter(names[name])
            with torch.no_grad():
                parameter.copy_(tensor)

    def tensors(self) -> dict[str, Tensor]:
        """The edited layers' weights as they are now, on the CPU."""
        return {
            self.adapter.weight_name(layer): self.adapter.parameter(layer).detach().cpu().clone()
            for layer in self.layers
        }

    def rebuild(
        self,
        requests: Sequence[EditRequest],
        targets: Mapping[str, Tensor],
        on_step: Callable[[str], None] | None = None,
    ) -> Rebuilt:
        """The synced weights for a live set; the model holds them afterwards.

        `targets` maps content hash to z, (d,). Raises EditError when two requests contradict one another, when
        a z is missing; NotFinite when a z or a result is not finite.
        """
        live = sorted(requests, key=lambda request: request.content_hash)
        _refuse_contradictions(live)
        missing = [r for r in live if r.content_hash not in targets]
        if missing:
            raise EditError(f"no z for {missing[0].rewrite.text!r}; it must be solved before the rebuild")
        bad = [r for r in live if not is_finite(targets[r.content_hash])]
        if bad:
            raise NotFinite(f"z of {bad[0].rewrite.text!r} is not finite; it must be solved again")
        self.restore()
        say = on_step or (lambda _: None)
        if not live:
            return Rebuilt(self.tensors(), (), 0.0)
        try:
            return self._build(live, targets, say)
        except torch.OutOfMemoryError:
            self.restore()
            raise EditError(
                f"{self.adapter.device} has no memory for the rebuild of {len(live)} facts; free some, "
                "set a smaller edit.batch_size, or see model.device_map"
            ) from None
        except BaseException:
            self.restore()  # whoever goes on after an error or an interrupt shall not meet half an update
            raise

    def _build(
        self, live: Sequence[EditRequest], targets: Mapping[str, Tensor], say: Callable[[str], None]
    ) -> Rebuilt:
        started = time.perf_counter()
        rows = [self.contexts.rows(self.encoder, request) for request in live]
        keyed = [self.contexts.key_rows(self.encoder, request) for request in live]
        say("solve")
        plain = [self.contexts.plain_rows(self.encoder, request) for request in live]
        ground = _Ground(SubjectPass(self.adapter, keyed, self.layers[0]), self._preserved(live, plain))
        residual = self._update(ground, {i: targets[r.content_hash] for i, r in enumerate(live)})
        seconds = {"solve": time.perf_counter() - started}
        misses = self._repair(live, rows, ground, say)
        seconds["repair"] = time.perf_counter() - started - seconds["solve"]
        return Rebuilt(
            self.tensors(), tuple(misses), residual, len(live), seconds, ground.taken, ground.conditioning
        )

    def _preserved(self, live: Sequence[EditRequest], rows: Sequence[Sequence[Row]]) -> dict[int, Tensor]:
        """λ times C and what other subjects' keys have in common, plus the second moment of the live prompts' other
        tokens, per layer, on the base weights."""
        flat = [row for contexts in rows for row in contexts]
        weight = self.weight_for(len(rows))
        moments = bystander_moments(self.adapter, flat, self.layers)
        preserved = {
            layer: weight * self.covariance.matrices[layer] + self.settings.bystander_weight * moment
            for layer, moment in moments.items()
        }
        if self.settings.mean_weight > 0:
            prompts = self.contexts.others.beside(live, _NAMES)
            named = [self.encoder.plain(prompt) for prompt in prompts]
            for layer, key in (mean_keys(self.adapter, named, self.layers) if named else {}).items():
                preserved[layer].addr_(key, key, alpha=weight * self.settings.mean_weight)
        return preserved

    def _update(self, ground: _Ground, targets: Mapping[int, Tensor], held: float = 1.0) -> float:
        """MEMIT's update over the critical layers, on the weights as they are.

        Requests without a target are constraints: their keys are in KKᵀ, their residual is zero. Returns the
        mean relative residual that is left at the last layer.

        Behind a norm the last layer may miss part of what it is asked for. Then further passes ask for that part
        alone, which all layers share. What λ held back is not asked for again, so λ means what it does elsewhere.
        `held` is what λC and the bystanders are multiplied by.
        """
        wanted = sorted(targets)
        z = torch.stack([targets[i] for i in wanted], dim=1).to(self.adapter.device)  # (d, m)
        goal, before = z, float("inf")
        for _ in range(1 if self.adapter.exact else _PASSES):
            missing, hidden = self._pass(ground, goal, wanted, held)
            share = float((missing.norm(dim=0) / z.norm(dim=0)).mean())
            if not _NEGLIGIBLE < share < _GAIN * before:
                break
            goal, before = hidden + missing, share
        return float(((z - hidden).norm(dim=0) / z.norm(dim=0)).mean())

    def _pass(self, ground: _Ground, goal: Tensor, wanted: list[int], held: float) -> tuple[Tensor, Tensor]:
        """Once over the critical layers (algorithm 1) towards hidden states `goal` (d, m) of the requests
        `wanted`. Returns what the last layer could not be asked for, and the hidden states now, both (d, m)."""
        subject = ground.subject
        subject.rewind()
        last = self.layers[-1]
        missing = torch.zeros_like(goal)
        for left, layer in zip(range(len(self.layers), 0, -1), self.layers, strict=True):
            subject.climb(layer)
            found = subject.read(last)
            residual = torch.zeros_like(found.hidden)
            residual[:, wanted] = (goal - found.hidden[:, wanted]) / left
            change, unheard = self.adapter.into_values(layer, found.values, residual)
            preserved = ground.preserved[layer].to(found.keys.device)
            try:
                solved = solution(change, found.keys, preserved, held, examine=layer not in ground.conditioning)
            except NotFinite as error:
                raise NotFinite(f"{self.adapter.weight_name(layer)} can't be solved: {error}") from None
            ground.taken.setdefault(layer, taken_by(solved.directions, found.keys))
            if solved.conditioning is not None:
                ground.conditioning[layer] = solved.conditioning
            self._add(layer, solved.delta)
            missing = unheard[:, wanted].to(goal.dtype)
        return missing, subject.read(last).hidden[:, wanted]

    def _add(self, layer: int, delta: Tensor) -> None:
        """W + Δ into the model, in the weight's own type. Raises NotFinite where that can't hold it: here a rebuild
        looks at each weight that it edits, before the next layer builds upon it."""
        weight = self.adapter.read_weight(layer)
        wanted = weight.double() + delta.to(weight.device)
        stored = wanted.to(weight.dtype)
        name = self.adapter.weight_name(layer)
        if (found := broken(name, stored)) is not None:
            if is_finite(wanted):
                dtype = str(weight.dtype).removeprefix("torch.")
                raise NotFinite(f"{name} overflows {dtype}: {float(wanted.abs().max()):.3g} is beyond it")
            raise NotFinite(f"{found} after its solve")
        self.adapter.write_weight(layer, stored)

    def _repair(
        self,
        live: Sequence[EditRequest],
        rows: Sequence[Sequence[Row]],
        ground: _Ground,
        say: Callable[[str], None],
    ) -> list[int]:
        """Solve again, on the candidate, only what it still misses; keep a round only if it misses less. After one
        that does not, what must stay is held with less weight, facts that collide are solved apart (after another
        one together again), and what that round has broken is asked for as well.

        The first round asks in all contexts of z, the others where it was missed, at the prompt: the few facts that
        are left have z of all contexts in them twice, and what more of it does is break others.

        The new z belong to this candidate and are not stored: they are a function of the live set alone.
        """
        missed = self._missed(rows)
        counts, held, together = [len(missed)], 1.0, True
        if not missed or not self.settings.repair_rounds:
            return counts
        overlap = self._overlap(ground)
        broken: set[int] = set()
        for number in range(1, self.settings.repair_rounds + 1):
            say(f"repair {number}: {len(missed)} missed")
            before = self.tensors()
            wanted = sorted({*missed, *broken})
            groups = groups_of(live, wanted, overlap.of(wanted)) if together else [[i] for i in wanted]
            self._update(ground, self._solve_again(live, groups, everywhere=number == 1), held)
            now = self._missed(rows)
            if len(now) < len(missed):
                missed = now
                broken.clear()
                counts.append(len(missed))
                if not missed:
                    break
            else:
                self.load(before)
                broken.update(now)
                held, together = held * _EASE, not together
        return counts

    def _overlap(self, ground: _Ground) -> Overlap:
        """How far the live keys of the last critical layer collide, on the candidate as it is."""
        last = self.layers[-1]
        ground.subject.rewind()
        ground.subject.climb(last)
        return Overlap(ground.subject.read(last).keys, ground.preserved[last])

    def _solve_again(
        self, live: Sequence[EditRequest], groups: Sequence[Sequence[int]], everywhere: bool
    ) -> dict[int, Tensor]:
        """A new z, on the candidate, for each fact of `groups`, which share a δ each: in all contexts, or, not
        `everywhere`, at the prompt alone. Single facts are solved apart from groups, which need more steps."""
        solver = self.solver if everywhere else self.solver.at_the_prompt()
        targets: dict[int, Tensor] = {}
        alone = [group for group in groups if len(group) == 1], self._repair_steps
        several = [group for group in groups if len(group) > 1], self.settings.steps
        for kind, steps in (alone, several):
            for batch in solver.cut_groups([[live[i] for i in group] for group in kind]):
                part = kind[batch]
                solved = solver.solve_groups([[live[i] for i in group] for group in part], steps)
                numbers = [i for group in part for i in group]
                targets.update({i: target.z for i, target in zip(numbers, solved, strict=True)})
        return targets

    @property
    def _repair_steps(self) -> int:
        """A candidate that nearly says an object needs about half the way that z came from the base model; a δ that
        went further breaks more of the others."""
        return max(1, self.settings.steps // 2)

    def _missed(self, rows: Sequence[Sequence[Row]]) -> list[int]:
        """Requests whose prompt greedy decoding does not end with the object."""
        scores = score_rows(self.adapter.model, [contexts[0] for contexts in rows])
        return [i for i, score in enumerate(scores) if not score.greedy]


def _refuse_contradictions(live: Sequence[EditRequest]) -> None:
    said: dict[str, str] = {}
    for request in live:
        other = said.setdefault(request.rewrite.text, request.target_new)
        if other != request.target_new:
            raise EditError(
                f"the live set contradicts itself: {request.rewrite.text!r} should end with both "
                f"{other!r} and {request.target_new!r}"
            )
